"""What a run of the benchmark found, as it stands in the README.

    gnnbridge bench --jobs 2 --out runs/leaderboard
    python benchmarks/gnn/leaderboard.py

Takes the summary that ``gnnbridge bench`` wrote, keeps it with its tables in
results, and draws what every rewiring does to every model.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from by_size import RESULTS, plt, rounded, table
from matplotlib.axes import Axes

from gnnbridge.bench.board import board
from gnnbridge.bench.leaderboard import leaderboard
from gnnbridge.bench.tables import Cell
from gnnbridge.bench.verdict import judged

Summary = Mapping[str, Any]
# Points from which on colours are no stronger.
_STRONG = 50


def main() -> None:
    """Keeps the summary, its tables and a figure."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or '').split('\n\n')[0]
    )
    parser.add_argument('--run', type=Path, default=Path('runs/leaderboard'))
    parser.add_argument('--results', type=Path, default=RESULTS)
    parser.add_argument('--name', default='leaderboard', help='of the results')
    asked = parser.parse_args()
    summary = rounded(json.loads((asked.run / 'summary.json').read_text()))
    path = asked.results / f'gnn_{asked.name}'
    # A line for each cell: there are hundreds.
    cells = ',\n'.join(json.dumps(cell) for cell in summary['cells'])
    rest = {key: of for key, of in summary.items() if key != 'cells'}
    text = json.dumps(rest, indent=1).removesuffix('\n}')
    path.with_suffix('.json').write_text(
        f'{text},\n "cells": [\n{cells}\n]}}\n'
    )
    path.with_suffix('.md').write_text(leaderboard(summary))
    draw(summary, path.with_suffix('.png'))
    print(show(summary))


def show(summary: Summary) -> str:
    """Models by tasks, and what each rewiring comes to over all models."""
    tables = board(summary)
    models = tables['models']
    rows = [
        [row['name'], *map(_level, row['cells'])]
        for row in [*models['rows'], *models['foot']]
    ]
    parts = [
        table(['model', *models['columns']], rows),
        models['caption'],
        tables['verdict'],
    ]
    rewired = _rewired(summary)
    names = dict.fromkeys(
        cell['rewiring'] for of in rewired.values() for cell in of
    )
    rows = [
        [
            name,
            *(
                _over_models([cell for cell in of if cell['rewiring'] == name])
                for of in rewired.values()
            ),
        ]
        for name in names
    ]
    if rows:
        parts.append(table(['rewiring', *rewired], rows))
    return '\n\n'.join(parts)


def _level(cell: Cell) -> str:
    text = f'{cell["text"]} {cell["detail"]}'.strip()
    return f'**{text}**' if cell['kind'] == 'best' else text


def _rewired(summary: Summary) -> dict[str, list[Mapping[str, Any]]]:
    """The cells with rewiring that have a control, by task.

    Of tasks that count by accuracy: differences are shown in points.
    """
    found: dict[str, list[Mapping[str, Any]]] = {}
    for cell in summary['cells']:
        metric = summary['tasks'][cell['task']]['metric']
        if cell['control'] is not None and metric == 'accuracy':
            found.setdefault(cell['task'], []).append(cell)
    return found


def _over_models(cells: list[Mapping[str, Any]]) -> str:
    """The median difference, and for how many models it is significant."""
    points = [100 * cell['control']['difference'] for cell in cells]
    kinds = [judged(cell['control'], True) for cell in cells]
    return (
        f'{median(points):+.1f} ({kinds.count("better")} ▲, '
        f'{kinds.count("worse")} ▼ of {len(cells)})'
    )


def draw(summary: Summary, path: Path) -> None:
    """A map for each task: what each rewiring adds to each model."""
    rewired = _rewired(summary)
    if not rewired:
        return
    columns, rows = (
        max(len({cell[of] for cell in cells}) for cells in rewired.values())
        for of in ('rewiring', 'model')
    )
    figure, axes = plt.subplots(
        1, len(rewired), layout='constrained', squeeze=False,
        figsize=((2.6 + 0.5 * columns) * len(rewired), 1.6 + 0.3 * rows),
    )  # fmt: skip
    for axis, (task, cells) in zip(axes[0], rewired.items(), strict=True):
        _map(axis, task, cells)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _map(axis: Axes, task: str, cells: list[Mapping[str, Any]]) -> None:
    models = list(dict.fromkeys(cell['model'] for cell in cells))
    rewirings = list(dict.fromkeys(cell['rewiring'] for cell in cells))
    found = np.full((len(models), len(rewirings)), np.nan)
    largest = max(abs(cell['control']['difference']) for cell in cells)
    strong = min(_STRONG, max(100 * largest, 1))
    marks = {'better': '▲', 'worse': '▼'}
    for cell in cells:
        row, column = (
            models.index(cell['model']),
            rewirings.index(cell['rewiring']),
        )
        points = 100 * cell['control']['difference']
        found[row, column] = points
        mark = marks.get(judged(cell['control'], True), '')
        axis.text(
            column, row, f'{points:+.{0 if strong > 20 else 1}f}\n{mark}',
            ha='center', va='center', fontsize=8,
            color='white' if abs(points) > 0.7 * strong else 'black',
        )  # fmt: skip
    axis.imshow(found, cmap='RdBu', vmin=-strong, vmax=strong, aspect='auto')
    axis.set_xticks(range(len(rewirings)), rewirings, rotation=40, ha='right')
    axis.set_yticks(range(len(models)), models)
    axis.set_title(
        f'{task}: points gained over no rewiring\n(▲ ▼ significant)',
        fontsize=10,
    )


if __name__ == '__main__':
    main()
