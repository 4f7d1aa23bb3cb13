"""DRew: all pairs up to some distance, a relation for each distance."""

from __future__ import annotations

import numpy as np

from gnnbridge.graph.checks import check_size
from gnnbridge.transforms.at_once import AtOnce, make_at_once
from gnnbridge.transforms.base import Rewiring
from gnnbridge.transforms.distances import blocks, shells, structure
from gnnbridge.transforms.input_graph import InputGraph

# Entries of a table of nodes at a time, if all were reached.
_BLOCK = 1 << 24


class Shells(Rewiring):
    r"""An edge between all nodes that are 2 to :math:`r` hops apart.

    The graph of `"DRew: Dynamically Rewired Message Passing with Delay"
    <https://arxiv.org/abs/2305.08018>`_:

    .. math::
        j \to i \text{ of relation } k - 1 \iff d(j, i) = k,
        \qquad k = 2, \ldots, r

    with :math:`d` the length of a shortest path along the edges. An edge of
    relation :math:`k - 1` has the largest ``edge_type`` so far plus
    :math:`k - 1`, so that of a graph without types it has just that.

    DRew is a schedule over layers: layer :math:`l = 0, 1, \ldots` sees the
    edges with ``edge_type <= l``, each relation with its own weights. With
    delay :math:`\nu`, what comes over relation :math:`k - 1` is the state of
    layer :math:`l - \max(0, k - \nu)`.

    In a directed graph paths and new edges follow the edges: a causal graph
    stays causal. Pairs without a path get no edge. Weights are not looked at.
    Time and memory are in proportion to the walks of one step from the pairs
    found; there is no table of all pairs. The edges of one relation come
    sorted by source, then target.

    Args:
        radius: The largest distance :math:`r`.
        causal: Whether only edges to later nodes may be added; inferred from
            the graph if not given.

    Example:
        >>> path = torch.tensor([[0, 1, 2], [1, 2, 3]])
        >>> Shells(3).plan(path).added
        tensor([[0, 1, 0],
                [2, 3, 3]])
    """

    def __init__(self, radius: int, *, causal: bool | None = None) -> None:
        super().__init__(causal=causal)
        self.radius = check_size('radius', radius)

    def _plan(self, graph: InputGraph) -> AtOnce:
        back = structure(graph)
        found = [np.empty((3, 0), dtype=np.int64)]
        for rows in blocks(graph.num_nodes, _BLOCK):
            for length, place, node in shells(back, rows, self.radius):
                relation = np.full_like(node, length - 1)
                found.append(np.stack([node, rows[place], relation]))
        source, target, relation = np.concatenate(found, axis=1)
        order = np.lexsort((target, source, relation))
        return make_at_once(
            graph,
            added=np.stack([source, target])[:, order],
            relation=relation[order],
        )
