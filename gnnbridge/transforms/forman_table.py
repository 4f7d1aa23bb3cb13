"""Balanced Forman curvature of a graph whose edges change one at a time."""

from __future__ import annotations

from collections import Counter
from itertools import chain

import numpy as np
import torch

from gnnbridge.curvature.balanced_forman import (
    balanced_forman,
    balanced_forman_of_counts,
)
from gnnbridge.transforms.neighbor_sets import Edge, NeighborSets

#: What curvatures that are equal on paper may differ by. They are sums of
#: fractions of the order of one, and may themselves be zero: the difference
#: is not relative to them.
ROUNDING = 1e-9


class FormanTable:
    """The curvature of each edge, kept up to date.

    An edge that comes or goes changes the curvature of the edges at its own
    ends, and of those opposite to it in a square. Theirs without squares,
    which is a lower bound, is found at once, and the squares are counted only
    where the bound is among the lowest values: around a node of many edges
    that is rarely so.

    Args:
        neighbors: The graph, from here on to be changed by the table alone.

    Attributes:
        edges: The edges, in no particular order.
    """

    def __init__(self, neighbors: NeighborSets) -> None:
        self.neighbors = neighbors
        edges = neighbors.edges()
        self.edges: list[Edge] = list(zip(*edges.tolist(), strict=True))
        self._row = {edge: row for row, edge in enumerate(self.edges)}
        self._value = _whole_graph(neighbors, edges)
        # Where the value is a bound.
        self._open = np.zeros(self._value.size, dtype=bool)
        # Without a candidate when last looked at.
        self._full = np.zeros(self._value.size, dtype=bool)

    def least(self) -> float:
        """The least curvature; NaN in a graph without edges."""
        rows = self._lowest(np.zeros_like(self._full))
        return float(self._value[rows].min()) if rows.size > 0 else np.nan

    def bottleneck(self) -> Edge | None:
        """The edge of least curvature of those that are not full."""
        rows = self._lowest(self._full)
        return min((self.edges[row] for row in rows), default=None)

    def most_curved(
        self, bound: float, *, other_than: Edge | None
    ) -> Edge | None:
        """The edge of largest curvature above a bound, but for one edge."""
        self._count_squares(np.flatnonzero(self._open))
        value = self._value.copy()
        if other_than is not None:
            value[self._row[other_than]] = -np.inf
        largest = value.max(initial=-np.inf)
        if largest <= bound + ROUNDING:
            return None
        rows = np.flatnonzero(value >= largest - ROUNDING)
        return min(self.edges[row] for row in rows)

    def mark_full(self, edge: Edge) -> None:
        """Leave an edge out of `bottleneck` until it may have candidates."""
        self._full[self._row[edge]] = True

    def add(self, u: int, v: int) -> None:
        """Add an edge."""
        self.neighbors.add(u, v)
        edge = self.neighbors.name(u, v)
        self._row[edge] = len(self.edges)
        self.edges.append(edge)
        self._value = np.append(self._value, 0.0)
        self._open = np.append(self._open, True)
        self._full = np.append(self._full, False)
        self._bound({edge} | self._around(u, v))

    def remove(self, u: int, v: int) -> None:
        """Remove an edge."""
        self.neighbors.remove(u, v)
        row, last = self._row.pop((u, v)), self.edges.pop()
        if last != (u, v):
            self.edges[row], self._row[last] = last, row
            self._value[row] = self._value[-1]
            self._open[row] = self._open[-1]
        self._value, self._open = self._value[:-1], self._open[:-1]
        # It has become a candidate itself.
        self._full = np.zeros_like(self._open)
        self._bound(self._around(u, v))

    def _lowest(self, left_out: np.ndarray) -> np.ndarray:
        """The rows of least curvature, among those that are not left out."""
        while True:
            value = np.where(left_out, np.inf, self._value)
            least = value.min(initial=np.inf)
            rows = np.flatnonzero((value <= least + ROUNDING) & ~left_out)
            bounds = rows[self._open[rows]]
            if bounds.size == 0:
                return rows
            self._count_squares(bounds)

    def _around(self, k: int, l: int) -> set[Edge]:
        """What the edge from `k` to `l` has a part in."""
        before, after = self.neighbors.before, self.neighbors.after
        name = self.neighbors.name
        edges = {name(l, v) for v in after[l]}
        edges.update(name(u, k) for u in before[k])
        for u in after[k]:
            edges.update(name(u, v) for v in after[u] & before[l])
        return edges

    def _bound(self, edges: set[Edge]) -> None:
        """Replace curvatures by lower bounds."""
        before, after = self.neighbors.before, self.neighbors.after
        rows = [self._row[edge] for edge in edges]
        counts = [
            (len(before[u]), len(after[v]), len(before[u] & after[v]))
            for u, v in edges
        ]
        d_u, d_v, triangles = np.array(counts).reshape(-1, 3).T
        self._value[rows] = balanced_forman_of_counts(
            d_u, d_v, triangles=triangles, squares=0, gamma=0
        )
        self._open[rows] = True
        self._full[rows] = False

    def _count_squares(self, rows: np.ndarray) -> None:
        """Replace bounds by curvatures."""
        counts = [self._counts(*self.edges[row]) for row in rows]
        d_u, d_v, triangles, squares, gamma = np.array(counts).reshape(-1, 5).T
        self._value[rows] = balanced_forman_of_counts(
            d_u, d_v, triangles=triangles, squares=squares, gamma=gamma
        )
        self._open[rows] = False

    def _counts(self, u: int, v: int) -> tuple[int, int, int, int, int]:
        """The numbers that the formula takes."""
        into_u, from_v = self.neighbors.before[u], self.neighbors.after[v]
        near, far = into_u - from_v, from_v - into_u
        triangles = len(into_u) - len(near)
        near.discard(v)
        far.discard(u)
        step = self.neighbors.after
        if len(near) > len(far):
            near, far, step = far, near, self.neighbors.before
        partners = [found for k in near if (found := step[k] & far)]
        others = Counter(chain.from_iterable(partners)).values()
        squares = len(partners) + len(others)
        gamma = max([*map(len, partners), *others], default=0)
        return len(into_u), len(from_v), triangles, squares, gamma


def _whole_graph(neighbors: NeighborSets, edges: np.ndarray) -> np.ndarray:
    given = torch.from_numpy(edges)
    if not neighbors.directed:
        given = torch.cat([given, given.flip(0)], dim=1)
    values = balanced_forman(
        given,
        num_nodes=len(neighbors.after),
        directed=neighbors.directed,
    )
    return values[: edges.shape[1]].numpy()
