"""How the models of a benchmark stand on one task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from gnnbridge.report.canvas import BLUE, INK, QUIET
from gnnbridge.report.figures.start import axes_or_new, in_house_style

# Inches.
_ROW, _AROUND, _NAMES = 0.21, 0.84, 1.25
# Of intervals that go beyond what a share can be, so much is shown.
_BEYOND = 3
_BEST = 'best, and not significantly worse'
_OTHERS = 'others'


@in_house_style
def plot_standings(
    standings: Mapping[str, Any], ax: Axes | None = None
) -> Axes:
    """Draws the mean of each model with its interval, and every seed.

    Args:
        standings: An entry of the ``'standings'`` of a board.
        ax: Where to draw, a new figure by default.
    """
    rows = standings['rows']
    axes = axes_or_new(
        ax, height=_AROUND + _ROW * max(len(rows), 2), left=_NAMES
    )
    axes.set_gid('dots')
    for is_best, color, label in ((True, BLUE, _BEST), (False, QUIET, _OTHERS)):
        chosen = [
            (place, row)
            for place, row in enumerate(rows)
            if row['is_best'] == is_best
        ]
        if chosen:
            _draw(axes, chosen, color, label)
    if standings['chance'] is not None:
        axes.axvline(
            standings['chance'], color=INK, linestyle=':', linewidth=1.4,
            zorder=1, label='chance',
        )  # fmt: skip
    axes.set_yticks(range(len(rows)), [row['model'] for row in rows])
    axes.set_ylim(max(len(rows), 1) - 0.4, -0.6)
    axes.spines['left'].set_visible(False)
    axes.tick_params(axis='y', length=0)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]))
    axes.grid(axis='x')
    axes.set_axisbelow(True)
    axes.set(title=standings['task'], xlabel=standings['unit'])
    if standings['unit'].endswith('%'):
        low, high = axes.get_xlim()
        axes.set_xlim(max(low, -_BEYOND), min(high, 100 + _BEYOND))
    if axes.get_legend_handles_labels()[1]:
        axes.legend(loc='best')
    return axes


def _draw(
    axes: Axes, rows: list[tuple[int, Any]], color: str, label: str
) -> None:
    for place, row in rows:
        values = row['values']
        if len(values) > 1:
            axes.plot(
                values, [place] * len(values), '|', color=color, markersize=5,
                markeredgewidth=0.8, alpha=0.55, zorder=2,
            )  # fmt: skip
        if row['half_width'] is not None:
            low, high = (row['mean'] + s * row['half_width'] for s in (-1, 1))
            axes.plot(
                [low, high], [place, place], color=color, linewidth=1.6,
                solid_capstyle='butt', zorder=3,
            )  # fmt: skip
    axes.plot(
        [row['mean'] for _, row in rows], [place for place, _ in rows], 'o',
        color=color, markersize=5, zorder=4, label=label,
    )  # fmt: skip
