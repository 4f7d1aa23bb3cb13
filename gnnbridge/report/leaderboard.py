"""Writes what a benchmark found as one self-contained HTML page."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from markupsafe import Markup

from gnnbridge.report.figures.standings import plot_standings
from gnnbridge.report.html import page, write_page
from gnnbridge.report.panels import panel
from gnnbridge.report.section import Key, Panel

Plain = Mapping[str, Any]
LEGEND = (
    Key('best, and not significantly worse', 'blue'),
    Key('others', 'quiet'),
    Key('chance', 'ink', '1.5 2.5'),
)
_CHANGES = ('better', 'worse', 'same', 'untested')
# Text stays readable on the strongest colour of a cell.
_STRONGEST = 50


def render_leaderboard(summary: Plain, board: Plain) -> str:
    """Draws the page of a benchmark.

    The page needs no network and no file beside it. All names and reasons
    are escaped; its security policy lets its own scripts run alone.

    Args:
        summary: What a run writes to ``summary.json``.
        board: Its tables, as ``gnnbridge.bench.board.board`` makes them.

    Returns:
        A complete HTML document.
    """
    script = _asset('sorting.js')
    return page(
        'leaderboard.html.jinja',
        summary=summary,
        board=board,
        facts=_facts(summary),
        effort=_settings(summary['effort']),
        legend=LEGEND,
        panels=[_panel(standings) for standings in board['standings']],
        heats=[_heat(table) for table in board['rewirings']],
        own_style=Markup(_asset('leaderboard.css')),
        own_script=Markup(script),
        own_hash=_digest(script),
    )


def write_leaderboard(summary: Plain, board: Plain, path: str | Path) -> Path:
    """Writes :func:`render_leaderboard`'s page and returns its path."""
    return write_page(render_leaderboard(summary, board), path)


def _asset(name: str) -> str:
    return (files('gnnbridge.report') / 'page' / name).read_text('utf-8')


def _digest(script: str) -> str:
    digest = hashlib.sha256(script.encode()).digest()
    return base64.b64encode(digest).decode()


def _facts(summary: Plain) -> list[tuple[str, str]]:
    """The size of a run, in few numbers."""
    cells, effort = summary['cells'], summary['effort']
    rewirings = {cell['rewiring'] for cell in cells} - {'none'}
    return [
        ('tasks', f'{len(summary["tasks"])}'),
        ('models', f'{len({cell["model"] for cell in cells})}'),
        ('rewirings', f'{len(rewirings)}'),
        ('cells', f'{len(cells):,}'),
        ('seeds per cell', f'{len(summary["seeds"])}'),
        ('draws of the search', f'{effort["draws"]}'),
        ('training steps', f'{effort["steps"]:,}'),
        ('parameter budget', f'{effort["budget"]:,}'),
    ]


def _panel(standings: Plain) -> Panel:
    drawn = panel(plot_standings, standings, _caption(standings))
    # One legend above all of them is enough.
    return dataclasses.replace(drawn, legend=())


def _settings(given: Plain) -> list[tuple[str, Any]]:
    """Settings with the digits of large numbers in groups."""
    return [
        (name, f'{value:,}' if type(value) is int else value)
        for name, value in given.items()
    ]


def _caption(standings: Plain) -> str:
    best = [row['model'] for row in standings['rows'] if row['is_best']]
    if len(best) < 2:
        told = [f'Best: {best[0]}.'] if best else []
    else:
        told = [f'Best, and not significantly worse: {", ".join(best)}.']
    told += [f'{name}: {why}.' for name, why in standings['absent'].items()]
    return ' '.join([standings['about'], standings['facts'], *told])


def _heat(table: Plain) -> dict[str, Any]:
    """A table with the colours of its differences.

    Returns:
        The ``table``; ``limit``: the largest difference as text; and for each
        row ``shades``: for each cell a class and the share of its colour.
    """
    sign = 1 if table['higher_is_better'] else -1
    changes = [
        cell
        for row in table['rows']
        for cell in row['cells']
        if cell['kind'] in _CHANGES and cell['value']
    ]
    largest = max(changes, key=lambda cell: abs(cell['value']), default=None)

    def shade(cell: Plain) -> tuple[str, int]:
        if largest is None or cell['kind'] not in _CHANGES:
            return '', 0
        share = sign * (cell['value'] or 0) / abs(largest['value'])
        return 'gain' if share >= 0 else 'loss', round(_STRONGEST * abs(share))

    return {
        'table': table,
        'limit': largest['text'].lstrip('+−') if largest else '',
        'shades': [
            [shade(cell) for cell in row['cells']] for row in table['rows']
        ],
    }
