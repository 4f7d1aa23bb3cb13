"""Figures of over-smoothing."""

from __future__ import annotations

from typing import Any, NamedTuple

from matplotlib.axes import Axes

from gnnbridge.report.figures.lines import Frame, Line, draw_lines
from gnnbridge.report.figures.start import axes_or_new, in_house_style
from gnnbridge.report.reading import dig, measured, short_states, values


class Measure(NamedTuple):
    """One measure of how alike tokens are.

    Attributes:
        title: Its title.
        unit: What the vertical axis counts.
        centered: Its name with the mean of the sequence taken off.
    """

    title: str
    unit: str
    centered: str | None = None


MEASURES: dict[str, Measure] = {
    'effective_rank': Measure(
        'Effective rank', 'exp(entropy of singular values)',
        'effective_rank_centered',
    ),
    'stable_rank': Measure(
        'Stable rank', 'sum of squares / largest', 'stable_rank_centered'
    ),
    'rank_collapse': Measure('Distance from equal tokens', 'residual / norm'),
    'mean_cosine': Measure(
        'Mean cosine between tokens', 'cosine', 'mean_cosine_centered'
    ),
    'dirichlet_energy': Measure(
        'Dirichlet energy, own attention', 'of the mean squared norm'
    ),
    'dirichlet_uniform': Measure(
        'Dirichlet energy, uniform graph', 'of the mean squared norm'
    ),
}  # fmt: skip
ABLATIONS = {
    'attention_only': 'attention alone',
    'no_residual': 'no residual',
    'no_mlp': 'no MLP',
}
_STATES = 'state before layer'


@in_house_style
def plot_smoothing(
    profile: Any, quantity: str = 'effective_rank', ax: Axes | None = None
) -> Axes:
    """Draws a measure of likeness over the states, beside its baseline.

    Args:
        profile: What ``Profile.to_dict()`` returns, or the profile itself.
        quantity: A name from :data:`MEASURES`.
        ax: Where to draw, a new figure by default.

    Raises:
        ValueError: If the quantity is not in the profile.
    """
    part = measured(profile, 'smoothing')
    if quantity not in MEASURES or not values(part.model, quantity):
        raise ValueError(
            f"Expected 'quantity' to be one of {', '.join(MEASURES)}, and in "
            f"the profile (got '{quantity}')."
        )
    what = MEASURES[quantity]
    lines = [
        Line(label, ys, look, spread=dig(side, 'spread', quantity))
        for label, look, side in part.sides
        if (ys := values(side, quantity))
    ]
    if what.centered and (ys := values(part.model, what.centered)):
        lines.insert(1, Line('mean taken off', ys, 2))
    null = dig(part.null, quantity.replace('_uniform', '_energy'))
    frame = Frame(
        what.title, _STATES, what.unit,
        ticks=short_states(values(part.model, 'state')),
        level=None if null is None else (null, 'collapsed'),
    )  # fmt: skip
    axes = draw_lines(axes_or_new(ax), lines, frame)
    if null == 0:
        low, high = axes.get_ylim()
        axes.set_ylim(min(low, -0.04 * high), high)
    return axes


@in_house_style
def plot_mixing(profile: Any, ax: Axes | None = None) -> Axes:
    """Draws the share of the attention branch in the stream, per layer."""
    part = measured(profile, 'smoothing')
    lines = [
        Line(label, ys, look, spread=dig(side, 'spread', 'mixing'))
        for label, look, side in part.sides
        if (ys := values(side, 'mixing'))
    ]
    frame = Frame('Mixing', 'layer', 'share of the stream')
    axes = draw_lines(axes_or_new(ax), lines, frame)
    axes.set_ylim(0, 1.03)
    return axes


@in_house_style
def plot_ablations(
    profile: Any, quantity: str = 'effective_rank', ax: Axes | None = None
) -> Axes:
    """Draws what holds tokens apart: the model with parts of it taken out.

    Args:
        profile: What ``Profile.to_dict()`` returns, or the profile itself.
        quantity: ``'effective_rank'``, ``'stable_rank'``,
            ``'rank_collapse'`` or ``'mean_cosine'``.
        ax: Where to draw, a new figure by default.
    """
    part = measured(profile, 'smoothing')
    what = MEASURES[quantity]
    lines = [Line('as it is', values(part.model, quantity), 0)]
    for place, (name, label) in enumerate(ABLATIONS.items(), start=1):
        if ys := values(part.model, 'ablations', name, quantity):
            lines.append(Line(label, ys, place))
    frame = Frame(
        f'{what.title} without parts',
        _STATES,
        what.unit,
        ticks=short_states(values(part.model, 'state')),
    )
    return draw_lines(axes_or_new(ax), lines, frame)
