"""The simple graph whose curvature is asked for, and the way back to edges.

Curvature is a quantity of simple graphs: without self-loops, without repeated
edges. A token graph has a self-loop at almost every token, and a list of edges
may repeat some. Here both are taken out, and the values of the edges that are
left put back where the edges were given.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from gnnbridge.graph.checks import (
    check_edge_index,
    check_num_nodes,
    check_weights,
    describe_edge,
    first,
    is_integer,
)
from gnnbridge.graph.dense import (
    as_attention,
    dense_to_edges,
    edges_to_dense,
)


@dataclass(frozen=True)
class SimpleGraph:
    """Distinct edges between distinct nodes, sorted by source then target.

    Attributes:
        edge_index: The :math:`M` edges, ``[2, M]``.
        weight: Their weights in float64, ``[M]``; ``None`` if there are none.
        num_nodes: The number of nodes.
        directed: Whether the formulas for directed graphs are meant.
        reverse: Where the reverse of each edge is, ``[M]``; of use only if
            the graph is not directed.
        given: The edges as they were given, ``[2, E]``.
        place: Which of the :math:`M` edges each given one is, ``[E]``;
            :math:`M` for a self-loop.
        dense: Whether the graph was given as a matrix.
    """

    edge_index: Tensor
    weight: Tensor | None
    num_nodes: int
    directed: bool
    reverse: Tensor
    given: Tensor
    place: Tensor
    dense: bool

    def spread(self, values: Tensor) -> Tensor:
        """The values ``[M]`` where the edges were given, 0 elsewhere."""
        padded = torch.cat([values, values.new_zeros(1)])[self.place]
        if self.dense:
            return edges_to_dense(self.given, padded, self.num_nodes)
        return padded

    def adjacency(self) -> sparse.csr_array:
        """Row = source, column = target: 1 where there is an edge."""
        source, target = self.edge_index.cpu().numpy()
        ones = np.ones(source.size)
        shape = (self.num_nodes, self.num_nodes)
        return sparse.csr_array((ones, (source, target)), shape=shape)


def read_graph(
    edge_index: Tensor,
    edge_weight: Tensor | None,
    num_nodes: int | None,
    directed: bool | None,
    *,
    weighted: bool = True,
) -> SimpleGraph:
    """Check a graph in either form and make it simple.

    Args:
        edge_index: The edges, or the matrix :math:`A`.
        edge_weight: The weights of the edges.
        num_nodes: The number of nodes.
        directed: Whether the graph is directed; inferred if ``None``.
        weighted: Whether weights have a meaning; if not, one that is not 1
            is an error.
    """
    dense = not (isinstance(edge_index, Tensor) and is_integer(edge_index))
    if dense:
        A = as_attention(edge_index, edge_weight, num_nodes)
        if A.dim() != 2:
            raise ValueError(
                f"Expected 'A' to be one matrix [N, N] (got "
                f'{list(A.shape)}). Use one matrix at a time instead.'
            )
        num_nodes = A.size(0)
        edge_index, edge_weight = dense_to_edges(A)
    num_nodes = _check(edge_index, edge_weight, num_nodes)
    if edge_weight is not None and not weighted:
        _require_ones(edge_weight, edge_index)
        edge_weight = None
    return _simplify(edge_index, edge_weight, num_nodes, directed, dense)


def in_chunks(work: np.ndarray, limit: int) -> Iterator[slice]:
    """Runs of items; all but the first of a run add up to below `limit`."""
    run = np.cumsum(work) // limit
    start = 0
    for last in np.flatnonzero(np.diff(run, append=-1)):
        yield slice(start, last + 1)
        start = last + 1


def _check(
    edge_index: Tensor, edge_weight: Tensor | None, num_nodes: int | None
) -> int:
    check_edge_index(edge_index)
    if num_nodes is None:
        empty = edge_index.size(1) == 0
        num_nodes = 1 if empty else int(edge_index.max()) + 1
    check_edge_index(edge_index, check_num_nodes(num_nodes))
    if edge_weight is None:
        return num_nodes
    check_weights(edge_weight, edge_index)
    if edge_weight.dim() != 1:
        raise ValueError(
            f"Expected 'edge_weight' to have shape [E] (got "
            f'{list(edge_weight.shape)}). Use one head at a time, or the '
            f'mean of the heads, instead.'
        )
    if not edge_weight.all():
        edge = describe_edge(edge_index, first(edge_weight == 0))
        raise ValueError(
            f"Expected 'edge_weight' to be positive (got 0 on {edge}). Use "
            f"'edge_index[:, edge_weight > 0]' to leave such edges out "
            f'instead.'
        )
    return num_nodes


def _require_ones(edge_weight: Tensor, edge_index: Tensor) -> None:
    weighted = edge_weight != 1
    if weighted.any():
        edge = first(weighted)
        raise ValueError(
            f'Expected a graph without weights, as the formula has none (got '
            f'the weight {edge_weight[edge].item():.4g} on '
            f"{describe_edge(edge_index, edge)}). Use 'edge_index' alone, or "
            f"'forman' or 'ollivier_ricci', which take weights, instead."
        )


def _simplify(
    edge_index: Tensor,
    edge_weight: Tensor | None,
    num_nodes: int,
    directed: bool | None,
    dense: bool,
) -> SimpleGraph:
    source, target = edge_index
    proper = source != target
    key = source * num_nodes + target
    distinct, position = key[proper].unique(return_inverse=True)
    place = torch.full_like(source, distinct.numel())
    place[proper] = position
    weight = None
    if edge_weight is not None:
        weight = edge_weight.new_zeros(distinct.numel(), dtype=torch.float64)
        weight = weight.index_add(0, position, edge_weight[proper].double())
    edges = torch.stack([distinct // num_nodes, distinct % num_nodes])
    reverse, odd = _reverse(edges, weight, num_nodes)
    if directed is False and odd.any():
        edge = describe_edge(edge_index, first(place == first(odd)))
        raise ValueError(
            f'Expected both directions of each edge, with the same weight, '
            f'for directed=False (got {edge} without). Use directed=True, or '
            f"'torch_geometric.utils.to_undirected', instead."
        )
    return SimpleGraph(
        edge_index=edges,
        weight=weight,
        num_nodes=num_nodes,
        directed=bool(odd.any()) if directed is None else directed,
        reverse=reverse,
        given=edge_index,
        place=place,
        dense=dense,
    )


def _reverse(
    edges: Tensor, weight: Tensor | None, num_nodes: int
) -> tuple[Tensor, Tensor]:
    """Where the reverse of each edge is, and which edges lack theirs."""
    source, target = edges
    key, wanted = source * num_nodes + target, target * num_nodes + source
    reverse = torch.searchsorted(key, wanted).clamp(max=max(len(key) - 1, 0))
    odd = key[reverse] != wanted
    if weight is not None:
        # float32 weights that were symmetric before a division or a sum.
        close = torch.isclose(weight, weight[reverse], rtol=1e-5, atol=0.0)
        odd |= ~close
    return reverse, odd
