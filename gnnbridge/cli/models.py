"""``gnnbridge models``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from gnnbridge.cli.errors import errors_in_one_line


def models(
    sweep: Annotated[
        bool,
        typer.Option(
            '--sweep',
            help='Build and convert every architecture of the installed '
            'transformers now (about a minute).',
        ),
    ] = False,
    only: Annotated[
        list[str] | None,
        typer.Option(help='Show this architecture only; may be repeated.'),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help='Also write models.json and models.md to this directory.',
            show_default=False,
        ),
    ] = None,
) -> None:
    """Show which of transformers' causal language models convert, and how.

    "messages" is message passing, "mask" dense attention on which graphs are
    imposed. Errors are those of tiny random models against their originals.
    """
    from gnnbridge.models.zoo import table
    from gnnbridge.models.zoo.sweep import sweep as run
    from gnnbridge.models.zoo.tiny import model_types
    from gnnbridge.report.terminal import print_models

    with errors_in_one_line():
        if unknown := sorted(set(only or ()) - set(model_types())):
            raise ValueError(
                f"Expected '--only' to name causal language models of "
                f'transformers (got {", ".join(unknown)}).'
            )
        swept = table.result(run(only or ())) if sweep else table.shipped()
        if only:
            swept['entries'] = [
                entry for entry in swept['entries']
                if entry['model_type'] in only
            ]  # fmt: skip
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            text = json.dumps(swept, indent=1) + '\n'
            (out / 'models.json').write_text(text, encoding='utf-8')
            (out / 'models.md').write_text(table.markdown(swept), 'utf-8')
    print_models(swept, table.rows(swept), table.counts(swept))
    if line := table.not_swept(swept):
        typer.echo(line, err=True)
