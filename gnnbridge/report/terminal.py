"""Tables on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from gnnbridge.report.comparison import ComparisonDict, comparison
from gnnbridge.report.section import ProfileDict

_LOOK: dict[str, Any] = {'box': box.SIMPLE_HEAD, 'padding': (0, 1, 0, 0)}


def print_profile(
    profile: ProfileDict,
    rows: Sequence[Mapping[str, str]],
    paths: Sequence[Path],
) -> None:
    """Prints a profile and where it was written.

    Args:
        profile: What ``Profile.to_dict()`` returns.
        rows: Its summary: one row per layer.
        paths: The files.
    """
    bare = profile['baseline'] is None
    grid = Grid(
        title=Text(
            f'{profile["model"]["name"]} on {profile["text"]["source"]}'
        ),
        caption=None
        if bare
        else 'in brackets: the same architecture with re-initialised weights',
        show_lines=not bare,
        **_LOOK,
    )
    for column in rows[0]:
        grid.add_column(column, justify='right')
    for row in rows:
        # The baseline under the value: eight columns fit into 80 characters.
        grid.add_row(*(cell.replace(' (', '\n(') for cell in row.values()))
    error = profile['parity']['relative_error']
    parity = (
        f'Message passing gives the original {profile["parity"]["outputs"]} '
        f'to {error:.1e} of their scale.'
    )
    _print(grid, [parity, *profile['notes']], paths)


def print_comparison(report: ComparisonDict, paths: Sequence[Path]) -> None:
    """Prints a comparison of rewirings and where it was written.

    Args:
        report: What ``RewiringReport.to_dict()`` returns.
        paths: The files.
    """
    table = comparison(report)
    grid = Grid(
        title=Text(f'{report["model"]["name"]} on {report["text"]["source"]}'),
        **_LOOK,
    )
    for place, column in enumerate(table.columns):
        grid.add_column(Text(column), justify='right' if place else 'left')
    for row in table.rows:
        grid.add_row(*map(Text, row))
    _print(grid, [*table.caption.split('\n'), *report['notes']], paths)


def print_models(
    swept: Mapping[str, Any],
    rows: Sequence[Mapping[str, str]],
    counts: Mapping[str, int],
) -> None:
    """Prints which architectures convert.

    Args:
        swept: The table as it was written.
        rows: Its rows, ready to print.
        counts: How many entries have each status.
    """
    total = ', '.join(f'{n} {status}' for status, n in counts.items())
    grid = Grid(
        title=f'causal language models of transformers {swept["transformers"]}',
        caption=f'{len(rows)} entries: {total}',
        **_LOOK,
    )
    for column in rows[0] if rows else ():
        grid.add_column(column)
    for row in rows:
        grid.add_row(*row.values())
    lines = [
        f'{entry["model_type"]}: {entry["reason"]}'
        for entry in swept['entries']
        if entry['status'] not in ('messages', 'mask') and len(rows) < 9
    ]
    _print(grid, [], lines)


def _print(
    grid: Grid, lines: Sequence[str], whole: Sequence[str | Path]
) -> None:
    console = Console()
    console.print(grid)
    for line in lines:
        console.print(Text(line))
    for item in whole:
        # Never folded, so that it can be copied whole.
        console.print(Text(str(item)), soft_wrap=True)
