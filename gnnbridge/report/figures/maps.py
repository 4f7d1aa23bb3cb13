"""Maps of values over two axes, drawn as few shapes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.ticker import FuncFormatter, MaxNLocator

from gnnbridge.report.canvas import VERMILION
from gnnbridge.report.section import Numbers
from gnnbridge.report.theme import RAMP_STEPS, ROLES

# More cells than this touch, and more than that have no number in them.
_MOST_GAPS = 40
_MOST_NUMBERS = 80


@dataclass(frozen=True)
class Legend:
    """What a map says around its cells.

    Args:
        title: The title above the axes.
        x_label: What its columns are.
        y_label: What its rows are.
        value: The quantity, written along the colour bar.
        limits: The values at both ends of the colour bar, so that two maps
            can be compared; those of the map by default.
        mark: A value to mark on the colour bar (the null).
        extent: The last column and row, where cells hold several of them.
    """

    title: str
    x_label: str
    y_label: str
    value: str
    limits: tuple[float, float] | None = None
    mark: float | None = None
    extent: tuple[int, int] | None = None


def draw_map(axes: Axes, rows: Sequence[Numbers], legend: Legend) -> Axes:
    """Draws a map, its first row on top; rows may differ in length."""
    axes.set_gid('map')
    values = as_array(rows)
    low, high = legend.limits or limits_of(values)
    _shrink(axes)
    height, width = values.shape
    step_x, step_y = 1.0, 1.0
    if legend.extent is not None:
        step_x, step_y = legend.extent[0] / width, legend.extent[1] / height
    gap = 0.0 if max(height, width) > _MOST_GAPS else 0.05
    levels = _levels(values, low, high)
    _fill(axes, levels, (step_x, step_y), gap)
    axes.set_xlim(-0.5 * step_x, (width - 0.5) * step_x)
    axes.set_ylim((height - 0.5) * step_y, -0.5 * step_y)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(
            MaxNLocator(nbins=8, integer=True, steps=[1, 2, 4, 5, 10],
                        min_n_ticks=1)
        )  # fmt: skip
    if legend.extent is None and values.size <= _MOST_NUMBERS and width <= 12:
        _write(axes, values, levels)
    axes.set(title=legend.title, xlabel=legend.x_label, ylabel=legend.y_label)
    _bar(axes, (low, high), legend)
    return axes


def as_array(rows: Sequence[Numbers]) -> np.ndarray:
    """Rows as ``[rows, columns]`` float64, NaN where there is nothing."""
    width = max((len(row) for row in rows), default=0)
    values = np.full((max(len(rows), 1), max(width, 1)), math.nan)
    for place, row in enumerate(rows):
        values[place, : len(row)] = [math.nan if v is None else v for v in row]
    return values


def limits_of(*maps: np.ndarray) -> tuple[float, float]:
    """The least and the largest value of maps, apart from each other."""
    there = [values[np.isfinite(values)] for values in maps]
    joined = np.concatenate(there) if there else np.zeros(0)
    if joined.size == 0:
        return 0.0, 1.0
    low, high = float(joined.min()), float(joined.max())
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _levels(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """The step of the ramp of each cell, -1 for none."""
    with np.errstate(invalid='ignore'):
        steps = np.floor((values - low) / (high - low) * RAMP_STEPS)
    steps = np.clip(steps, 0, RAMP_STEPS - 1)
    return np.where(np.isfinite(values), steps, -1).astype(int)


def _fill(
    axes: Axes, levels: np.ndarray, step: tuple[float, float], gap: float
) -> None:
    """One shape for all cells of a colour: pages stay small."""
    for level in np.unique(levels[levels >= 0]):
        boxes = []
        for row, first, end in _runs(levels == level, joined=gap == 0):
            left, right = first - 0.5 + gap, end - 0.5 - gap
            top, foot = row - 0.5 + gap, row + 0.5 - gap
            boxes.append((left, top, right, foot))
        _boxes(axes, np.array(boxes), step, f'ramp-{level}')


def _runs(there: np.ndarray, *, joined: bool) -> list[tuple[int, int, int]]:
    """Row, first and end column of cells, those side by side together."""
    if not joined:
        return [(r, c, c + 1) for r, c in np.argwhere(there).tolist()]
    runs = []
    for row, line in enumerate(there):
        edges = np.flatnonzero(np.diff(np.r_[False, line, False]))
        runs += [
            (row, int(first), int(end))
            for first, end in zip(edges[::2], edges[1::2], strict=True)
        ]
    return runs


def _boxes(
    axes: Axes, boxes: np.ndarray, step: tuple[float, float], role: str
) -> None:
    left, top, right, foot = boxes.T
    corners = np.stack(
        [left, top, right, top, right, foot, left, foot, left, top], axis=1
    ).reshape(-1, 2)
    codes = [Path.MOVETO, *[Path.LINETO] * 3, Path.CLOSEPOLY] * len(boxes)
    axes.add_patch(
        PathPatch(
            Path(corners * step, codes),
            facecolor=ROLES[role].light,
            linewidth=0,
            # No seams of paper between cells that touch.
            antialiased=False,
        )
    )


def _write(axes: Axes, values: np.ndarray, levels: np.ndarray) -> None:
    for (row, column), value in np.ndenumerate(values):
        if math.isfinite(value):
            axes.text(
                column, row, cell_text(value), ha='center', va='center',
                fontsize=8, color=ROLES[f'on-{levels[row, column]}'].light,
            )  # fmt: skip


def cell_text(value: float) -> str:
    """A number in a cell: two digits, no zero before the point."""
    digits = 2 if abs(value) < 0.995 else 1 if abs(value) < 9.95 else 0
    text = f'{value:.{digits}f}'
    if not float(text):
        return '0'
    return text.replace('0.', '.', 1) if text.lstrip('-')[:2] == '0.' else text


def _shrink(axes: Axes) -> None:
    """Makes room for the colour bar, unless an engine lays the figure out."""
    figure = axes.get_figure()
    if figure is not None and figure.get_layout_engine() is None:
        box = axes.get_position()
        axes.set_position((box.x0, box.y0, 0.83 * box.width, box.height))


def _bar(axes: Axes, limits: tuple[float, float], legend: Legend) -> None:
    low, high = limits
    bar = axes.inset_axes((1.035, 0.0, 0.05, 1.0))
    edges = np.linspace(low, high, RAMP_STEPS + 1)
    for step in range(RAMP_STEPS):
        box = np.array([[0.0, edges[step], 1.0, edges[step + 1]]])
        _boxes(bar, box, (1.0, 1.0), f'ramp-{step}')
    bar.set_xlim(0, 1)
    bar.set_ylim(low, high)
    bar.set_xticks([])
    bar.yaxis.tick_right()
    bar.yaxis.set_label_position('right')
    bar.yaxis.set_major_locator(MaxNLocator(nbins=4))
    bar.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f'{v:.4g}'))
    bar.tick_params(length=0)
    bar.spines[:].set_visible(False)
    bar.set_ylabel(legend.value)
    if legend.mark is not None and low <= legend.mark <= high:
        bar.axhline(legend.mark, color=VERMILION, linewidth=2)
