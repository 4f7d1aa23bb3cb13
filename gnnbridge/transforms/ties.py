"""The tie rule: of picks that are equally good, the smallest pair.

Scores of symmetric graphs are equal on paper and differ by rounding, so the
largest of them is a matter of chance. Here scores count as equal up to a
relative difference, and the pair that comes first in lexicographic order is
taken.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

#: Relative difference up to which two scores count as equal.
TOLERANCE = 1e-9


def smallest_best(
    score: Tensor,  # shape: [N, N]
    scale: float | None = None,
) -> tuple[int, int] | None:
    """The first entry of a matrix, row by row, that is largest.

    Args:
        score: The scores, minus infinity where there is no candidate.
        scale: What the tolerance is relative to; the largest score if not
            given.

    Returns:
        The row and the column, or ``None`` if there is no candidate.
    """
    best = float(score.max()) if score.numel() > 0 else -np.inf
    if best == -np.inf:
        return None
    slack = TOLERANCE * abs(best if scale is None else scale)
    place = int((score >= best - slack).flatten().int().argmax())
    u, v = divmod(place, score.size(1))
    return u, v


def level(values: np.ndarray) -> np.ndarray:
    """The values, with those that are equal up to rounding made equal.

    Sorted values that follow one another within the tolerance, relative to
    the largest, are replaced by the smallest of them. Scores computed from
    such values tie exactly where they should.
    """
    if values.size == 0:
        return values
    order = values.argsort(kind='stable')
    ranked = values[order]
    gap = TOLERANCE * np.abs(values).max()
    begins = np.concatenate([[True], np.diff(ranked) > gap])
    out = np.empty_like(values)
    out[order] = ranked[begins][begins.cumsum() - 1]
    return out
