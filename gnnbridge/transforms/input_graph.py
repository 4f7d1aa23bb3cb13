"""The graph that a rewiring is given, in the forms that methods need."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy import sparse
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.edge_index import EdgeIndex

from gnnbridge.graph.checks import (
    check_edge_index,
    check_num_nodes,
    check_weights,
    describe_edge,
    first,
)


@dataclass(frozen=True)
class Skeleton:
    """The undirected simple graph: distinct pairs, without self-loops.

    Attributes:
        pairs: The pairs ``u < v``, ``[2, P]``, in lexicographic order.
        weight: Their weights, the mean over the directions that an edge has,
            ``[P]`` float64; ones in a graph without weights.
        num_nodes: The number of nodes.
    """

    pairs: np.ndarray
    weight: np.ndarray
    num_nodes: int

    @cached_property
    def neighbors(self) -> list[set[int]]:
        """The neighbours of each node, as sets that are safe to change."""
        sets: list[set[int]] = [set() for _ in range(self.num_nodes)]
        for u, v in self.pairs.T.tolist():
            sets[u].add(v)
            sets[v].add(u)
        return sets

    def adjacency(self, weighted: bool = True) -> sparse.csr_array:
        """The symmetric matrix, in float64."""
        u, v = self.pairs
        weight = self.weight if weighted else np.ones_like(self.weight)
        ends = np.concatenate([u, v]), np.concatenate([v, u])
        return sparse.csr_array(
            (np.concatenate([weight, weight]), ends),
            shape=(self.num_nodes, self.num_nodes),
        )


@dataclass(frozen=True)
class InputGraph:
    """A checked graph.

    Attributes:
        edge_index: The edges as they were given, ``[2, E]``.
        edge_weight: Their weights, ``[E]``, or ``None``.
        num_nodes: The number of nodes ``N``.
        causal: Whether only edges to later nodes may be added.
    """

    edge_index: Tensor
    edge_weight: Tensor | None
    num_nodes: int
    causal: bool

    @property
    def device(self) -> torch.device:
        """Where the edges live."""
        return self.edge_index.device

    @cached_property
    def symmetric(self) -> bool:
        """Whether each edge has its reverse."""
        return _is_symmetric(self.edge_index, self.num_nodes)

    @cached_property
    def skeleton(self) -> Skeleton:
        """The graph without directions."""
        source, target = self.edge_index.cpu().numpy()
        proper = source != target
        u = np.minimum(source, target)[proper]
        v = np.maximum(source, target)[proper]
        key, place, count = np.unique(
            u * self.num_nodes + v, return_inverse=True, return_counts=True
        )
        weight = np.ones(key.size)
        if self.edge_weight is not None:
            given = self.edge_weight.detach().double().cpu().numpy()[proper]
            weight = np.bincount(place, given, key.size) / count
        pairs = np.stack(np.divmod(key, self.num_nodes))
        return Skeleton(pairs, weight, self.num_nodes)


def read_data(data: Data, causal: bool | None) -> InputGraph:
    """The graph of a ``Data``."""
    edge_index = data.edge_index
    if edge_index is None:
        raise ValueError(
            "Expected a graph with 'edge_index' (got one without). Use "
            "'torch_geometric.utils.from_torch_sparse_tensor' for an 'adj_t'."
        )
    weight = data.get('edge_weight')
    return read_edges(edge_index, weight, data.num_nodes, causal)


def read_edges(
    edge_index: Tensor,
    edge_weight: Tensor | None,
    num_nodes: int | None,
    causal: bool | None,
) -> InputGraph:
    """Check edges, and find out what kind of graph they make.

    Raises:
        TypeError: If `edge_index` is not of integers.
        ValueError: If an edge is out of range, a weight negative or not
            finite, or `causal` asked for a graph that is not.
    """
    if isinstance(edge_index, EdgeIndex):
        edge_index = edge_index.as_tensor()
    check_edge_index(edge_index)
    if num_nodes is None and edge_index.numel() > 0:
        num_nodes = int(edge_index.max()) + 1
    num_nodes = check_num_nodes(num_nodes)
    check_edge_index(edge_index, num_nodes)
    if edge_weight is not None:
        check_weights(edge_weight, edge_index)
        if edge_weight.dim() != 1:
            raise ValueError(
                f"Expected 'edge_weight' of shape [E] (got "
                f'{list(edge_weight.shape)}). Use the mean of the heads.'
            )
    backward = edge_index[0] > edge_index[1]
    if causal is None:
        causal = not bool(backward.any())
    if causal and backward.any():
        edge = describe_edge(edge_index, first(backward))
        raise ValueError(
            f'Expected a causal graph for causal=True (got {edge}). Use '
            f'causal=False, or leave such edges out.'
        )
    return InputGraph(
        edge_index=edge_index,
        edge_weight=edge_weight,
        num_nodes=num_nodes,
        causal=causal,
    )


def _is_symmetric(edge_index: Tensor, num_nodes: int) -> bool:
    source, target = edge_index
    there, back = source * num_nodes + target, target * num_nodes + source
    if torch.equal(there.sort().values, back.sort().values):
        return True
    # An edge that is there twice may have one reverse.
    return torch.equal(there.unique(), back.unique())
