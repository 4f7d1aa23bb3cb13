"""Figures of over-squashing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from gnnbridge.report.figures.lines import Frame, Line, draw_lines
from gnnbridge.report.figures.maps import Legend, as_array, draw_map, limits_of
from gnnbridge.report.figures.sinks import SIDES
from gnnbridge.report.figures.start import axes_or_new, in_house_style
from gnnbridge.report.reading import dig, measured, values
from gnnbridge.report.section import Numbers

POSITION = 'position of the source token'
# The proxies that are drawn; all are in the table.
_DRAWN = ('rollout', 'path gains', 'token visits V', 'conductance')
_MOST_COLUMNS = 48


@in_house_style
def plot_jacobian(profile: Any, ax: Axes | None = None) -> Axes:
    """Draws how much the last token's final state depends on each token."""
    part = measured(profile, 'squashing')
    lines = [
        Line(label, ys, look, spread=dig(side, 'spread', 'jacobian_last'))
        for label, look, side in part.sides
        if (ys := values(side, 'jacobian_last'))
    ]
    if null := values(part.null, 'jacobian_last'):
        lines.append(Line('uniform causal', null, 'null'))
    frame = Frame(
        'Sensitivity of the last token', POSITION, 'Jacobian norm', log_y=True
    )
    return draw_lines(axes_or_new(ax), lines, frame)


@in_house_style
def plot_proxies(profile: Any, ax: Axes | None = None) -> Axes:
    """Draws the measured Jacobian beside what graphs say of it.

    Each proxy is scaled to the geometric mean of the Jacobian: its level is
    arbitrary, its shape is not.
    """
    part = measured(profile, 'squashing')
    actual = values(part.model, 'jacobian_last')
    lines = [Line('Jacobian', actual, 0)]
    for name in _DRAWN:
        ys = values(part.model, 'proxies', name, 'last')
        if ys and len(ys) == len(actual):
            lines.append(Line(name, _levelled(ys, actual), len(lines)))
    frame = Frame(
        'Jacobian and its proxies', POSITION, 'scaled to one mean', log_y=True
    )
    return draw_lines(axes_or_new(ax), lines, frame)


def _levelled(ys: Numbers, actual: Numbers) -> list[float | None]:
    """A curve moved to the geometric mean of another."""
    both = [
        math.log(a / y)
        for y, a in zip(ys, actual, strict=True)
        if y is not None and a is not None and y > 0 and a > 0
    ]
    factor = math.exp(sum(both) / len(both)) if both else 1.0
    return [None if y is None else factor * y for y in ys]


@in_house_style
def plot_jacobian_distance(profile: Any, ax: Axes | None = None) -> Axes:
    """Draws the sensitivity over all pairs by their distance."""
    part = measured(profile, 'squashing')
    lines = [
        Line(label, ys, look)
        for label, look, side in part.sides
        if (ys := values(side, 'jacobian_by_distance'))
    ]
    frame = Frame(
        'Sensitivity by distance', 'distance from receiver to source',
        'Jacobian norm', log_y=True,
    )  # fmt: skip
    return draw_lines(axes_or_new(ax), lines, frame)


@in_house_style
def plot_jacobian_map(
    profile: Any, side: str = 'model', ax: Axes | None = None
) -> Axes:
    """Draws the sensitivity of every token to every earlier one.

    Args:
        profile: What ``Profile.to_dict()`` returns, or the profile itself.
        side: ``'model'`` or ``'baseline'``, the re-initialised weights.
        ax: Where to draw, a new figure by default.

    Raises:
        ValueError: If the map is not in the profile.
    """
    part = measured(profile, 'squashing')
    rows = values(getattr(part, side), 'jacobian_map')
    if not rows:
        raise ValueError(
            f"Expected 'jacobian_map' in the {side} of the profile (got none)."
        )
    both = [as_array(found) for found in (
        values(part.model, 'jacobian_map'),
        values(part.baseline, 'jacobian_map'),
    ) if found]  # fmt: skip
    size = dig(part.model, 'tokens') or len(rows)
    legend = Legend(
        f'All pairs, {SIDES[side]}', 'source', 'receiver', 'log10 of the norm',
        limits=limits_of(*both), extent=(size, size),
    )  # fmt: skip
    return draw_map(axes_or_new(ax, height=3.2), rows, legend)


@in_house_style
def plot_jacobian_layers(profile: Any, ax: Axes | None = None) -> Axes:
    """Draws what each single layer carries to the last token."""
    part = measured(profile, 'squashing')
    rows = values(part.model, 'jacobian_last_in_layer')
    size = max((len(row) for row in rows), default=1)
    blocks = [_blocks(row) for row in rows]
    legend = Legend(
        'One layer at a time', POSITION, 'layer', 'log10 of the norm',
        extent=(size, len(rows)),
    )  # fmt: skip
    return draw_map(axes_or_new(ax, height=2.6), blocks, legend)


def _blocks(row: Numbers) -> list[float | None]:
    """Means of logarithms over at most 48 blocks of positions."""
    logs = np.array(
        [math.nan if not v or v <= 0 else math.log10(v) for v in row]
    )
    means: list[float | None] = []
    for block in np.array_split(logs, min(len(logs), _MOST_COLUMNS)):
        there = block[np.isfinite(block)]
        means.append(float(there.mean()) if there.size else None)
    return means


@in_house_style
def plot_bounds(profile: Any, ax: Axes | None = None) -> Axes:
    """Draws how far above the measured norm each bound is, by position.

    Full lines are proved for this model, broken ones are estimates.
    """
    part = measured(profile, 'squashing')
    bounds = dig(part.model, 'bounds') or {}
    lines = [
        Line(name, values(bound, 'last'), place)
        for place, (name, bound) in enumerate(bounds.items())
        if values(bound, 'last')
    ]
    frame = Frame(
        'Bounds against the measured norm', POSITION, 'log10(bound / norm)',
        level=(0.0, 'measured'),
    )  # fmt: skip
    axes = draw_lines(axes_or_new(ax), lines, frame)
    _dash_by_proof(axes, bounds)
    return axes


def _dash_by_proof(axes: Axes, bounds: Mapping[str, Any]) -> None:
    for line in axes.lines:
        bound = bounds.get(str(line.get_label()))
        if bound is not None:
            line.set_linestyle('-' if bound.get('rigorous') else '--')
    if axes.get_legend() is not None:
        axes.legend(loc='best')


@in_house_style
def plot_resistance(
    profile: Any, view: str = 'last', ax: Axes | None = None
) -> Axes:
    """Draws the depth-matched causal resistance to each source token.

    Args:
        profile: What ``Profile.to_dict()`` returns, or the profile itself.
        view: ``'last'``, from the last token, or ``'mean'``, from all later.
        ax: Where to draw, a new figure by default.
    """
    part = measured(profile, 'squashing')
    lines = [
        Line(label, ys, look)
        for label, look, side in part.sides
        if (ys := values(side, 'resistance', view))
    ]
    if null := values(part.null, 'resistance', view):
        lines.append(Line('uniform causal', null, 'null'))
    who = 'the last token' if view == 'last' else 'all later tokens'
    frame = Frame(
        f'Seen from {who}', POSITION, 'effective resistance', log_y=True
    )
    return draw_lines(axes_or_new(ax), lines, frame)
