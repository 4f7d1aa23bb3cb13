"""Tables on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table as Grid
from rich.text import Text

from gnnbridge.report.comparison import ComparisonDict, comparison
from gnnbridge.report.headlines import headlines
from gnnbridge.report.overview import told
from gnnbridge.report.reading import TITLES, as_dict, part
from gnnbridge.report.section import numeral

_COLORS = {'high': 'bold red', 'medium': 'yellow', 'info': 'green'}
_LOOK: dict[str, Any] = {'box': box.SIMPLE_HEAD, 'padding': (0, 1, 0, 0)}


def print_profile(profile: Any, paths: Sequence[Path] = ()) -> None:
    """Prints what is wrong with a model, its numbers, and where they are.

    Args:
        profile: What ``Profile.to_dict()`` returns, or the profile itself.
        paths: The files that were written.
    """
    plain = as_dict(profile)
    console = Console()
    name = f'{plain["model"]["name"]} on {plain["text"]["source"]}'
    console.print(Text(name, style='bold'))
    _print_findings(console, told(plain))
    console.print(_numbers(plain))
    for line in _asides(plain):
        console.print(Text(line))
    for path in paths:
        # Never folded, so that it can be copied whole.
        console.print(Text(str(path)), soft_wrap=True)


def _print_findings(
    console: Console, found: Sequence[Mapping[str, Any]]
) -> None:
    """Findings in full, what is in order by its title alone."""
    for item in found:
        severity = item['severity']
        if severity == 'info':
            continue
        head = Text(f'{severity:<7}', style=_COLORS[severity])
        head.append(item['title'], style='bold')
        if item['where']:
            head.append(f' ({item["where"]})', style='default')
        console.print(Padding(head, (1, 0, 0, 0)))
        console.print(Padding(Text(item['text']), (0, 0, 0, 7)))
    mild = [item['title'] for item in found if item['severity'] == 'info']
    if mild:
        head = Text(f'{"info":<7}', style=_COLORS['info'])
        console.print()
        for title in mild:
            console.print(head + Text(title))
            head = Text(' ' * 7)


def _numbers(profile: Mapping[str, Any]) -> Grid:
    """The headline numbers of every diagnostic in one grid."""
    grid = Grid(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    grid.add_column('', ratio=1)
    for column in ('this model', 're-initialised', 'null'):
        grid.add_column(column, justify='right')
    for name, title in TITLES.items():
        section = part(profile, name)
        if section is None:
            continue
        status = '' if section.model else ': not measured'
        grid.add_row(Text(f'{title}{status}', style='bold'))
        for found in headlines(profile, name) if section.model else ():
            write = found.headline.write
            if found.model is None:
                continue
            grid.add_row(
                Text(f'  {found.headline.label}'),
                write(found.model),
                write(found.baseline),
                write(found.null),
            )
    return grid


def _asides(profile: Mapping[str, Any]) -> list[str]:
    """Parity, notes, and what could not be measured."""
    lines = []
    parity = profile.get('parity')
    if parity:
        lines.append(
            f'Message passing gives the original {parity["outputs"]} to '
            f'{numeral(parity["relative_error"], 2)} of their scale.'
        )
    lines += profile.get('notes') or ()
    for name, title in TITLES.items():
        section = part(profile, name)
        reasons = () if section is None else section.reasons
        lines += [f'{title}: {reason}' for reason in reasons]
    return lines


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
