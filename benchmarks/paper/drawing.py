"""Parts of figures that several experiments have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use('Agg')

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Groups = dict[str, dict[str, Any]]
# Okabe and Ito's, which colour-blind readers can tell apart; black first.
_COLORS = (
    '#000000', '#0072B2', '#D55E00', '#009E73', '#CC79A7',
    '#E69F00', '#56B4E9', '#8C6D31', '#7F7F7F', '#5E3C99', '#B2182B',
)  # fmt: skip
_MARKERS = 'osD^vPX<>*h'
_SHARES = {
    'first': ('first token', '#0072B2'),
    'inserted': ('inserted tokens', '#D55E00'),
    'nowhere': ('nowhere', '#7F7F7F'),
    'itself': ('itself', '#009E73'),
}


def palette(count: int) -> list[str]:
    """Colours, in the same order in every figure."""
    return [_COLORS[k % len(_COLORS)] for k in range(count)]


def points(axis: Axes, found: Groups, key: str, colors: Sequence[str]) -> None:
    """One row for each name: the value of every seed, and their mean."""
    for place, (figures, color) in enumerate(
        zip(found.values(), colors, strict=True)
    ):
        figure = figures[key]
        if figure is None:
            continue
        values = figure['values']
        axis.plot(values, [place] * len(values), 'o', color=color, alpha=0.45)
        axis.plot(figure['mean'], place, '|', color=color, ms=16, mew=2.5)
    axis.set_yticks(range(len(found)), list(found))
    axis.set_ylim(len(found) - 0.5, -0.5)
    axis.locator_params(axis='x', nbins=4)
    axis.grid(axis='x', alpha=0.3)


def lines(
    axis: Axes,
    found: Groups,
    key: str,
    colors: Sequence[str],
    x: Sequence[float] | None = None,
) -> None:
    """A line for each name, with the deviation over seeds as a band."""
    for (name, figures), color, marker in zip(
        found.items(), colors, _MARKERS, strict=False
    ):
        mean = np.array(figures[key]['mean'], dtype=float)
        deviation = np.array(figures[key]['deviation'], dtype=float)
        where = np.arange(len(mean)) if x is None else np.array(x)
        axis.plot(
            where, mean, marker=marker, ms=4, lw=1.5, color=color, label=name
        )
        axis.fill_between(
            where, mean - deviation, mean + deviation, color=color, alpha=0.12,
            lw=0,
        )  # fmt: skip
    if x is None:
        axis.set_xticks(where)
    axis.legend(fontsize=7, framealpha=0.8)
    axis.grid(alpha=0.3)


def by_length(
    axis: Axes, found: Groups, key: str, colors: Sequence[str]
) -> None:
    """As :func:`lines`, of figures that are given for several lengths."""
    series = {
        name: {
            key: {
                part: [one[part] for one in figures[key].values()]
                for part in ('mean', 'deviation')
            }
        }
        for name, figures in found.items()
    }
    first = next(iter(found.values()))[key]
    lines(axis, series, key, colors, x=[int(length) for length in first])
    axis.set_xticks([int(length) for length in first])
    axis.set_xlabel('bindings')


def stacked(axis: Axes, found: Groups, keys: Sequence[str]) -> None:
    """Shares as stacked bars, mean over layers, a bar for each name."""
    left = np.zeros(len(found))
    for key in keys:
        label, color = _SHARES[key]
        share = np.array([np.mean(f[key]['mean']) for f in found.values()])
        axis.barh(
            range(len(found)), share, left=left, color=color, label=label,
            height=0.7,
        )  # fmt: skip
        left += share
    axis.barh(
        range(len(found)), 1 - left, left=left, color='#DDDDDD',
        label='other tokens', height=0.7,
    )  # fmt: skip
    axis.set_yticks(range(len(found)), [])
    axis.set_ylim(len(found) - 0.5, -0.5)
    axis.set_xlim(0, 1)
    axis.legend(
        fontsize=8, ncols=5, loc='lower center', bbox_to_anchor=(0.5, 1.0),
        frameon=False, columnspacing=0.8, handlelength=1.0,
    )  # fmt: skip


def save(figure: Figure, path: Path) -> None:
    """Writes the image."""
    figure.savefig(path, dpi=110)
    plt.close(figure)
