"""The leaderboard of a benchmark on the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

Plain = Mapping[str, Any]
# Between two columns: a space and the divider, which is one as well.
_GAP = 2


def print_leaderboard(board: Plain, paths: Sequence[Path] = ()) -> None:
    """Prints models by tasks, what rewirings come to, and where it all is.

    Tasks that do not fit beside each other follow below.

    Args:
        board: Its tables, as ``gnnbridge.bench.board.board`` makes them.
        paths: The files that were written.
    """
    console = Console()
    table = board['models']
    console.print(Text(table['title'], style='bold'))
    for places in _blocks(table, console.width):
        console.print()
        console.print(_grid(table, places))
    console.print()
    lines = [table['caption'].replace('In bold', 'With a star')]
    if board['rewirings']:
        lines.append(board['verdict'])
    lines += [f'Failed: {line}' for line in board['failed']]
    lines += [f'Skipped: {line}' for line in board['skipped']]
    for line in lines:
        console.print(Text(line))
    for path in paths:
        # Never folded, so that it can be copied whole.
        console.print(Text(str(path)), soft_wrap=True)


def _blocks(table: Plain, width: int) -> Iterator[list[int]]:
    """Columns that fit beside the names, at least one at a time."""
    rows = [*table['rows'], *table['foot']]
    names = max(len(row['name']) for row in [*rows, {'name': table['head']}])
    places: list[int] = []
    left = width - names
    for place, column in enumerate(table['columns']):
        parts = [_heading(column), *(_text(r['cells'][place]) for r in rows)]
        needed = _GAP + max(len(x) for part in parts for x in part.split('\n'))
        if places and needed > left:
            yield places
            places, left = [], width - names
        places.append(place)
        left -= needed
    if places:
        yield places


def _grid(table: Plain, places: Sequence[int]) -> Grid:
    grid = Grid(
        box=box.SIMPLE_HEAD,
        padding=(0, _GAP - 1, 0, 0),
        pad_edge=False,
        show_edge=False,
    )
    grid.add_column(Text(table['head'], style='bold'))
    for place in places:
        heading = _heading(table['columns'][place])
        grid.add_column(Text(heading, style='bold'), justify='right')
    for rows, style in ((table['rows'], ''), (table['foot'], 'dim')):
        for row in rows:
            cells = [_cell(row['cells'][place]) for place in places]
            grid.add_row(Text(row['name']), *cells, style=style)
    return grid


def _heading(column: str) -> str:
    """A name in lines that are narrow."""
    return column.replace('_', '_\n')


def _cell(cell: Plain) -> Text:
    return Text(_text(cell), style='bold' if cell['kind'] == 'best' else '')


def _text(cell: Plain) -> str:
    text = f'{cell["text"]} {cell["detail"].replace("± ", "±")}'.strip()
    # The digits of all others stand below each other.
    return f'{text}*' if cell['kind'] == 'best' else f'{text} '
