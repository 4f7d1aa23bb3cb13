"""Ranks within groups, ties by order."""

from __future__ import annotations

import numpy as np

from gnnbridge.transforms.ties import TOLERANCE


def rank_within(
    score: np.ndarray,  # shape: [M]
    group: np.ndarray | None = None,  # shape: [M]
) -> np.ndarray:  # shape: [M]
    """The rank of each entry in its group, that of the smallest score 0.

    Scores that follow one another within the relative tolerance of the tie
    rule count as equal, and rank in the order in which they are given.
    """
    if group is None:
        group = np.zeros(score.size, dtype=np.int64)
    order = score.argsort()
    order = order[_stable(group[order])]
    value, owner = score[order], group[order]
    size = np.abs(value)
    gap = TOLERANCE * np.maximum(size[1:], size[:-1])
    starts = np.ones(score.size, dtype=bool)
    starts[1:] = owner[1:] != owner[:-1]
    begins = starts.copy()
    begins[1:] |= value[1:] - value[:-1] > gap
    # Equal scores are of one group, so the groups stay where they are.
    tied = ~begins
    tied[:-1] |= tied[1:]
    some = order[tied]
    order[tied] = some[np.lexsort((some, begins.cumsum()[tied]))]
    place = np.arange(score.size)
    rank = np.empty(score.size, dtype=np.int64)
    rank[order] = place - np.maximum.accumulate(np.where(starts, place, 0))
    return rank


def _stable(group: np.ndarray) -> np.ndarray:
    """The order by group; a radix sort if the groups are few."""
    if group.max(initial=0) < 1 << 16:
        group = group.astype(np.uint16)
    return group.argsort(kind='stable')
