"""Figures of the runway: what a token's place in the sequence gives it."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes

from gnnbridge.report.extracts import null_asymmetry
from gnnbridge.report.figures.bars import draw_bars
from gnnbridge.report.figures.lines import Frame, Line, draw_lines
from gnnbridge.report.figures.start import axes_or_new, in_house_style
from gnnbridge.report.reading import dig, measured, values
from gnnbridge.report.section import Numbers

INFLUENCES = {
    'jacobian': 'Jacobian',
    'rollout': 'rollout',
    'received_attention': 'received attention',
    'birth': 'at birth',
    'path_count': 'path count',
}
# Whose baseline is drawn, if it is there.
_AGAIN = ('jacobian', 'rollout')
_LOOKS: dict[str, str | int] = {
    'jacobian': 0,
    'rollout': 2,
    'received_attention': 3,
    'birth': 4,
}


@in_house_style
def plot_influence(profile: Any, ax: Axes | None = None) -> Axes:
    """Draws the influence of each position on the last token.

    In units of an even share, one over the length: curves of different
    lengths are then laid over each other from their first to their last
    token.
    """
    part = measured(profile, 'runway')
    found = {
        (INFLUENCES[name], look): values(part.model, 'influence', name)
        for name, look in _LOOKS.items()
    }
    which = next(
        (n for n in _AGAIN if values(part.baseline, 'influence', n)), _AGAIN[0]
    )
    again = f'{INFLUENCES[which]}, re-initialised'
    found[again, 'reinitialised'] = values(part.baseline, 'influence', which)
    found['uniform causal', 'null'] = values(part.null, 'birth')
    curves = {key: ys for key, ys in found.items() if ys}
    together = len({len(ys) for ys in curves.values()}) < 2
    lines = [
        Line(label, _even(ys), look, None if together else _places(ys))
        for (label, look), ys in curves.items()
    ]
    frame = Frame(
        'Influence by position',
        'position' if together else 'position, first to last token',
        'of an even share',
        log_y=True,
    )
    return draw_lines(axes_or_new(ax), lines, frame)


def _even(ys: Numbers) -> list[float | None]:
    return [None if y is None else y * len(ys) for y in ys]


def _places(ys: Numbers) -> list[float]:
    return [place / max(len(ys) - 1, 1) for place in range(len(ys))]


@in_house_style
def plot_runway(profile: Any, ax: Axes | None = None) -> Axes:
    """Draws how many paths lead from each position to the last token."""
    part = measured(profile, 'runway')
    lines = [Line('paths', values(part.model, 'path_count_log10'), 'model')]
    frame = Frame('Paths to the last token', 'position', 'log10 of their count')
    return draw_lines(axes_or_new(ax), lines, frame)


@in_house_style
def plot_opportunities(profile: Any, ax: Axes | None = None) -> Axes:
    """Draws each position's share of the chances to be refined."""
    part = measured(profile, 'runway')
    lines = [
        Line(label, ys, look)
        for label, look, side in part.sides
        if (ys := values(side, 'opportunities'))
    ]
    frame = Frame('Refinement opportunities', 'position', 'fraction of all')
    return draw_lines(axes_or_new(ax), lines, frame)


@in_house_style
def plot_asymmetry(profile: Any, ax: Axes | None = None) -> Axes:
    """Draws the logarithm of first over last tenth, for each influence."""
    part = measured(profile, 'runway')
    names = [
        name for name in INFLUENCES
        if dig(part.model, 'asymmetry', name) is not None
    ]  # fmt: skip
    groups = [
        Line('this model', [part.model['asymmetry'][name] for name in names])
    ]
    if dig(part.baseline, 'asymmetry'):
        again = [dig(part.baseline, 'asymmetry', name) for name in names]
        groups.append(Line('re-initialised', again, 'reinitialised'))
    null = null_asymmetry(part.null)
    if null is not None:
        groups.append(Line('uniform causal', [null] * len(names), 'null'))
    frame = Frame('Runway asymmetry', 'log(first tenth / last tenth)', '')
    axes = axes_or_new(ax, left=1.3)
    return draw_bars(axes, [INFLUENCES[n] for n in names], groups, frame)


@in_house_style
def plot_noise(profile: Any, ax: Axes | None = None) -> Axes:
    """Draws accuracy by place with noise on the embeddings."""
    part = measured(profile, 'runway')
    sigmas = values(part.model, 'noise', 'sigmas')
    lines = [
        Line(f'σ = {sigma:g}', row, place)
        for place, (sigma, row) in enumerate(
            zip(sigmas, values(part.model, 'noise', 'accuracy'), strict=True)
        )
    ]
    frame = Frame('Accuracy under noise', 'place of the binding', 'accuracy')
    axes = draw_lines(axes_or_new(ax), lines, frame)
    axes.set_ylim(-0.03, 1.03)
    return axes
