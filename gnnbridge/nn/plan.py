"""Plans: a token graph checked once and reused by every layer that runs it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch_geometric import EdgeIndex


# Tensors have no truth value to compare plans by, so plans are themselves.
@dataclass(frozen=True, eq=False)
class AttentionPlan:
    """A checked token graph, ready to be run by :class:`AttentionConv`.

    Build one with :func:`plan_attention` and pass it in place of
    ``edge_index`` wherever the same graph is used again.

    Attributes:
        edge_index: ``[2, E]`` int64, row 0 the key and row 1 the query.
        size: ``(num_keys, num_queries)``.
        backend: The kernel that runs the graph.
    """

    edge_index: Tensor
    size: tuple[int, int]
    backend: str = 'scatter'

    @property
    def num_edges(self) -> int:
        """Number of edges of the graph."""
        return self.edge_index.size(1)

    def to(self, device: torch.device | str) -> AttentionPlan:
        """Returns the plan on another device."""
        return AttentionPlan(
            self.edge_index.to(device), self.size, self.backend
        )

    def explain(self) -> str:
        """Says which kernel runs this graph, and why."""
        num_keys, num_queries = self.size
        density = self.num_edges / max(num_keys * num_queries, 1)
        return (
            f"backend '{self.backend}': gather and scatter over "
            f'{self.num_edges} edges, {num_queries} queries x {num_keys} keys '
            f'({density:.1%} of all pairs)'
        )


def plan_attention(edge_index: Tensor, size: tuple[int, int]) -> AttentionPlan:
    """Checks a token graph and returns the plan that runs it.

    Args:
        edge_index: ``[2, E]`` int64 in any order: row 0 the key (source), row
            1 the query (target).
        size: ``(num_keys, num_queries)``.

    Returns:
        A plan for :class:`AttentionConv`; the input is not changed.

    Raises:
        TypeError: If ``edge_index`` is not an int64 tensor.
        ValueError: If it has another shape than ``[2, E]``, if an edge leaves
            the range of ``size``, or if an edge occurs twice.
    """
    if isinstance(edge_index, EdgeIndex):
        edge_index = edge_index.as_tensor()
    if not isinstance(edge_index, Tensor) or edge_index.dtype != torch.int64:
        got = getattr(edge_index, 'dtype', type(edge_index).__name__)
        raise TypeError(
            f"Expected 'edge_index' to be an int64 tensor (got {got}). Convert "
            f'a sparse adjacency with torch_geometric.utils.to_edge_index, '
            f'another integer type with .long().'
        )
    if edge_index.layout != torch.strided or (
        edge_index.dim() != 2 or edge_index.size(0) != 2
    ):
        raise ValueError(
            f"Expected 'edge_index' to be a dense tensor of shape [2, E] (got "
            f'{edge_index.layout} of shape {list(edge_index.shape)}).'
        )
    # Under torch.compile the checks would break the graph; a plan that is
    # built outside of the compiled region has been through them.
    if not torch.compiler.is_compiling():
        _check_range(edge_index, size)
        _check_unique(edge_index, size[0])
    return AttentionPlan(edge_index, size)


def _check_range(edge_index: Tensor, size: tuple[int, int]) -> None:
    limit = edge_index.new_tensor(size).unsqueeze(-1)
    outside = ((edge_index < 0) | (edge_index >= limit)).any(dim=0)
    if outside.any():
        edge = int(outside.nonzero()[0, 0])
        key, query = edge_index[:, edge].tolist()
        raise ValueError(
            f'Expected edges from {size[0]} keys to {size[1]} queries (got '
            f'key {key} -> query {query} at edge {edge}). Row 0 of '
            f"'edge_index' is the key, row 1 the query."
        )


def _check_unique(edge_index: Tensor, num_keys: int) -> None:
    code = edge_index[1] * num_keys + edge_index[0]
    step = code.diff()
    if (step > 0).all():
        return
    code, order = code.sort(stable=True)
    twin = (code.diff() == 0).nonzero()
    if twin.numel() > 0:
        first, second = order[twin[0, 0]], order[twin[0, 0] + 1]
        key, query = edge_index[:, first].tolist()
        raise ValueError(
            f'Expected each edge once (got key {key} -> query {query} at '
            f'edges {int(first)} and {int(second)}). Merge duplicates with '
            f'torch_geometric.utils.coalesce.'
        )
