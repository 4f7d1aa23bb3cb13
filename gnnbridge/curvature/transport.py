r"""Exact optimal transport between the ends of an edge, by maximum flow.

What two measures share may stay where it is. What is left has to go one, two
or three hops, since :math:`a \to u \to v \to b` leads from every neighbour
:math:`a` of :math:`u` to every neighbour :math:`b` of :math:`v`. So the dual
linear program has an optimum in whole numbers, :math:`f \in \{1, 2, 3\}` on
the supplies :math:`\mu` and :math:`f \in \{0, 1, 2\}` on the demands
:math:`\nu`, with :math:`f(a) - f(b) \le d(a, b)`. Written as thresholds
:math:`f(a) \ge 2`, :math:`f(a) \ge 3`, :math:`f(b) \ge 1`, :math:`f(b) \ge 2`
it asks for a minimum cut, and

.. math::
    W_1 = 3 \sum_a \mu_a - F

with :math:`F` the maximum flow from two copies of each supply to two of each
demand: the first copy of :math:`a` reaches the first of :math:`b` if
:math:`d(a, b) = 1`, the second that if :math:`d(a, b) \le 2`, and the second
of :math:`b` if :math:`d(a, b) = 1`. One flow serves all edges at once.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import maximum_flow

from gnnbridge.curvature.measures import Problems

# The flow is in 32-bit integers.
_LARGEST = float(1 << 30)
# Products of a mass and a scale this close to a whole number are that number.
_SNAP = 1e-12
# Capacity that is not worth another round.
_NEGLIGIBLE = 1e-14


def transport_cost(problems: Problems, scale: np.ndarray | None) -> np.ndarray:
    """The cost of the best plan of each problem, ``[B]``.

    Args:
        problems: What is to be moved, and how far.
        scale: For each problem a number that makes its masses whole, where
            there is one. It saves rounds, and decides nothing.
    """
    supply = problems.supply.detach().cpu().numpy()
    demand = problems.demand.detach().cpu().numpy()
    supply_block, demand_block = problems.supply_block, problems.demand_block
    total = np.bincount(supply_block, supply, problems.size)
    # Where all distances are one, as in dense attention, so is the cost.
    pair_block = supply_block[problems.pair_supply]
    far = np.bincount(pair_block, problems.distance > 1, problems.size) > 0
    pairs = np.flatnonzero(far[pair_block])
    a, b = problems.pair_supply[pairs], problems.pair_demand[pairs]
    one, near = (problems.distance[pairs] <= hops for hops in (1, 2))
    # The copies, one after the other: first and second of the supplies, first
    # and second of the demands.
    a2, b1 = a + supply.size, b + 2 * supply.size
    b2 = b1 + demand.size
    network, block = _network(
        np.concatenate([a[one], a2[near], a2[one]]),
        np.concatenate([b1[one], b1[near], b2[one]]),
        np.concatenate([supply, supply, demand, demand]),
        np.concatenate([*2 * [supply_block], *2 * [demand_block]]),
        2 * supply.size,
    )
    if scale is None:
        scale = np.full(problems.size, _LARGEST)
    flow = _flow_of_blocks(network, block, np.minimum(scale, _LARGEST))
    return np.where(far, 3 * total - flow, total)


def _network(
    tails: np.ndarray,  # shape: [P]
    heads: np.ndarray,  # shape: [P]
    capacity: np.ndarray,  # shape: [K], of the nodes
    block: np.ndarray,  # shape: [K]
    num_tails: int,
) -> tuple[sparse.csr_array, np.ndarray]:
    """Capacities of the arcs, and the blocks of the nodes.

    The rows are the nodes that have arcs, and then the start and the end.
    """
    degree = np.bincount(np.concatenate([tails, heads]), minlength=block.size)
    # Nodes with few arcs first, and those of a block near each other: fewer
    # detours and fewer cache misses.
    order = np.flatnonzero(degree)
    order = order[np.lexsort((degree[order], block[order]))]
    rank = np.zeros_like(block)
    rank[order] = node = np.arange(order.size)
    first, second = node[order < num_tails], node[order >= num_tails]
    start, end = order.size, order.size + 1
    rows = [rank[tails], np.full_like(first, start), second]
    columns = [rank[heads], first, np.full_like(second, end)]
    limits = [
        np.minimum(capacity[tails], capacity[heads]),
        capacity[order[first]],
        capacity[order[second]],
    ]
    # The only integers that the flow takes.
    arcs = [np.concatenate(ends).astype(np.int32) for ends in (rows, columns)]
    network = sparse.csr_array(
        (np.concatenate(limits), tuple(arcs)), shape=(end + 1, end + 1)
    )
    return network, block[order]


def _flow_of_blocks(
    network: sparse.csr_array, block: np.ndarray, scale: np.ndarray
) -> np.ndarray:
    """Maximum flow from the last node but one to the last, by block.

    In rounds of whole numbers: each rounds the capacities down, and the next
    works on what the rounding has left, 30 bits further down.
    """
    start, end = block.size, block.size + 1
    total: np.ndarray = np.zeros(scale.size)
    bound: np.ndarray = np.ones(scale.size)
    while bound.max(initial=0.0) > _NEGLIGIBLE:
        tail, head = _tails(network), network.indices
        arc_block = _arc_blocks(network, block)
        unit = 1 / scale[arc_block]
        limit = network.data.clip(0.0, bound[arc_block])
        whole = np.floor(limit / unit * (1 + _SNAP))
        graph = sparse.csr_array(
            (whole.astype(np.int32), head, network.indptr), network.shape
        )
        flow = maximum_flow(graph, start, end).flow
        leaving = slice(*flow.indptr[[start, start + 1]])
        reached = block[flow.indices[leaving]]
        total += np.bincount(reached, flow.data[leaving], scale.size) / scale
        outer = (tail == start) | (head == end)
        lost = (limit - whole * unit)[outer].clip(0.0)
        bound = np.bincount(arc_block[outer], lost, scale.size)
        amount = flow.data / scale[_arc_blocks(flow, block)]
        network = network - sparse.csr_array(
            (amount, flow.indices, flow.indptr), flow.shape
        )
        scale = _LARGEST / bound.clip(_NEGLIGIBLE)
    return total


def _tails(network: sparse.csr_array) -> np.ndarray:
    return np.repeat(np.arange(network.shape[0]), np.diff(network.indptr))


def _arc_blocks(network: sparse.csr_array, block: np.ndarray) -> np.ndarray:
    # The start and the end are in no block, but no arc joins the two.
    return block[np.minimum(_tails(network), network.indices)]
