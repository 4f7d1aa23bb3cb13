"""Curves over layers, positions or lengths."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    NullLocator,
)

from gnnbridge.report.canvas import (
    AMBER,
    BLUE,
    GREEN,
    INK,
    PURPLE,
    SKY,
    VERMILION,
)
from gnnbridge.report.section import Numbers

MOST_POINTS = 512
# Markers would run together above so many points.
_MOST_MARKERS = 26
_SERIES = (BLUE, VERMILION, GREEN, PURPLE, AMBER, INK, SKY)
_SERIES_DASHES = ('-', '--', '-.', '-', '--', '-.', ':')
_LOOKS: dict[str, dict[str, Any]] = {
    'model': {'color': BLUE, 'linestyle': '-', 'marker': 'o', 'zorder': 4},
    'reinitialised': {
        'color': VERMILION, 'linestyle': '--', 'marker': 's', 'zorder': 3,
    },
    'null': {'color': INK, 'linestyle': ':', 'marker': '', 'zorder': 5},
}  # fmt: skip
_SUPERSCRIPTS = str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹')


@dataclass(frozen=True)
class Line:
    """One line of a figure.

    Args:
        label: Its name in the legend; none keeps it out of the legend.
        y: Its values; ``None`` leaves a gap.
        look: ``'model'``, ``'reinitialised'`` or ``'null'``: who it speaks
            of; or the place of a line among several of one kind.
        x: Where they are, ``0, 1, 2, ...`` by default.
        spread: Standard deviations, drawn as a band.
    """

    label: str
    y: Numbers
    look: str | int = 'model'
    x: Numbers | None = None
    spread: Numbers | None = None


@dataclass(frozen=True)
class Frame:
    """What a figure says around its lines.

    Args:
        title: The title above the axes.
        x_label: What runs along the horizontal axis.
        y_label: The quantity with its unit.
        log_x: Whether the horizontal axis is logarithmic.
        log_y: Whether the vertical one is; values that are not positive are
            then left out.
        level: A value and the name of a level line.
        ticks: Names of the places ``0, 1, 2, ...``.
    """

    title: str
    x_label: str
    y_label: str
    log_x: bool = False
    log_y: bool = False
    level: tuple[float, str] | None = None
    ticks: Sequence[str] | None = None


def draw_lines(axes: Axes, lines: Sequence[Line], frame: Frame) -> Axes:
    """Draws curves into axes and returns these."""
    axes.set_gid('curves')
    for line in lines:
        _draw_line(axes, line, frame)
    if frame.level is not None:
        value, name = frame.level
        axes.axhline(value, label=name, **look_of('null'))
    _finish_y(axes, frame.log_y)
    _finish_x(axes, lines, frame)
    axes.grid(axis='y')
    axes.set_axisbelow(True)
    axes.set(title=frame.title, xlabel=frame.x_label, ylabel=frame.y_label)
    if len(axes.get_legend_handles_labels()[1]) > 1:
        axes.legend(loc='best')
    return axes


def look_of(look: str | int) -> dict[str, Any]:
    """Colour, dash and marker of a line."""
    if isinstance(look, str):
        return dict(_LOOKS[look])
    return {
        'color': _SERIES[look % len(_SERIES)],
        'linestyle': _SERIES_DASHES[look % len(_SERIES_DASHES)],
        'marker': 'os^Dv'[look % 5],
        'zorder': 4 - 0.1 * look,
    }


def _draw_line(axes: Axes, line: Line, frame: Frame) -> None:
    y = with_gaps(line.y, positive=frame.log_y)
    x = np.arange(len(y)) if line.x is None else with_gaps(line.x)
    look = look_of(line.look)
    if line.spread is not None and len(line.spread) == len(y):
        spread = with_gaps(line.spread)
        axes.fill_between(
            x, *_band(y, spread, positive=frame.log_y),
            color=look['color'], alpha=0.13, linewidth=0,
        )  # fmt: skip
    if len(y) > _MOST_MARKERS:
        look.update(marker='', linewidth=1.4)
    axes.plot(*thinned(x, y), label=line.label or '_', markersize=4, **look)


def _band(
    y: np.ndarray, spread: np.ndarray, *, positive: bool
) -> tuple[np.ndarray, np.ndarray]:
    low = y - spread
    # A band that reaches below zero has no end on a logarithmic axis.
    return np.maximum(low, y / 10) if positive else low, y + spread


def with_gaps(values: Numbers, *, positive: bool = False) -> np.ndarray:
    """Values ``[N]`` float64, NaN where they cannot be drawn."""
    array = np.array([math.nan if v is None else v for v in values], float)
    return np.where(array > 0, array, math.nan) if positive else array


def thinned(
    x: np.ndarray, y: np.ndarray, most: int = MOST_POINTS
) -> tuple[np.ndarray, np.ndarray]:
    """At most so many points of a curve, its first, last and extreme ones.

    Args:
        x: Ascending places ``[N]``.
        y: Values ``[N]``.
        most: How many points to keep.
    """
    if len(y) <= most:
        return x, y
    inner = np.arange(1, len(y) - 1)
    kept = [0, len(y) - 1]
    for bucket in np.array_split(inner, (most - 2) // 2):
        there = bucket[np.isfinite(y[bucket])]
        if there.size == 0:
            # The gap stays one.
            kept.append(int(bucket[0]))
            continue
        kept += [int(there[y[there].argmin()]), int(there[y[there].argmax()])]
    chosen = np.unique(kept)
    return x[chosen], y[chosen]


def _finish_x(axes: Axes, lines: Sequence[Line], frame: Frame) -> None:
    axis = axes.xaxis
    if frame.log_x:
        axes.set_xscale('log', base=2)
        places = sorted({x for line in lines for x in line.x or () if x})
        step = -(-len(places) // 7)
        axis.set_major_locator(FixedLocator(places[::step]))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g}'))
    elif frame.ticks is not None:
        step = -(-len(frame.ticks) // 9)
        axes.set_xticks(
            range(0, len(frame.ticks), step), list(frame.ticks)[::step]
        )
    else:
        # Only depths are shares of a length.
        integer = all(x == int(x) for line in lines for x in line.x or () if x)
        axis.set_major_locator(
            MaxNLocator(
                nbins=7,
                integer=integer,
                steps=[1, 2, 4, 5, 10] if integer else [1, 2, 2.5, 5, 10],
                min_n_ticks=1,
            )
        )


def _finish_y(axes: Axes, log: bool) -> None:
    axis = axes.yaxis
    if not log:
        axis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]))
        low, high = axes.get_ylim()
        if 0 < low < 0.5 * high:
            axes.set_ylim(0, high)
        return
    axes.set_yscale('log')
    low, high = axes.get_ylim()
    decades = math.log10(high / low) if 0 < low < high else 1.0
    if decades > 2:
        axis.set_major_locator(LogLocator(numticks=6))
    elif decades > 0.7:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=8))
    else:
        axis.set_major_locator(MaxNLocator(nbins=4))
    axis.set_major_formatter(FuncFormatter(lambda value, _: power(value)))
    axis.set_minor_formatter(NullFormatter())
    axis.set_minor_locator(NullLocator())


def power(value: float) -> str:
    """A tick of a logarithmic axis, without an exponent where it is short."""
    if value <= 0:
        return '0'
    exponent = math.floor(math.log10(value) + 1e-9)
    if -4 < exponent < 4:
        return f'{value:,.0f}' if value >= 100 else f'{value:.3g}'
    digit = value / 10.0**exponent
    digits = '' if abs(digit - 1) < 1e-6 else f'{digit:.2g}·'
    return f'{digits}10{str(exponent).translate(_SUPERSCRIPTS)}'
