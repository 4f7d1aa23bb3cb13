r"""The missing edge that carries most of the cost of transport along an edge.

Optimal plans are many, and which of them a solver finds is a matter of its
steps. One best potential :math:`f` tells them all: a plan is optimal if and
only if it moves mass over tight pairs alone, those with
:math:`f(p) - f(q) = d(p, q)`. From any optimal plan the others are reached by
cycles over tight pairs, and so the most that one pair can carry is a maximum
flow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import breadth_first_order, maximum_flow

from gnnbridge.transforms.neighbor_sets import Edge, NeighborSets


def costliest_pair(neighbors: NeighborSets, edge: Edge) -> Edge | None:
    """The pair without an edge that has the largest mass times distance.

    Over all optimal plans, from the measure before the edge to that after
    it, that leave in place what the two share. Of equals the smallest pair.

    Returns:
        The pair, or ``None`` if no plan moves mass over one without an edge.
    """
    transport = _transport(neighbors, edge)
    distance = np.where(transport.tight, transport.distance, 0)
    rows, columns = (distance > 1).nonzero()
    ends = transport.giver[rows], transport.taker[columns]
    pairs = [neighbors.name(int(p), int(q)) for p, q in zip(*ends, strict=True)]
    limit = np.minimum(transport.supply[rows], transport.demand[columns])
    ranks = zip(limit * -distance[rows, columns], pairs, strict=True)
    best = 0, (-1, -1)
    # By the most that there could be, which most pairs reach.
    for rank, at in sorted(zip(ranks, range(rows.size), strict=True)):
        if rank >= best:
            break
        place = rows[at], columns[at]
        cost = transport.most(*place) * int(distance[place])
        best = min(best, (-cost, pairs[at]))
    return best[1] if best[0] < 0 else None


@dataclass(frozen=True)
class _Transport:
    """What is to be moved, in units that make all masses whole numbers.

    Attributes:
        giver: The nodes with a surplus, ``[S]``.
        supply: The surplus of each, ``[S]``.
        taker: The nodes that lack something, ``[D]``.
        demand: What they lack, ``[D]``.
        distance: Hops from the ones to the others, ``[S, D]``.
    """

    giver: np.ndarray
    supply: np.ndarray
    taker: np.ndarray
    demand: np.ndarray
    distance: np.ndarray

    @cached_property
    def tight(self) -> np.ndarray:
        """The pairs that optimal plans may use, ``[S, D]``.

        The potentials count thresholds, which a minimum cut sets: see
        :mod:`gnnbridge.curvature.transport`.
        """
        one, two = self.distance == 1, self.distance <= 2
        arcs = np.block([[one, np.zeros_like(one)], [two, one]])
        network = _network(
            arcs, np.tile(self.supply, 2), np.tile(self.demand, 2)
        )
        left = network - _flow(network).flow
        left.eliminate_zeros()
        reached = np.zeros(network.shape[0], dtype=int)
        start = network.shape[0] - 2
        reached[breadth_first_order(left, start, return_predecessors=False)] = 1
        supplies, demands = self.distance.shape
        of_givers = reached[: 2 * supplies].reshape(2, -1).sum(0)
        of_takers = reached[2 * supplies : start].reshape(2, demands).sum(0)
        return 1 + of_givers[:, None] - of_takers == self.distance

    @cached_property
    def _exchange(self) -> sparse.csr_array:
        """How far each step of a cycle can go, the nodes of both sides.

        Forward over any tight pair, and back over those of some plan for as
        much as that moves.
        """
        flow = _flow(_network(self.tight, self.supply, self.demand)).flow
        supplies = self.supply.size
        plan = flow[:supplies, supplies:-2]
        forward = sparse.csr_array(self.tight * self.supply.sum())
        both = sparse.block_array([[None, forward], [plan.T, None]])
        return both.tocsr().astype(np.int32)

    def most(self, row: int, column: int) -> int:
        """The most that an optimal plan can move over a pair."""
        taker = self.supply.size + column
        return int(maximum_flow(self._exchange, taker, row).flow_value)


def _transport(neighbors: NeighborSets, edge: Edge) -> _Transport:
    u, v = edge
    # All mass stays at a node without such neighbours.
    into_u = neighbors.before[u] or {u}
    from_v = neighbors.after[v] or {v}
    unit = math.lcm(len(into_u), len(from_v))
    excess = dict.fromkeys(into_u, unit // len(into_u))
    for q in from_v:
        excess[q] = excess.get(q, 0) - unit // len(from_v)
    giver = sorted(p for p, mass in excess.items() if mass > 0)
    taker = sorted(q for q, mass in excess.items() if mass < 0)
    hops = [[_hops(neighbors, p, q) for q in taker] for p in giver]
    return _Transport(
        giver=np.array(giver, dtype=np.int64),
        supply=np.array([excess[p] for p in giver], dtype=np.int64),
        taker=np.array(taker, dtype=np.int64),
        demand=np.array([-excess[q] for q in taker], dtype=np.int64),
        distance=np.array(hops).reshape(len(giver), len(taker)),
    )


def _hops(neighbors: NeighborSets, p: int, q: int) -> int:
    """Hops from before an edge to after it: three lead over the edge."""
    after, before = neighbors.after[p], neighbors.before[q]
    if q in after:
        return 1
    return 3 if after.isdisjoint(before) else 2


def _network(
    arcs: np.ndarray,  # shape: [S, D]
    supply: np.ndarray,
    demand: np.ndarray,
) -> sparse.csr_array:
    """Capacities, with the start and the end as the last two nodes."""
    supplies, demands = arcs.shape
    start, end = supplies + demands, supplies + demands + 1
    rows, columns = arcs.nonzero()
    givers, takers = np.arange(supplies), supplies + np.arange(demands)
    tails = [rows, np.full(supplies, start), takers]
    heads = [supplies + columns, givers, np.full(demands, end)]
    limits = [np.full(rows.size, supply.sum()), supply, demand]
    # The only integers that the flow takes.
    data, *ends = (
        np.concatenate(parts).astype(np.int32)
        for parts in (limits, tails, heads)
    )
    return sparse.csr_array((data, tuple(ends)), shape=(end + 1, end + 1))


def _flow(network: sparse.csr_array) -> Any:
    """The maximum flow from the last node but one to the last."""
    end = network.shape[0] - 1
    return maximum_flow(network, end - 1, end)
