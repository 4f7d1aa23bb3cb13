"""``gnnbridge compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gnnbridge.cli.errors import check_out, errors_in_one_line


def compare(
    profiles: Annotated[
        list[Path],
        typer.Argument(help='Files that `gnnbridge profile` wrote.'),
    ],
    names: Annotated[
        str | None,
        typer.Option(
            help='What each is called, as small,large.',
            show_default='names of the models',
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option(help='The directory to write to.')
    ] = Path('compared'),
) -> None:
    """Set two or more profiles side by side.

    Writes comparison.html, one page that needs no network.
    """
    with errors_in_one_line():
        from gnnbridge.profiling.result import Profile, write_comparison

        check_out(out)
        found = [Profile.from_json(path) for path in profiles]
        called = (
            _different([profile.model['name'] for profile in found])
            if names is None
            else names.split(',')
        )
        path = write_comparison(found, called, out / 'comparison.html')
    typer.echo(str(path))


def _different(names: list[str]) -> list[str]:
    """The names, numbered where one comes twice."""
    if len(set(names)) == len(names):
        return names
    return [f'{name} ({place})' for place, name in enumerate(names, 1)]
