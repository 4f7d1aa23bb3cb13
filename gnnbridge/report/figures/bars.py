"""Bars: a few values beside each other."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from gnnbridge.report.canvas import EDGE
from gnnbridge.report.figures.lines import Frame, Line, look_of


def draw_bars(
    axes: Axes, names: Sequence[str], groups: Sequence[Line], frame: Frame
) -> Axes:
    """Draws lying bars: for every name one of each group, from the top.

    Args:
        axes: Where to.
        names: The names along the vertical axis ``[B]``.
        groups: For each group its values ``[B]``; gaps have no bar.
        frame: What is said around them.
    """
    thick = 0.78 / max(len(groups), 1)
    for place, group in enumerate(groups):
        down = (place - (len(groups) - 1) / 2) * thick
        lengths = [math.nan if v is None else v for v in group.y]
        axes.barh(
            np.arange(len(names)) + down, lengths, 0.86 * thick,
            color=look_of(group.look)['color'], label=group.label,
            alpha=0.55 if group.look == 'null' else 1.0,
        )  # fmt: skip
    axes.set_yticks(range(len(names)), list(names))
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.axvline(0, color=EDGE, linewidth=0.8, zorder=0)
    axes.spines['left'].set_visible(False)
    axes.tick_params(axis='y', length=0)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
    axes.grid(axis='x')
    axes.set_axisbelow(True)
    axes.set(title=frame.title, xlabel=frame.x_label, ylabel=frame.y_label)
    if len(groups) > 1:
        axes.legend(loc='best')
    return axes
