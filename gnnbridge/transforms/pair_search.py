r"""The best pair of nodes that are not adjacent, without a matrix of pairs.

For scores :math:`s(a_u, a_v)` of one number for each node, symmetric and
convex in each argument. Of any run of sorted numbers one of the ends then has
the largest score, so that pairs come in the order of their scores when both
ends move inwards, and only those that have an edge are looked at in vain.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from gnnbridge.transforms.ties import TOLERANCE

Score = Callable[[float, float], float]
Pair = tuple[int, int]
Neighbors = Mapping[int, set[int]]


def best_free_pair(
    values: np.ndarray,  # shape: [N]
    neighbors: Neighbors,
    score: Score,
) -> Pair | None:
    """The pair ``u < v`` of largest score that has no edge.

    Numbers that are equal up to rounding count as one, and of pairs whose
    scores are equal up to rounding the smallest is taken.

    Args:
        values: A number for each node.
        neighbors: The neighbours of each node.
        score: The score of two numbers, symmetric and convex in each.

    Returns:
        The pair, or ``None`` if all pairs have an edge.
    """
    groups = _Groups(values)
    value = groups.values
    low, high = 0, len(value) - 1
    hits: list[tuple[float, Pair]] = []
    best = floor = -np.inf
    while low <= high:
        ends = score(value[low], value[low]), score(value[high], value[high])
        if max(*ends, score(value[low], value[high])) < floor:
            break
        here = low if ends[0] >= ends[1] else high
        for found, other in _inwards(value, here, (low, high), score):
            if found < floor:
                break
            pair = _first_free(groups[here], groups[other], neighbors)
            if pair is not None:
                hits.append((found, pair))
                best = max(best, found)
                floor = best - TOLERANCE * abs(best)
        low, high = (low + 1, high) if here == low else (low, high - 1)
    return min((pair for found, pair in hits if found >= floor), default=None)


class _Groups:
    """The nodes, by their numbers.

    Attributes:
        values: The distinct numbers, ascending.
    """

    def __init__(self, values: np.ndarray) -> None:
        self._order = values.argsort()
        self.values = values[self._order]
        # One of the ends has the largest modulus.
        gap = TOLERANCE * max(abs(self.values[0]), abs(self.values[-1]))
        apart = self.values[1:] - self.values[:-1] > gap
        self._bounds: np.ndarray | None = None
        if not apart.all():
            begins = np.flatnonzero(apart) + 1
            self._bounds = np.concatenate([[0], begins, [values.size]])
            self.values = self.values[self._bounds[:-1]]

    def __getitem__(self, group: int) -> list[int]:
        """The nodes that have one of the numbers, ascending."""
        if self._bounds is None:
            return [int(self._order[group])]
        begin, end = self._bounds[group : group + 2]
        members: list[int] = self._order[begin:end].tolist()
        members.sort()
        return members


def _inwards(
    values: np.ndarray, here: int, bounds: tuple[int, int], score: Score
) -> Iterator[tuple[float, int]]:
    """The scores of one number with those within bounds, largest first."""
    low, high = bounds
    own = values[here]
    first, last = score(own, values[low]), score(own, values[high])
    while low <= high:
        if first >= last:
            yield first, low
            low += 1
            if low <= high:
                first = score(own, values[low])
        else:
            yield last, high
            high -= 1
            if low <= high:
                last = score(own, values[high])


def _first_free(
    some: list[int], others: list[int], neighbors: Neighbors
) -> Pair | None:
    """The smallest pair ``u < v`` without an edge between two sets.

    The sets are the same, or have no node in common. No more pairs are looked
    at than there are edges, up to one for each node.
    """
    if len(some) == len(others) == 1:
        u, v = sorted((some[0], others[0]))
        return None if u == v or v in neighbors[u] else (u, v)
    from_some = _first_from(some, others, neighbors)
    if some == others:
        return from_some
    from_others = _first_from(others, some, neighbors)
    found = [pair for pair in (from_some, from_others) if pair is not None]
    return min(found, default=None)


def _first_from(
    sources: list[int], targets: list[int], neighbors: Neighbors
) -> Pair | None:
    """The same with the smaller node in the first set."""
    for u in sources:
        for place in range(bisect_right(targets, u), len(targets)):
            if targets[place] not in neighbors[u]:
                return u, targets[place]
    return None
