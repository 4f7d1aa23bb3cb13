"""Figures of the collapse of the last token's representation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes

from gnnbridge.report.figures.lines import Frame, Line, draw_lines
from gnnbridge.report.figures.start import axes_or_new, in_house_style
from gnnbridge.report.reading import dig, measured, precisions, values
from gnnbridge.report.section import Numbers

PAIRS = {
    'repeat_last': 'last token repeated',
    'substitute_last': 'last token replaced',
}
_UNITS = {
    'l1': 'L1 distance',
    'l2': 'L2 distance',
    'linf': 'largest difference',
    'cosine': '1 − cosine',
}


@in_house_style
def plot_collapse(
    profile: Any,
    pair: str = 'repeat_last',
    measure: str = 'l1',
    ax: Axes | None = None,
) -> Axes:
    """Draws how far two sequences stay apart in their last states.

    Args:
        profile: What ``Profile.to_dict()`` returns, or the profile itself.
        pair: ``'repeat_last'`` or ``'substitute_last'``: how the second
            sequence is made of the first.
        measure: ``'l1'``, ``'l2'``, ``'linf'`` or ``'cosine'``; of the last
            its distance from 1.
        ax: Where to draw, a new figure by default.

    Raises:
        ValueError: If the pair is not in the profile.
    """
    part = measured(profile, 'collapse')
    found = dig(part.model, pair)
    if not isinstance(found, Mapping) or measure not in _UNITS:
        raise ValueError(
            f"Expected 'pair' to be one of {', '.join(PAIRS)} and 'measure' "
            f"one of {', '.join(_UNITS)}, both in the profile (got '{pair}' "
            f"and '{measure}')."
        )
    lengths = values(part.model, 'lengths')
    lines = []
    for label, look, side in part.sides:
        for place, dtype in enumerate(precisions(dig(side, pair))):
            ys = _distances(values(side, pair, dtype, measure), measure)
            if ys:
                lines.append(
                    _line(ys, lengths, f'{label}, {dtype}', (look, place))
                )
    if measure == 'l1' and (fit := _fitted(found, lengths)):
        lines.append(fit)
    if lines and measure != 'cosine':
        lines.append(_falling(lines[0].y, lengths))
    frame = Frame(
        f'{PAIRS[pair].capitalize()}', 'length of the sequence',
        _UNITS[measure], log_x=True, log_y=True,
    )  # fmt: skip
    return draw_lines(axes_or_new(ax), lines, frame)


def _distances(ys: Numbers, measure: str) -> list[float | None]:
    if measure != 'cosine':
        return list(ys)
    return [None if y is None else 1 - y for y in ys]


def _line(
    ys: Numbers, lengths: Numbers, label: str, who: tuple[str, int]
) -> Line:
    """A line of the model's own precision, or of another."""
    look, place = who
    other = 3 if look == 'model' else 4
    return Line(label, ys, look if place == 0 else other, lengths)


def _fitted(found: Mapping[str, Any], lengths: Numbers) -> Line | None:
    """The line of the fitted slope through the middle of the points."""
    slope = dig(found, 'own', 'slope')
    ys = values(found, 'own', 'l1')
    points = [
        (math.log(x), math.log(y))
        for x, y in zip(lengths, ys, strict=False)
        if x and y and y > 0
    ]
    if slope is None or not points:
        return None
    middle_x, middle_y = (
        sum(z) / len(points) for z in zip(*points, strict=True)
    )
    fit = [
        None if not x else math.exp(middle_y + slope * (math.log(x) - middle_x))
        for x in lengths
    ]
    label = f'fit, slope {slope:.2f}'.replace('-', '−')
    return Line(label, fit, 2, lengths)


def _falling(ys: Numbers, lengths: Numbers) -> Line:
    """One over the length, from the first point on."""
    start = next(
        ((x, y) for x, y in zip(lengths, ys, strict=False) if x and y), None
    )
    fall = [
        None if start is None or not x else start[1] * start[0] / x
        for x in lengths
    ]
    return Line('slope −1 (theory)', fall, 'null', lengths)


@in_house_style
def plot_sharpness(profile: Any, ax: Axes | None = None) -> Axes:
    """Draws how well last states of different sequences are told apart."""
    part = measured(profile, 'collapse')
    lines = [
        Line(label, ys, look, values(side, 'sharpness', 'lengths'))
        for label, look, side in part.sides
        if (ys := values(side, 'sharpness', 'nearest_neighbor'))
    ]
    frame = Frame(
        'Nearest of the other sequences', 'length of the sequence',
        'distance / mean distance', log_x=True,
    )  # fmt: skip
    return draw_lines(axes_or_new(ax), lines, frame)
