"""One curve of several profiles on one pair of axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes

from gnnbridge.report.figures.lines import Frame, Line, draw_lines
from gnnbridge.report.figures.start import axes_or_new, in_house_style
from gnnbridge.report.reading import as_dict, by_layer, dig, part, values
from gnnbridge.report.section import Numbers


@dataclass(frozen=True)
class Curve:
    """A curve that can be laid over others.

    Attributes:
        diagnostic: Whose it is.
        path: Where its values are.
        frame: What is said around it.
        x: Where its places are, ``0, 1, 2, ...`` by default.
    """

    diagnostic: str
    path: tuple[str, ...]
    frame: Frame
    x: tuple[str, ...] = ()


_POSITION = 'position of the source token'
_LENGTH = 'length of the sequence'
CURVES = {
    'sink rate': Curve(
        'sinks', ('sink_rate',), Frame('Sink rate', 'layer', 'share of heads')
    ),
    'entropy': Curve(
        'sinks', ('entropy',), Frame('Entropy, head mean', 'layer', 'nats')
    ),
    'effective rank': Curve(
        'smoothing',
        ('effective_rank',),
        Frame('Effective rank', 'state', 'exp(entropy of singular values)'),
    ),
    'mean cosine': Curve(
        'smoothing',
        ('mean_cosine',),
        Frame('Mean cosine between tokens', 'state', 'cosine'),
    ),
    'jacobian': Curve(
        'squashing',
        ('jacobian_last',),
        Frame(
            'Sensitivity of the last token',
            _POSITION,
            'Jacobian norm',
            log_y=True,
        ),
    ),
    'resistance': Curve(
        'squashing',
        ('resistance', 'last'),
        Frame(
            'Resistance from the last token',
            _POSITION,
            'effective resistance',
            log_y=True,
        ),
    ),
    'last token repeated': Curve(
        'collapse',
        ('repeat_last', 'own', 'l1'),
        Frame(
            'Last token repeated',
            _LENGTH,
            'L1 distance',
            log_x=True,
            log_y=True,
        ),
        ('lengths',),
    ),
    'last token replaced': Curve(
        'collapse',
        ('substitute_last', 'own', 'l1'),
        Frame(
            'Last token replaced',
            _LENGTH,
            'L1 distance',
            log_x=True,
            log_y=True,
        ),
        ('lengths',),
    ),
    'influence': Curve(
        'runway',
        ('influence', 'jacobian'),
        Frame('Influence, Jacobian', 'position', 'share of all', log_y=True),
    ),
    'rollout': Curve(
        'runway',
        ('influence', 'rollout'),
        Frame('Influence, rollout', 'position', 'share of all', log_y=True),
    ),
    'key-value': Curve(
        'retrieval',
        ('key_value', 'corrected'),
        Frame(
            'Key-value retrieval', 'place of the binding', 'less absent keys'
        ),
        ('key_value', 'places'),
    ),
    'needle': Curve(
        'retrieval',
        ('needle', 'corrected'),
        Frame('Needle in a text', 'depth of the needle', 'less absent keys'),
        ('needle', 'depths'),
    ),
    'copying': Curve(
        'retrieval',
        ('copying', 'last'),
        Frame('Copying the last item', 'length', 'accuracy'),
        ('copying', 'lengths'),
    ),
}


@in_house_style
def plot_together(
    profiles: Sequence[Any],
    curve: str,
    names: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draws one curve of every profile that has it.

    Args:
        profiles: What ``Profile.to_dict()`` returns, or profiles themselves.
        curve: A name from :data:`CURVES`.
        names: What each is called, ``1, 2, ...`` by default.
        ax: Where to draw, a new figure by default.

    Raises:
        ValueError: If there is no such curve.
    """
    if curve not in CURVES:
        raise ValueError(
            f"Expected 'curve' to be one of {', '.join(CURVES)} (got "
            f"'{curve}')."
        )
    what = CURVES[curve]
    lines = []
    for place, profile in enumerate(profiles):
        name = str(place + 1) if names is None else names[place]
        ys, x = curve_of(profile, what)
        if ys:
            lines.append(Line(name, ys, place, x))
    return draw_lines(axes_or_new(ax), lines, what.frame)


def curve_of(profile: Any, curve: Curve) -> tuple[Numbers, Numbers | None]:
    """Values of a curve and where they are; heads are averaged."""
    found = part(as_dict(profile), curve.diagnostic)
    if found is None:
        return [], None
    ys = dig(found.model, *curve.path) or []
    if ys and isinstance(ys[0], Sequence):
        ys = by_layer(ys)
    if all(y is None for y in ys):
        return [], None
    return ys, values(found.model, *curve.x) if curve.x else None
