"""LASER: few of the pairs at each distance, those with the fewest walks."""

from __future__ import annotations

import math
from typing import Literal, get_args

import numpy as np
from scipy import sparse

from gnnbridge.graph.checks import check_size
from gnnbridge.transforms.at_once import AtOnce, both_ways, make_at_once
from gnnbridge.transforms.base import Rewiring
from gnnbridge.transforms.distances import blocks, shells, structure
from gnnbridge.transforms.input_graph import InputGraph
from gnnbridge.transforms.ranking import rank_within

Orbits = Literal['full', 'earlier']

# Entries of a table of walks at a time: bounds its memory.
_BLOCK = 1 << 22
# Entries of a sparse row, from which on a dense one is faster.
_FULL = 1 << 8


class LASER(Rewiring):
    r"""Edges to the least connected nodes at each distance.

    `"Locality-Aware Graph-Rewiring in GNNs"
    <https://arxiv.org/abs/2310.01668>`_: of the nodes at distance :math:`r`
    from a node :math:`i`, its orbit, those with the fewest walks to it,

    .. math::
        \mu(j, i) = \left( (A + I)^p \right)_{ji},
        \qquad p = 8,

    are joined to it: :math:`\max(m, \mathrm{round}(\rho \, |\mathrm{orbit}|))`
    of them, as far as there are so many, for
    :math:`r = 2, \ldots,` `radius`. Halves are rounded to even numbers, as by
    the released code.

    An undirected graph gets the edges that either of the two ends has asked
    for, in both directions. In a directed graph the orbit of :math:`i` are
    the nodes from which a shortest path of length :math:`r` leads to it,
    walks follow the edges, and so do the new ones, :math:`j \to i`: a causal
    graph stays causal. Nodes without a path to :math:`i` are in no orbit.

    The added edges of distance :math:`r` have the largest ``edge_type`` so
    far plus :math:`r - 1`: each distance is a relation, which the paper calls
    a snapshot. Weights are not looked at.

    The numbers of walks are exact up to :math:`2^{53}`, and beyond have
    rounding errors far below the tolerance of the tie rule. Of equal ones the
    nodes of smallest number are taken. Takes
    :math:`O(p \, N E)` time, and memory for the edges and one block of rows.

    .. note::
        The released code counts only the nodes :math:`j < i` among the orbit
        of :math:`i`, which depends on the numbering of the nodes; that is
        ``orbits='earlier'``. It breaks ties by chance, adds one direction,
        and its fast form takes wrong distances from :math:`r = 3` on.

    Args:
        radius: The largest distance.
        density: The share :math:`\rho` of each orbit, 0 to 1.
        minimum: The least number :math:`m` of each orbit.
        power: The length :math:`p` of the walks.
        orbits: Whether orbits are of all nodes, or of the ``'earlier'`` ones.
            In a causal graph it is the same.
        causal: Whether only edges to later nodes may be added; inferred from
            the graph if not given.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        radius: int = 2,
        density: float = 0.1,
        *,
        minimum: int = 1,
        power: int = 8,
        orbits: Orbits = 'full',
        causal: bool | None = None,
    ) -> None:
        super().__init__(causal=causal)
        if not 0 <= density <= 1:
            raise ValueError(
                f"Expected 'density' to be between 0 and 1 (got {density})."
            )
        if orbits not in get_args(Orbits):
            raise ValueError(
                f"Expected 'orbits' to be 'full' or 'earlier' (got {orbits!r})."
            )
        self.radius = check_size('radius', radius)
        self.density = float(density)
        self.minimum = check_size('minimum', minimum, minimum=0)
        self.power = check_size('power', power)
        self.orbits = orbits

    def _plan(self, graph: InputGraph) -> AtOnce:
        back = structure(graph)
        steps = _scaled(back + sparse.eye_array(graph.num_nodes))
        found = [np.empty((3, 0), dtype=np.int64)]
        for rows in blocks(graph.num_nodes, _BLOCK):
            walks = _powers(steps, rows, self.power)
            for length, place, node in shells(back, rows, self.radius):
                if self.orbits == 'earlier':
                    earlier = node < rows[place]
                    place, node = place[earlier], node[earlier]
                chosen = self._choose(place, walks[place, node])
                ends = np.stack([node[chosen], rows[place[chosen]]])
                radius = np.full_like(ends[:1], length)
                found.append(np.concatenate([ends, radius]))
        source, target, radius = np.concatenate(found, axis=1)
        return _changes(graph, source, target, radius - 1)

    def _choose(self, orbit: np.ndarray, walks: np.ndarray) -> np.ndarray:
        """Which entries are among the ones taken from their orbits."""
        sizes = np.bincount(orbit)
        counts = np.maximum(self.minimum, np.rint(self.density * sizes))
        chosen: np.ndarray = rank_within(walks, orbit) < counts[orbit]
        return chosen


def _scaled(steps: sparse.csr_array) -> sparse.csr_array:
    """The matrix over a power of two, so that its powers do not overflow.

    Only the order of their entries counts. No bit is lost until they are
    too small for double precision, with walks of hundreds of steps.
    """
    largest = float(steps.sum(1).max())
    return (steps * 2.0 ** -math.ceil(math.log2(largest))).tocsr()


def _powers(
    steps: sparse.csr_array, rows: np.ndarray, power: int
) -> np.ndarray:
    """Some rows of a power of the matrix, ``[M, N]``."""
    back = steps.T.tocsr()
    columns = back[:, rows]
    for _ in range(power - 1):
        if sparse.issparse(columns) and columns.nnz > _FULL * rows.size:
            columns = columns.toarray()
        columns = back @ columns
    if sparse.issparse(columns):
        columns = columns.toarray()
    table: np.ndarray = columns.T
    return table


def _changes(
    graph: InputGraph,
    source: np.ndarray,
    target: np.ndarray,
    relation: np.ndarray,
) -> AtOnce:
    """The edges sorted by relation and nodes, and reversed if undirected."""
    n = graph.num_nodes
    both = graph.symmetric
    if both:
        source, target = np.minimum(source, target), np.maximum(source, target)
    key = np.unique((relation * n + source) * n + target)
    relation, key = np.divmod(key, n * n)
    pairs = np.stack(np.divmod(key, n))
    return make_at_once(
        graph,
        added=both_ways(pairs) if both else pairs,
        relation=relation.repeat(2) if both else relation,
    )
