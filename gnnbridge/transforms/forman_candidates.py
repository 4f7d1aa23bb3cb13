"""What each missing edge around an edge would make of its curvature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from gnnbridge.curvature.balanced_forman import balanced_forman_of_counts
from gnnbridge.transforms.neighbor_sets import Edge, NeighborSets


class Candidates(NamedTuple):
    """Missing edges, in lexicographic order.

    Attributes:
        u: Their first nodes, ``[C]``; the smaller ones without directions.
        v: Their second nodes.
        value: What the balanced Forman curvature of the edge that they are
            candidates for would be with each of them.
    """

    u: np.ndarray
    v: np.ndarray
    value: np.ndarray


def candidates(neighbors: NeighborSets, edge: Edge) -> Candidates:
    """The edges missing from the ball before one end to that after the other.

    Each ball is a node with its neighbours.
    """
    x, y = edge
    k = np.array(sorted(neighbors.before[x] | {x}))
    l = np.array(sorted(neighbors.after[y] | {y}))
    there = _edges_between(neighbors, k, l)
    rows, columns = (~there & (k[:, None] != l)).nonzero()
    u, v = k[rows], l[columns]
    if u.size == 0:
        return Candidates(u, v, np.zeros(0))
    value = _values(neighbors, edge, there, k, l)[rows, columns]
    if not neighbors.directed:
        u, v = np.minimum(u, v), np.maximum(u, v)
    # Two common neighbours are there both ways round.
    _, place = np.unique(u * len(neighbors.after) + v, return_index=True)
    return Candidates(u[place], v[place], value[place])


def _edges_between(
    neighbors: NeighborSets, k: np.ndarray, l: np.ndarray
) -> np.ndarray:
    """Whether there is an edge from each `k` to each `l`, ``[K, L]``."""
    there = np.zeros((k.size, l.size), dtype=bool)
    column = {node: place for place, node in enumerate(l.tolist())}
    for row, node in enumerate(k.tolist()):
        found = neighbors.after[node] & column.keys()
        there[row, [column[other] for other in found]] = True
    return there


def _values(
    neighbors: NeighborSets,
    edge: Edge,
    there: np.ndarray,
    k: np.ndarray,
    l: np.ndarray,
) -> np.ndarray:  # shape: [K, L]
    """The curvature of an edge with an edge from each `k` to each `l`."""
    x, y = edge
    into, out = neighbors.before[x], neighbors.after[y]
    only_x = np.isin(k, list(into - out - {y}))
    only_y = np.isin(l, list(out - into - {x}))
    around = _Around(
        squares=there[only_x][:, only_y],
        degrees=(len(into), len(out)),
        triangles=len(into & out),
    )
    # Other edges are no part of the formula, and change nothing.
    value = np.full(there.shape, around.curvature())
    value[np.ix_(only_x, only_y)] = around.with_square()
    if not neighbors.directed:
        value[np.ix_(k == x, only_y)] = around.with_triangle()
        value[np.ix_(only_x, l == y)] = around.swapped().with_triangle()[
            :, None
        ]
    return value


@dataclass(frozen=True)
class _Around:
    """What the formula counts around an edge between `x` and `y`.

    Attributes:
        squares: Whether a neighbour of `x` alone and one of `y` alone are
            adjacent, ``[X, Y]``.
        degrees: The numbers of neighbours of `x` and of `y`.
        triangles: The number of common neighbours.
    """

    squares: np.ndarray
    degrees: Edge
    triangles: int

    def swapped(self) -> _Around:
        """The same from the other end."""
        d_x, d_y = self.degrees
        return _Around(self.squares.T, (d_y, d_x), self.triangles)

    def curvature(self) -> np.ndarray:
        """The curvature as it is."""
        of_x, of_y = self.squares.sum(1), self.squares.sum(0)
        return balanced_forman_of_counts(
            *self.degrees,
            triangles=self.triangles,
            squares=np.count_nonzero(of_x) + np.count_nonzero(of_y),
            gamma=max(of_x.max(initial=0), of_y.max(initial=0)),
        )

    def with_square(self) -> np.ndarray:
        """With an edge where there is none in `squares`, ``[X, Y]``."""
        of_x, of_y = self.squares.sum(1)[:, None], self.squares.sum(0)
        largest = max(of_x.max(initial=0), of_y.max(initial=0))
        total = np.count_nonzero(of_x) + np.count_nonzero(of_y)
        return balanced_forman_of_counts(
            *self.degrees,
            triangles=self.triangles,
            squares=total + (of_x == 0) + (of_y == 0),
            gamma=np.maximum(np.maximum(of_x, of_y) + 1, largest),
        )

    def with_triangle(self) -> np.ndarray:
        """With an edge from `x` to each neighbour of `y` alone, ``[Y]``.

        That neighbour is then a common one, and its squares are gone.
        """
        of_y = self.squares.sum(0)
        of_x = self.squares.sum(1)[:, None] - self.squares
        second, first = np.sort(np.append(of_y, [0, 0]))[-2:]
        others = np.where(of_y == first, second, first)
        squares = np.count_nonzero(of_x, axis=0)
        d_x, d_y = self.degrees
        return balanced_forman_of_counts(
            d_x + 1,
            d_y,
            triangles=self.triangles + 1,
            squares=squares + np.count_nonzero(of_y) - (of_y > 0),
            gamma=np.maximum(of_x.max(0, initial=0), others),
        )
