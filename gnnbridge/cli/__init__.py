"""The command line, ``gnnbridge`` or ``python -m gnnbridge``.

Heavy imports happen inside the commands, so that ``--help`` is quick.
"""

from __future__ import annotations

from typing import Annotated

import typer

from gnnbridge import __version__
from gnnbridge.cli.bench import bench
from gnnbridge.cli.compare import compare
from gnnbridge.cli.models import models
from gnnbridge.cli.profile import profile
from gnnbridge.cli.rewire import rewire

app = typer.Typer(
    name='gnnbridge',
    help='A graph-theory bridge between PyTorch Geometric and attention.',
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for command in (profile, compare, rewire, bench, models):
    app.command()(command)


def main() -> None:
    """Runs the command line."""
    app(prog_name='gnnbridge')


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f'gnnbridge {__version__}')
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            '--version',
            help='Print the version and exit.',
            callback=_print_version,
            is_eager=True,
        ),
    ] = False,
) -> None:
    pass
