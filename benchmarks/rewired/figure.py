"""Loss and retrieval against edges per token, pattern by pattern."""

from __future__ import annotations

from itertools import zip_longest
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from .patterns import FIXED, MEASURED, ORACLES

_COLORS = dict(
    zip(
        (*FIXED, *MEASURED, *ORACLES),
        (
            '#9aa4af', '#56B4E9', '#0072B2', '#E69F00', '#CC79A7', '#8c6d31',
            '#009E73', '#66c2a5', '#b15928', '#6a3d9a', '#D55E00',
            '#1b2733', '#1b2733',
        ),
        strict=True,
    )
)  # fmt: skip
_DASHES = {ORACLES[0]: ':', ORACLES[1]: '--'}
_MEASURES = {
    'excess': 'nats per token above full attention',
    'retrieval': 'retrieval accuracy',
}

_ENDS = ('min', 'max')
_COLUMNS = 3


def draw(result: dict[str, Any], path: Path) -> None:
    """Draws all models that were measured."""
    matplotlib.use('Agg')
    panels = [
        (name, found, measure)
        for name, found in result['models'].items()
        for measure in _MEASURES
        if any(measure in x for x in found['patterns']['window'].values())
    ]
    rows = -(len(panels) // -_COLUMNS)
    figure, grid = plt.subplots(
        rows, _COLUMNS, figsize=(5 * _COLUMNS, 4.2 * rows + 0.9),
        squeeze=False, layout='constrained',
    )  # fmt: skip
    for axes, panel in zip_longest(grid.flat, panels):
        if panel is None:
            axes.set_axis_off()
        else:
            _panel(axes, *panel)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc='outside lower center', ncols=5, frameon=False,
        fontsize=9,
    )  # fmt: skip
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _panel(axes: Axes, name: str, found: dict[str, Any], measure: str) -> None:
    curves = {
        pattern: {int(k): point[measure] for k, point in curve.items()}
        for pattern, curve in found['patterns'].items()
    }
    for pattern, curve in curves.items():
        style = {
            'color': _COLORS[pattern],
            'linestyle': _DASHES.get(pattern, '-'),
        }
        axes.plot(
            list(curve), [v['mean'] for v in curve.values()], marker='o',
            markersize=3.5, linewidth=1.6, label=pattern, **style,
        )  # fmt: skip
        low, high = ([v[end] for v in curve.values()] for end in _ENDS)
        axes.fill_between(
            list(curve),
            low,
            high,
            color=style['color'],
            alpha=0.12,
            linewidth=0,
        )
    budgets = sorted({k for curve in curves.values() for k in curve})
    axes.set_xscale('log', base=2)
    axes.set_xticks(budgets, [str(budget) for budget in budgets])
    axes.set_xlabel('edges per token')
    axes.set_title(f'{name}: {_MEASURES[measure]}', loc='left', fontsize=10)
    if measure == 'excess':
        # Some patterns are better than full attention.
        axes.set_yscale('symlog', linthresh=0.05, linscale=1.0)
        axes.axhline(0.0, color='#1b2733', linewidth=0.8)
        least = min(v['min'] for c in curves.values() for v in c.values())
        axes.set_ylim(bottom=min(1.2 * least, -0.005))
    axes.spines[['top', 'right']].set_visible(False)
