"""Which tokens are out of reach of others, at the depth of a model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import shortest_path
from torch import Tensor
from torch_geometric.data import Data

from gnnbridge.diagnostics.sequences import Graphs, as_layers
from gnnbridge.diagnostics.token_graph import path_lengths
from gnnbridge.graph.checks import check_num_nodes, check_size
from gnnbridge.graph.schema import is_causal


@dataclass(frozen=True)
class UnderReach:
    """Pairs of tokens between which nothing can pass.

    Of a causal graph the pairs are those of a token and a later receiver,
    otherwise all of two tokens.

    Attributes:
        depth: The number of layers.
        diameter: The longest shortest path, over pairs that have one, if all
            layers were as good as each other.
        unreachable_share: The share of the pairs without a path through any
            number of layers.
        beyond_depth_share: The share of the pairs without a path through
            these layers; those without any are among them.
    """

    depth: int
    diameter: int
    unreachable_share: float
    beyond_depth_share: float


def under_reach(graphs: Graphs, depth: int | None = None) -> UnderReach:
    """How much of a token graph is out of reach at some depth.

    In each layer a token receives from itself, by the residual connection,
    and from its neighbours along edges whose weight is not zero. Layers may
    have different edges, such as a window in some of them; the reach is then
    the Boolean product of their matrices, first layer first, which is exact,
    and not the power of a common one.

    Args:
        graphs: The token graph of each layer, first layer first; or a single
            one, that of every layer.
        depth: The number of layers; the number of graphs if not given. More
            layers than graphs go through the graphs again.

    Returns:
        The shares, 0 for a single token.

    Raises:
        TypeError: If these are no graphs.
        ValueError: If the graphs differ in their tokens, or a single one is
            given without a depth.

    Example:
        >>> under_reach(sliding_window_graph(9, 3), depth=2)
        UnderReach(depth=2, diameter=4, unreachable_share=0.0,
                   beyond_depth_share=0.2777777777777778)
    """
    layers = as_layers(graphs)
    if depth is None and isinstance(graphs, Data):
        raise ValueError(
            "Expected a 'depth' for a single graph (got none). Give the "
            'number of layers, or the graph of each.'
        )
    depth = len(layers) if depth is None else depth
    check_size('depth', depth)
    sizes = {check_num_nodes(graph.num_nodes) for graph in layers}
    if len(sizes) > 1:
        raise ValueError(
            f'Expected graphs of the same tokens (got {sorted(sizes)} of them).'
        )
    reach = Reach(sizes.pop())
    for number in range(depth):
        reach.add(layers[number % len(layers)])
    # Layers beyond the depth count for what no depth would reach.
    for graph in layers[depth:]:
        reach.see(graph)
    return reach.result()


class Reach:
    r"""What each token has heard of, layer by layer.

    Held are two matrices :math:`N \times N`, however many layers there are.

    Args:
        size: The number of tokens :math:`N`.
    """

    def __init__(self, size: int) -> None:
        self._heard = torch.eye(size)
        self._union = torch.eye(size)
        self._causal, self._depth = True, 0

    def add(self, graph: Data) -> None:
        """Goes through another layer, in :math:`O(N^3)` at most."""
        A = self.see(graph)
        self._depth += 1
        if self._is_full(self._heard) or self._is_full(A):
            self._heard = torch.maximum(self._heard, A)
            return
        self._heard = (A @ self._heard > 0).float()

    def see(self, graph: Data) -> Tensor:
        """Notes the edges of a layer without going through it."""
        A = _matrix(_weighted(graph), len(self._union))
        self._causal = self._causal and is_causal(graph)
        self._union = torch.maximum(self._union, A)
        return A

    def _is_full(self, A: Tensor) -> bool:
        """Whether everybody hears of all others, or of all earlier ones."""
        size, count = len(A), int(A.sum())
        if self._causal:
            return count == size * (size + 1) // 2
        return count == size * size

    def result(self) -> UnderReach:
        """What is out of reach after the layers that were added."""
        pairs = ~torch.eye(len(self._union), dtype=torch.bool)
        pairs = pairs.tril() if self._causal else pairs
        length = _path_lengths(self._union, self._causal)
        has_path, count = pairs & (length >= 0), max(int(pairs.sum()), 1)
        missing = pairs & (self._heard == 0)
        return UnderReach(
            depth=self._depth,
            diameter=int(length[has_path].max()) if has_path.any() else 0,
            unreachable_share=int((pairs & ~has_path).sum()) / count,
            beyond_depth_share=int(missing.sum()) / count,
        )


def _weighted(graph: Data) -> Tensor:
    """Edges along which something passes ``[2, E]``."""
    weight = graph.get('edge_weight')
    edges = graph.edge_index.cpu()
    return edges if weight is None else edges[:, weight.cpu() != 0]


def _matrix(edge_index: Tensor, size: int) -> Tensor:
    """Who receives from whom in a layer ``[N, N]``, row = receiver."""
    A = torch.eye(size)
    A[edge_index[1], edge_index[0]] = 1.0
    return A


def _path_lengths(union: Tensor, causal: bool) -> Tensor:
    """Lengths of shortest paths ``[N, N]``, row = receiver, -1 without one."""
    receiver, source = union.nonzero(as_tuple=True)
    if causal:
        edges = torch.stack([source, receiver])
        return path_lengths(Data(edge_index=edges, num_nodes=len(union)))
    # From sources to receivers: the transpose has receivers as rows.
    far = shortest_path(csr_matrix(union.T.numpy()), unweighted=True).T
    return torch.from_numpy(np.where(np.isinf(far), -1, far)).long()
