"""Single numbers out of a diagnostic: what its curves come down to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, NamedTuple

from gnnbridge.report.reading import dig, values
from gnnbridge.report.section import Numbers, mean, median

Side = Mapping[str, Any]
# Fewer positions do not make ten tenths.
_LEAST_POSITIONS = 10


class Tenth(NamedTuple):
    """A tenth of the positions before the last token.

    Attributes:
        first: Its first position.
        last: Its last position.
        share: Its mean over the median of all positions.
    """

    first: int
    last: int
    share: float


def share_of_sinks(side: Side) -> float | None:
    """The share of all heads that are sinks.

    The rate of each layer is weighed with the number of its heads.
    """
    rates, scores = values(side, 'sink_rate'), values(side, 'sink_score')
    heads = [len(row or ()) or 1 for row in scores] or [1] * len(rates)
    there = [
        (rate, count)
        for rate, count in zip(rates, heads, strict=False)
        if rate is not None
    ]
    total = sum(count for _, count in there)
    return sum(r * n for r, n in there) / total if total else None


def weakest_tenth(curve: Numbers) -> Tenth | None:
    """Where a curve over positions is lowest.

    Tenths of the positions are compared and not single ones, which are noisy;
    the last token itself is left out.

    Args:
        curve: A value per position.

    Returns:
        ``None`` below ten positions, or where the curve is zero.
    """
    before = list(curve)[:-1]
    level = median(before)
    if len(before) < _LEAST_POSITIONS or not level:
        return None
    edges = [round(step * len(before) / 10) for step in range(11)]
    tenths = []
    for start, end in pairwise(edges):
        value = mean(before[start:end])
        if value is not None:
            tenths.append(Tenth(start, end - 1, value / level))
    return min(tenths, key=lambda tenth: tenth.share, default=None)


def weakest_share(side: Side) -> float | None:
    """The sensitivity to the weakest tenth over that to the median."""
    found = weakest_tenth(values(side, 'jacobian_last'))
    return None if found is None else found.share


def asymmetry(side: Side) -> float | None:
    """The runway asymmetry: the Jacobian's, or the rollout's without it."""
    found = dig(side, 'asymmetry') or {}
    jacobian = found.get('jacobian')
    return found.get('rollout') if jacobian is None else jacobian


def null_asymmetry(null: Side) -> float | None:
    """The asymmetry of uniform attention."""
    found = dig(null, 'asymmetry')
    return dig(found, 'birth') if isinstance(found, Mapping) else found


def total_accuracy(side: Side) -> float | None:
    """The share of key-value questions that were answered rightly."""
    found = dig(side, 'key_value', 'total_accuracy')
    return (
        mean(values(side, 'key_value', 'accuracy')) if found is None else found
    )


def precision_length(side: Side, pair: str = 'repeat_last') -> float | None:
    """The length from which bfloat16 cannot tell a pair apart.

    Returns:
        Infinity where it always can, ``None`` where that was not measured.
    """
    found = dig(side, pair, 'bfloat16')
    if not isinstance(found, Mapping):
        return None
    reached = found.get('reaches_precision_at')
    return math.inf if reached is None else reached


def chance_of(task: str, *sides: Side) -> float | None:
    """How often a guess is right, from the first side that says so."""
    for side in sides:
        for path in ((task, 'chance'), (task,), ('chance', task), ('chance',)):
            found = dig(side, *path)
            if isinstance(found, int | float):
                return float(found)
    return None
