"""The heaviest edges into each node."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from torch_geometric.data import Data
from torch_geometric.utils import coalesce

from gnnbridge.graph.checks import check_size
from gnnbridge.graph.sparsify import sparsify
from gnnbridge.transforms.at_once import (
    AtOnce,
    keys_of,
    make_at_once,
)
from gnnbridge.transforms.base import Rewiring
from gnnbridge.transforms.input_graph import InputGraph


class TopK(Rewiring):
    r"""Keeps the edges of largest weight into each node.

    .. math::
        j \to i \text{ is kept} \iff
        |\{ j' : w_{j' i} > w_{ji} \text{ or } (w_{j' i} = w_{ji}
        \text{ and } j' < j) \}| < k

    Each query keeps its `k` heaviest keys, a self-loop counting as any other;
    a node with no more edges than that keeps all. The ranking is that of
    :func:`gnnbridge.graph.sparsify`, in which equal weights are those that
    are equal in float32 or float64. The weights stay as they are. Repeated
    edges count as one with the sum of their weights, and stay or go together.

    Nothing is added: a causal graph stays causal. An undirected graph is
    likely to become a directed one, since the ends of an edge choose apart.

    Args:
        k: The number of edges of each node.
        causal: Only checked: nothing is added.

    Raises:
        ValueError: If the graph has no ``edge_weight``.
    """

    static: ClassVar[bool] = False
    adds: ClassVar[bool] = False

    def __init__(self, k: int, *, causal: bool | None = None) -> None:
        super().__init__(causal=causal)
        self.k = check_size('k', k)

    def _plan(self, graph: InputGraph) -> AtOnce:
        if graph.edge_weight is None:
            raise ValueError(
                "Expected a graph with 'edge_weight' (got one without). Use "
                "'SlidingWindow' or 'AttentionSinks' for one without weights."
            )
        edges, weight = coalesce(
            graph.edge_index, graph.edge_weight.detach(), graph.num_nodes
        )
        if edges.numel() == 0:
            return make_at_once(graph)
        data = Data(
            edge_index=edges, edge_weight=weight, num_nodes=graph.num_nodes
        )
        kept = sparsify(data, top_k=self.k).edge_index.cpu().numpy()
        given = edges.cpu().numpy()
        size = graph.num_nodes
        gone = ~np.isin(keys_of(given, size), keys_of(kept, size))
        return make_at_once(graph, removed=given[:, gone])
