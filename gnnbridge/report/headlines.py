"""The numbers by which models are compared, a few for each diagnostic."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gnnbridge.report.extracts import (
    asymmetry,
    chance_of,
    null_asymmetry,
    precision_length,
    share_of_sinks,
    total_accuracy,
    weakest_share,
)
from gnnbridge.report.reading import Part, by_layer, dig, flat, part, values
from gnnbridge.report.rules.sinks import SINK_SCORE
from gnnbridge.report.section import last, mean, numeral, percent, whole

Side = Mapping[str, Any]
Value = Callable[[Side], float | None]


@dataclass(frozen=True)
class Headline:
    """One number of a diagnostic.

    Attributes:
        label: Its name.
        value: What a model or its baseline has.
        null: What it would be if nothing were learned.
        write: How it is written.
        better: ``'more'``, ``'less'``, ``'near 0'``, or ``''`` where neither
            is.
        limits: The ends of its scale, where they are known.
    """

    label: str
    value: Value
    null: Callable[[Part], float | None] = lambda _: None
    write: Callable[[float | None], str] = numeral
    better: str = ''
    limits: tuple[float, float] | None = None


@dataclass(frozen=True)
class Found:
    """A headline with its numbers.

    Attributes:
        headline: What it is.
        model: The model's.
        baseline: That of the re-initialised weights.
        null: That of the null.
    """

    headline: Headline
    model: float | None
    baseline: float | None
    null: float | None


def headlines(profile: Any, name: str) -> list[Found]:
    """The numbers of one diagnostic, the first of which stands for it."""
    found = part(profile, name)
    if found is None:
        return []
    return [
        Found(
            headline,
            headline.value(found.model),
            headline.value(found.baseline),
            headline.null(found) if found.model else None,
        )
        for headline in HEADLINES[name]
    ]


def _at(*path: str) -> Value:
    return lambda side: dig(side, *path)


def _null(name: str) -> Callable[[Part], float | None]:
    return lambda found: dig(found.null, name)


def _end_of(*path: str) -> Value:
    return lambda side: last(values(side, *path))


def _mean_of(*path: str) -> Value:
    return lambda side: mean(values(side, *path))


def _layers_of(name: str) -> Value:
    return lambda side: mean(by_layer(side.get(name)))


def _mean_score(side: Side) -> float | None:
    return mean(flat(side.get('sink_score')))


def _null_share(found: Part) -> float | None:
    score = dig(found.null, 'sink_score')
    return None if score is None else float(score > SINK_SCORE)


def _null_weakest(found: Part) -> float | None:
    return weakest_share(found.null)


def _null_asymmetry(found: Part) -> float | None:
    return null_asymmetry(found.null)


def _chance(task: str) -> Callable[[Part], float | None]:
    return lambda found: chance_of(task, found.model, found.null)


def _length(value: float | None) -> str:
    return 'not reached' if value == math.inf else whole(value)


_SINKS = (
    Headline(
        'heads that sink', share_of_sinks, _null_share, percent, 'less', (0, 1)
    ),
    Headline(
        'mean sink score',
        _mean_score,
        _null('sink_score'),
        better='less',
        limits=(0, 1),
    ),
    Headline(
        'entropy of attention, nats', _layers_of('entropy'), _null('entropy')
    ),
    Headline(
        'distance of attention, tokens', _layers_of('span'), _null('span')
    ),
)
_SMOOTHING = (
    Headline(
        'effective rank at the end',
        _end_of('effective_rank'),
        _null('effective_rank'),
        better='more',
    ),
    Headline(
        'mean cosine at the end',
        _end_of('mean_cosine'),
        _null('mean_cosine'),
        better='less',
        limits=(0, 1),
    ),
    Headline(
        'distance from equal tokens at the end',
        _end_of('rank_collapse'),
        _null('rank_collapse'),
        better='more',
        limits=(0, 1),
    ),
    Headline('mean mixing', _mean_of('mixing')),
)
_SQUASHING = (
    Headline(
        'weakest tenth, of the median sensitivity',
        weakest_share,
        _null_weakest,
        better='more',
        limits=(0, 1),
    ),
    Headline(
        'rollout against Jacobian, Spearman', _at('proxies', 'rollout', 'all')
    ),
    Headline(
        'pairs beyond the depth',
        _at('under_reach', 'beyond_depth_share'),
        write=percent,
        better='less',
    ),
    Headline('hops of a signal', _at('resistance', 'hops')),
)
_COLLAPSE = (
    Headline(
        'slope, last token repeated',
        _at('repeat_last', 'own', 'slope'),
        _null('slope'),
        better='more',
        limits=(-1.25, 0),
    ),
    Headline(
        'slope, last token replaced',
        _at('substitute_last', 'own', 'slope'),
        better='more',
    ),
    Headline(
        'distance at the longest, L1',
        _end_of('repeat_last', 'own', 'l1'),
        better='more',
    ),
    Headline(
        'bfloat16 cannot tell from length',
        precision_length,
        write=_length,
        better='more',
    ),
)
_RUNWAY = (
    Headline(
        'asymmetry, log of first / last tenth',
        asymmetry,
        _null_asymmetry,
        better='near 0',
    ),
    Headline(
        'asymmetry of the rollout',
        _at('asymmetry', 'rollout'),
        _null_asymmetry,
        better='near 0',
    ),
    Headline(
        'first over last binding of a key',
        _at('duplicate_key', 'preferred', 'first_last'),
        better='near 0',
    ),
)
_RETRIEVAL = (
    Headline(
        'key-value accuracy',
        total_accuracy,
        _chance('key_value'),
        percent,
        'more',
        (0, 1),
    ),
    Headline(
        'depth of the U, key-value', _at('key_value', 'u_depth'), better='less'
    ),
    Headline(
        'needle accuracy',
        _mean_of('needle', 'accuracy'),
        _chance('needle'),
        percent,
        'more',
        (0, 1),
    ),
    Headline(
        'copying the last item, longest',
        _end_of('copying', 'last'),
        _chance('copying'),
        percent,
        'more',
        (0, 1),
    ),
    Headline(
        'counting, longest',
        _end_of('counting', 'accuracy'),
        _chance('counting'),
        percent,
        'more',
        (0, 1),
    ),
)
HEADLINES: dict[str, Sequence[Headline]] = {
    'sinks': _SINKS,
    'smoothing': _SMOOTHING,
    'squashing': _SQUASHING,
    'collapse': _COLLAPSE,
    'runway': _RUNWAY,
    'retrieval': _RETRIEVAL,
}
