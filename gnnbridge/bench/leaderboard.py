"""The leaderboard of a benchmark as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gnnbridge.bench.board import board
from gnnbridge.bench.tables import Board, Cell, Table
from gnnbridge.bench.verdict import Summary

_MARKS = {'better': ' ▲', 'worse': ' ▼'}
# What would end a cell or start markup; underscores inside words do neither.
_MARKUP = '\\|*`<>['


def leaderboard(summary: Summary) -> str:
    """Writes what a benchmark found as Markdown.

    Models by tasks come first, then for each task that has them the
    differences that rewirings make, then what failed and what was skipped.

    Args:
        summary: What a run writes to ``summary.json``.

    Returns:
        Markdown that ends with a newline.
    """
    return markdown(board(summary), _about(summary))


def markdown(tables: Board, about: str) -> str:
    """Writes tables as Markdown.

    Args:
        tables: The tables.
        about: A line on how they came about.
    """
    return '\n'.join(_lines(tables, about)) + '\n'


def _about(summary: Summary) -> str:
    effort = ', '.join(
        f'{name.replace("_", " ")} {value:,}'
        for name, value in summary['effort'].items()
    )
    suite, version = summary['suite'], summary['version']
    return f'Suite {suite} of gnnbridge {version}: {effort}.'


def _lines(tables: Board, about: str) -> Iterator[str]:
    yield '# Leaderboard'
    yield ''
    yield _escaped(about)
    yield from _section(tables['models'], '##')
    if tables['rewirings']:
        yield from ['', '## Rewirings', '', tables['verdict']]
        for table in tables['rewirings']:
            yield from _section(table, '###')
    for title, lines in (
        ('Failed trials', tables['failed']),
        ('Skipped tasks', tables['skipped']),
    ):
        if lines:
            yield from ['', f'## {title}', '', *_numbered(lines)]


def _section(table: Table, mark: str) -> Iterator[str]:
    yield from ['', f'{mark} {_escaped(table["title"])}', '']
    yield _row([table['head'], *map(_escaped, table['columns'])])
    yield _row(['---', *['---:'] * len(table['columns'])])
    for row in table['rows']:
        yield _row([_escaped(row['name']), *map(_cell, row['cells'])])
    for row in table['foot']:
        yield _row([f'*{_escaped(row["name"])}*', *map(_cell, row['cells'])])
    yield from ['', table['caption']]


def _cell(cell: Cell) -> str:
    text = f'{cell["text"]} {cell["ends"] or cell["detail"]}'.strip()
    text += _MARKS.get(cell['kind'], '')
    if cell['kind'] in ('best', *_MARKS):
        text = f'**{text}**'
    return f'{text} ({cell["note"]})' if cell['note'] else text


def _numbered(lines: Sequence[str]) -> Iterator[str]:
    for place, line in enumerate(lines, 1):
        yield f'{place}. {_escaped(line)}'


def _row(cells: Sequence[str]) -> str:
    return f'| {" | ".join(cells)} |'


def _escaped(text: str) -> str:
    """Text on one line that is nothing but text."""
    line = ' '.join(text.split())
    return ''.join(f'\\{char}' if char in _MARKUP else char for char in line)
