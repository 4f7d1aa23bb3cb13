"""Whether an edge can go without cutting its ends off from each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Neighbors = Mapping[int, set[int]] | Sequence[set[int]]


def is_only_way(
    u: int, v: int, after: Neighbors, before: Neighbors | None = None
) -> bool:
    """Whether the edge from `u` to `v` is the only way from `u` to `v`.

    If it is not, every node still reaches all that it reached when the edge
    is removed. Searched for from both ends at a time, on the side with less to
    look at, so that an edge with a short way round costs little, and so does
    one that cuts off a small part.

    Args:
        u: The source.
        v: The target.
        after: The nodes with an edge from each node.
        before: The nodes with an edge into each node; the same ones, in an
            undirected graph, if not given.
    """
    maps = after, after if before is None else before
    seen = [maps[0][u] - {v} | {u}, maps[1][v] - {u} | {v}]
    fronts = [seen[0] - {u}, seen[1] - {v}]
    while seen[0].isdisjoint(seen[1]):
        side = 0 if len(fronts[0]) <= len(fronts[1]) else 1
        reached: set[int] = set()
        for node in fronts[side]:
            reached |= maps[side][node]
        fronts[side] = reached - seen[side]
        if not fronts[side]:
            return True
        seen[side] |= fronts[side]
    return False
