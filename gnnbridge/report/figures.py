"""The report's three kinds of figure: arcs, heat maps and curves.

Each takes plain numbers and returns an SVG as a ``data:`` address.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import to_rgba
from matplotlib.path import Path
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from gnnbridge.report.canvas import (
    BLUE,
    INK,
    VERMILION,
    drawable_text,
    house_style,
    new_axes,
    to_data_uri,
)
from gnnbridge.report.section import Numbers

# Edges as (source, target, weight), the order of `edge_index`.
Edge = tuple[int, int, float]

_MAX_ARCS = 400
_MAX_LABELS = 40


@dataclass(frozen=True)
class Curve:
    """One line of a figure.

    Args:
        label: Its name in the legend.
        values: One value per step; ``None`` leaves a gap.
        kind: ``'model'``, ``'reinitialised'`` or ``'null'``: who it speaks
            of, which sets colour, dash and marker.
    """

    label: str
    values: Numbers
    kind: str = 'model'


_LOOK: dict[str, dict[str, Any]] = {
    'model': {'color': BLUE, 'linestyle': '-', 'marker': 'o', 'zorder': 4},
    'reinitialised': {
        'color': VERMILION,
        'linestyle': '--',
        'marker': 's',
        'zorder': 3,
    },
    'null': {'color': INK, 'linestyle': ':', 'marker': '', 'zorder': 5},
}


def curves(
    lines: Sequence[Curve],
    *,
    title: str,
    x_label: str,
    y_label: str,
    log: bool = False,
) -> str:
    """Curves over layers or token positions.

    Args:
        lines: The curves, all over ``0, 1, 2, ...``.
        title: The title above the axes.
        x_label: The name of the step.
        y_label: The quantity with its unit.
        log: Whether the vertical axis is logarithmic; values that are not
            positive are then left out.

    Returns:
        The figure as a ``data:`` address.
    """
    with house_style():
        figure, axes = new_axes()
        for line in lines:
            values = _with_gaps(line.values, positive=log)
            look = dict(_LOOK[line.kind])
            if len(values) > 40:
                look.update(marker='', linewidth=1.3)
            axes.plot(values, label=line.label, markersize=4.5, **look)
        _finish_curves(axes, log)
        axes.set(title=title, xlabel=x_label, ylabel=y_label)
        if len(lines) > 1:
            axes.legend(loc='best')
        return to_data_uri(figure)


def _with_gaps(values: Numbers, *, positive: bool) -> np.ndarray:
    array = np.array([math.nan if v is None else v for v in values], float)
    return np.where(array > 0, array, math.nan) if positive else array


def _finish_curves(axes: Axes, log: bool) -> None:
    axes.grid(axis='y')
    axes.set_axisbelow(True)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if log:
        axes.set_yscale('log')
        axes.yaxis.set_major_locator(LogLocator(numticks=6))
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.yaxis.set_major_locator(
            MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10])
        )
        low, high = axes.get_ylim()
        axes.set_ylim(min(low, 0) if low < 0.5 * high else low, high)


def heatmap(
    rows: Sequence[Numbers],
    *,
    title: str,
    label: str,
    limits: tuple[float, float] = (0.0, 1.0),
    mark: float | None = None,
) -> str:
    """A layer x head map; layers may have different numbers of heads.

    Args:
        rows: One row of values per layer, layer 0 on top.
        title: The title above the axes.
        label: The quantity, written along the colour bar.
        limits: The values at both ends of the colour bar, so that two maps
            can be compared.
        mark: A value to mark on the colour bar (the null).

    Returns:
        The figure as a ``data:`` address.
    """
    width = max(len(row) for row in rows)
    values = np.full((len(rows), width), math.nan)
    for place, row in enumerate(rows):
        values[place, : len(row)] = _with_gaps(row, positive=False)
    with house_style():
        figure, axes = new_axes(height=3.4, left=0.55, right=0.0)
        image = axes.imshow(
            values,
            cmap='YlGnBu',
            vmin=limits[0],
            vmax=limits[1],
            aspect='auto',
            interpolation='nearest',
        )
        bar = figure.colorbar(image, ax=axes, pad=0.03, fraction=0.16)
        bar.set_label(label)
        bar.outline.set_visible(False)
        if mark is not None:
            bar.ax.axhline(mark, color=VERMILION, linewidth=1.8)
        _tile(axes, values, limits)
        axes.set(title=title, xlabel='head', ylabel='layer')
        return to_data_uri(figure)


def _tile(axes: Axes, values: np.ndarray, limits: tuple[float, float]) -> None:
    """White gaps between few cells, numbers in very few."""
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(
            MaxNLocator(nbins=12, integer=True, min_n_ticks=1)
        )
    height, width = values.shape
    if max(height, width) <= 48:
        axes.set_xticks(np.arange(width + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(height + 1) - 0.5, minor=True)
        axes.grid(which='minor', color='white', linewidth=1.2)
        axes.tick_params(which='minor', length=0)
    if values.size > 80 or width > 12:
        return
    middle = (limits[0] + limits[1]) / 2
    for (row, column), value in np.ndenumerate(values):
        if math.isfinite(value):
            axes.text(
                column,
                row,
                f'{value:.2f}',
                ha='center',
                va='center',
                fontsize=9,
                color=INK if value < middle else 'white',
            )


def arc_diagram(
    edges: Sequence[Edge],
    num_tokens: int,
    *,
    title: str,
    labels: Sequence[str] | None = None,
) -> str:
    """A token graph as arcs over the positions of its tokens.

    An arc joins key and query; edges that run forward (key before query) are
    drawn above the line, edges that run backward below it. The stronger the
    attention, the darker and wider the arc; edges from the first token have
    their own colour.

    Args:
        edges: ``(source, target, weight)``; the strongest 400 are drawn.
        num_tokens: The number of tokens on the line.
        title: The title above the axes.
        labels: The tokens' texts, written when they fit.

    Returns:
        The figure as a ``data:`` address.
    """
    drawn = [edge for edge in edges if edge[0] != edge[1]]
    drawn = sorted(drawn, key=lambda edge: edge[2])[-_MAX_ARCS:]
    with house_style():
        names = _token_names(num_tokens, labels)
        room = 0.52 if names is None else 0.12 + _label_height(names)
        figure, axes = new_axes(
            height=2.1 + room, left=0.08, bottom=room, right=0.08
        )
        if drawn:
            axes.add_collection(_arcs(drawn))
        both = any(source > target for source, target, _ in drawn)
        # The height of the longest arc there can be: layers compare.
        top = max(num_tokens - 1, 1) ** 0.5
        axes.set_ylim(-1.05 * top if both else -0.03 * top, 1.05 * top)
        axes.set_xlim(-0.02 * num_tokens - 0.5, 1.02 * num_tokens - 0.5)
        axes.axhline(0, color='#9aa4af', linewidth=0.8, zorder=1)
        axes.spines[['left', 'bottom']].set_visible(False)
        axes.set_yticks([])
        axes.set_title(title)
        _label_tokens(axes, names)
        return to_data_uri(figure)


def _arcs(edges: Sequence[Edge]) -> PathCollection:
    # Cubic with both handles at 4/3 of the height: its top is at the height.
    codes = [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4]
    paths, colors, widths = [], [], []
    # Many arcs are drawn finer, so that they stay apart.
    fine = min(1.0, (90 / len(edges)) ** 0.5)
    for source, target, weight in edges:
        height = (
            4 / 3 * math.copysign(abs(target - source) ** 0.5, target - source)
        )
        points = [(source, 0), (source, height), (target, height), (target, 0)]
        paths.append(Path(points, codes))
        strength = min(max(weight, 0.0), 1.0)
        base = VERMILION if source == 0 else BLUE
        colors.append(to_rgba(base, fine * (0.25 + 0.65 * strength)))
        widths.append(fine * (0.6 + 1.5 * strength))
    return PathCollection(
        paths, facecolors='none', edgecolors=colors, linewidths=widths, zorder=2
    )


def _token_names(
    num_tokens: int, labels: Sequence[str] | None
) -> list[str] | None:
    if labels is None or num_tokens > _MAX_LABELS:
        return None
    return [drawable_text(text) for text in labels]


def _upright(names: Sequence[str]) -> bool:
    return max(map(len, names), default=0) <= 2


def _label_height(names: Sequence[str]) -> float:
    """Room for the names in inches: a line, or their length if turned."""
    longest = max(map(len, names), default=0)
    return 0.15 if _upright(names) else 0.08 * longest


def _label_tokens(axes: Axes, names: Sequence[str] | None) -> None:
    if names is None:
        axes.set_xlabel('token position')
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=9))
        axes.tick_params(axis='x', length=3)
        return
    axes.set_xticks(range(len(names)))
    for text in axes.set_xticklabels(names):
        # A dollar sign in a token is not the start of a formula.
        text.set_parse_math(False)
        turn = 0 if _upright(names) else 90
        text.set(rotation=turn, fontsize=8.5, color=INK)
    axes.tick_params(axis='x', length=0)
