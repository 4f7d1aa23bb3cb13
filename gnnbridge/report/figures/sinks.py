"""Figures of attention sinks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from gnnbridge.report.canvas import AMBER, BLUE, GREEN, RULE
from gnnbridge.report.figures.bars import draw_bars
from gnnbridge.report.figures.lines import Frame, Line, draw_lines
from gnnbridge.report.figures.maps import Legend, as_array, draw_map, limits_of
from gnnbridge.report.figures.start import axes_or_new, in_house_style
from gnnbridge.report.reading import Part, dig, measured, values


class Quantity(NamedTuple):
    """One map over layers and heads.

    Attributes:
        title: Its title.
        unit: What the colour bar counts.
        limits: The ends of the colour bar; those of the data if ``None``.
        null: Its name in the null, if it has one.
    """

    title: str
    unit: str
    limits: tuple[float, float] | None = None
    null: str | None = None


QUANTITIES: dict[str, Quantity] = {
    'sink_score': Quantity(
        'Sink score', 'attention on token 0', (0.0, 1.0), 'sink_score'
    ),
    'sink_excess': Quantity('Sink excess', 'score less uniform'),
    'entropy': Quantity('Entropy', 'nats', None, 'entropy'),
    'span': Quantity('Span', 'tokens', None, 'span'),
    'inverse_participation': Quantity(
        'Inverse participation', 'sum of squares', (0.0, 1.0),
        'inverse_participation',
    ),
    'value_norm_ratio': Quantity('Value norm of token 0', 'of the mean'),
    'key_norm_ratio': Quantity('Key norm of token 0', 'of the mean'),
}  # fmt: skip
SIDES = {'model': 'this model', 'baseline': 're-initialised'}
KINDS = {
    'none': ('no sink', RULE),
    'no-op': ('no-op sink', BLUE),
    'broadcast': ('broadcast sink', AMBER),
    'unclear': ('unclear sink', GREEN),
}
_RATES = (
    ('sink_rate', 'score > 0.3 (Gu)'),
    ('sink_rate_strict', 'score > 0.8 (Barbero)'),
    ('sink_edge_rate', 'edges > 0.2 (Wu)'),
    ('first_attention_rate', 'largest key (Kaul)'),
)


@in_house_style
def plot_sinks(
    profile: Any,
    quantity: str = 'sink_score',
    side: str = 'model',
    ax: Axes | None = None,
) -> Axes:
    """Draws a quantity of attention by layer and head.

    Args:
        profile: What ``Profile.to_dict()`` returns, or the profile itself.
        quantity: A name from :data:`QUANTITIES`.
        side: ``'model'`` or ``'baseline'``, the re-initialised weights.
        ax: Where to draw, a new figure by default.

    Raises:
        ValueError: If the quantity is not in the profile.
    """
    part = measured(profile, 'sinks')
    rows = map_of(part, quantity, side)
    what = QUANTITIES[quantity]
    mark = None if what.null is None else dig(part.null, what.null)
    legend = Legend(
        title=f'{what.title}, {SIDES[side]}',
        x_label='head',
        y_label='layer',
        value=what.unit,
        limits=what.limits or _shared_limits(part, quantity, mark),
        mark=0.0 if quantity == 'sink_excess' else mark,
    )
    axes = draw_map(axes_or_new(ax), rows, legend)
    _number_layers(axes, values(part.model, 'layer'))
    return axes


def map_of(part: Part, quantity: str, side: str) -> list[Any]:
    """The rows of a map.

    Raises:
        ValueError: If there is none of that name.
    """
    if quantity not in QUANTITIES or side not in SIDES:
        raise ValueError(
            f"Expected 'quantity' to be one of {', '.join(QUANTITIES)} and "
            f"'side' one of {', '.join(SIDES)} (got '{quantity}' and "
            f"'{side}')."
        )
    rows = values(getattr(part, side), quantity)
    if not any(value is not None for row in rows for value in row or ()):
        raise ValueError(
            f"Expected '{quantity}' in the {side} of the profile (got none). "
            'The reasons of its section say why.'
        )
    return [row or [] for row in rows]


def _shared_limits(
    part: Part, quantity: str, mark: float | None
) -> tuple[float, float]:
    """Both maps on one scale, and the null on it."""
    maps = [
        as_array([row or [] for row in values(side, quantity)])
        for _, _, side in part.sides
        if values(side, quantity)
    ]
    marks = [] if mark is None else [np.array([[mark]])]
    zero = [np.zeros((1, 1))]
    return limits_of(*maps, *marks, *zero)


def _number_layers(axes: Axes, layers: list[int]) -> None:
    """Layers as the model numbers them, where these are others."""
    if layers != list(range(len(layers))):
        step = -(-len(layers) // 8)
        axes.set_yticks(
            range(0, len(layers), step), [str(x) for x in layers[::step]]
        )


@in_house_style
def plot_sink_rates(profile: Any, ax: Axes | None = None) -> Axes:
    """Draws the shares of sinks per layer, by four definitions."""
    part = measured(profile, 'sinks')
    lines = [
        Line(label, values(part.model, name), place)
        for name, label, place in zip(
            *zip(*_RATES, strict=True), (0, 2, 3, 4), strict=True
        )
        if values(part.model, name)
    ]
    if again := values(part.baseline, 'sink_rate'):
        lines.append(Line('re-initialised (Gu)', again, 'reinitialised'))
    frame = Frame('Sinks per layer', 'layer', 'share', ticks=_ticks(part))
    axes = draw_lines(axes_or_new(ax), lines, frame)
    axes.set_ylim(-0.03, 1.03)
    return axes


def _ticks(part: Part) -> list[str]:
    return [str(layer) for layer in values(part.model, 'layer')]


@in_house_style
def plot_sinks_by_token(profile: Any, ax: Axes | None = None) -> Axes:
    """Draws the share of heads that have their sink at each first token."""
    part = measured(profile, 'sinks')
    lines = [
        Line(label, rates, look)
        for label, look, side in part.sides
        if (rates := values(side, 'sink_rate_by_token'))
    ]
    frame = Frame('Where the sinks are', 'token', 'share of heads')
    axes = draw_lines(axes_or_new(ax), lines, frame)
    axes.set_ylim(-0.03, 1.03)
    return axes


@in_house_style
def plot_massive(profile: Any, ax: Axes | None = None) -> Axes:
    """Draws how far the states of the first token stand out, per layer."""
    part = measured(profile, 'sinks')
    lines = []
    for _, kind, side in part.sides:
        mark = '' if kind == 'model' else ', re-initialised'
        for place, (name, label) in enumerate(
            (
                ('state_norm_ratio', 'norm of token 0 / mean'),
                ('massive_ratio', 'largest / median activation'),
            )
        ):
            if rates := values(side, name):
                look = 2 * place if kind == 'model' else 3 + place
                lines.append(Line(label + mark, rates, look))
    frame = Frame(
        'States entering each layer', 'layer', 'ratio', log_y=True,
        ticks=_ticks(part),
    )  # fmt: skip
    return draw_lines(axes_or_new(ax), lines, frame)


@in_house_style
def plot_head_kinds(profile: Any, ax: Axes | None = None) -> Axes:
    """Draws which heads sink into nothing and which broadcast, by layer."""
    part = measured(profile, 'sinks')
    kinds = values(part.model, 'head_kind')
    names = _ticks(part)
    groups = [
        Line(label, [row.count(kind) for row in kinds])
        for kind, (label, _) in KINDS.items()
    ]
    axes = draw_bars(
        axes_or_new(ax), names, [],
        Frame('Kinds of heads', 'heads', 'layer'),
    )  # fmt: skip
    start = np.zeros(len(names))
    for group, (_, color) in zip(groups, KINDS.values(), strict=True):
        lengths = np.array(group.y, float)
        axes.barh(
            range(len(names)), lengths, 0.7, left=start, color=color,
            label=group.label,
        )  # fmt: skip
        start = start + lengths
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    step = -(-len(names) // 12)
    axes.set_yticks(range(0, len(names), step), names[::step])
    axes.legend(loc='best')
    return axes


def counts(part: Part) -> Mapping[str, int]:
    """How many heads there are of each kind."""
    rows = values(part.model, 'head_kind')
    return {kind: sum(row.count(kind) for row in rows) for kind in KINDS}
