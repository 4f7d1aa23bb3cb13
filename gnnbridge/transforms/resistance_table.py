"""Resistances of all pairs in a graph whose edges change."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from torch import Tensor

from gnnbridge.spectral.resistance import Kind, effective_resistance

# Entries that are changed at a time: they stay in the cache.
_ENTRIES = 1 << 16
# Where less of the current through an edge has other ways than this, taking
# the edge away costs digits, and all is computed anew.
_LITTLE = 1e-2


class ResistanceTable(Protocol):
    """What a rewiring needs to know, and to change.

    Attributes:
        values: The resistance from each target to each source, ``[N, N]``,
            row = source.
        weight: The weights, ``[N, N]``, row = receiver.
        mutual: Whether an edge is one in both directions.
    """

    values: np.ndarray
    weight: Tensor
    mutual: bool

    def add(self, source: int, target: int) -> None:
        """Add an edge of weight 1."""

    def remove(self, source: int, target: int) -> None:
        """Remove an edge."""


class ClassicalTable:
    r"""Those of an undirected network.

    When the conductance between :math:`u` and :math:`v` changes by :math:`c`,

    .. math::
        R_{ij} \mathrel{-}= \frac{c}{1 + c R_{uv}} (x_i - x_j)^2, \qquad
        x_i = \frac{R_{iv} - R_{iu}}{2}

    (Sherman and Morrison), and what the edge joins is in series with it.

    Args:
        weight: The conductances, ``[N, N]`` symmetric.
    """

    mutual = True

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight
        self._start()

    def add(self, source: int, target: int) -> None:
        """Add an edge of weight 1, in both directions."""
        self._change(source, target, 1.0)

    def remove(self, source: int, target: int) -> None:
        """Remove an edge that is not the only way between its ends."""
        self._change(source, target, -float(self.weight[source, target]))

    def _change(self, u: int, v: int, by: float) -> None:
        self.weight[[u, v], [v, u]] += by
        rest = 1 + by * self.values[u, v] if by else 1.0
        if rest == np.inf:
            self._join(u, v)
        elif rest < _LITTLE:
            self._start()
        else:
            self._update(u, v, by / rest)

    def _start(self) -> None:
        values = effective_resistance(self.weight, kind='undirected')
        self.values = values.numpy()

    def _join(self, u: int, v: int) -> None:
        here = np.flatnonzero(np.isfinite(self.values[u]))
        there = np.flatnonzero(np.isfinite(self.values[v]))
        block = np.add.outer(self.values[u, here], self.values[v, there])
        block += 1 / float(self.weight[u, v])
        self.values[np.ix_(here, there)] = block
        self.values[np.ix_(there, here)] = block.T

    def _update(self, u: int, v: int, factor: float) -> None:
        # Other components have no current; infinity minus zero stays.
        reached = np.isfinite(self.values[u])
        x = np.zeros(len(reached))
        x[reached] = (self.values[v, reached] - self.values[u, reached]) / 2
        one = np.ones_like(x)
        left = np.stack([x * x, one, x], axis=1)
        right = factor * np.stack([one, x * x, -2 * x])
        step = max(_ENTRIES // x.size, 1)
        for begin in range(0, x.size, step):
            rows = slice(begin, begin + step)
            self.values[rows] -= left[rows] @ right
        np.fill_diagonal(self.values, 0.0)


class DirectedTable:
    """Those of a digraph, found anew after each change.

    Args:
        weight: The weights, ``[N, N]``, row = receiver.
        kind: The kind of resistance.
        hops: The expected number of hops, if limited.
        mutual: Whether both directions of an edge change.
    """

    def __init__(
        self, weight: Tensor, kind: Kind, hops: float | None, mutual: bool
    ) -> None:
        self.weight, self.kind, self.hops = weight, kind, hops
        self.mutual = mutual
        self._start()

    def add(self, source: int, target: int) -> None:
        """Add an edge of weight 1."""
        self._change(source, target, 1.0)

    def remove(self, source: int, target: int) -> None:
        """Remove an edge."""
        self._change(source, target, 0.0)

    def _change(self, source: int, target: int, to: float) -> None:
        self.weight[target, source] = to
        if self.mutual:
            self.weight[source, target] = to
        self._start()

    def _start(self) -> None:
        values = effective_resistance(
            self.weight, kind=self.kind, hops=self.hops
        )
        # A row for each receiver; its transpose lists edges by their sources.
        self.values = values.T.contiguous().numpy()
