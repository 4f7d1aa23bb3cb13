"""Edges as a plan takes them: checked, and sorted by row."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric import EdgeIndex

from gnnbridge.nn.formats import Rows


def plain_edges(edge_index: Tensor) -> Tensor:
    """The edges as an ordinary tensor.

    Raises:
        TypeError: If they are no int64 tensor.
        ValueError: If their shape is not ``[2, E]``.
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
    return edge_index


def rows_of(edge_index: Tensor, size: tuple[int, int]) -> Rows:
    """The edges by row.

    Raises:
        ValueError: If an edge occurs twice.
    """
    key, query = edge_index
    code, order = query * size[0] + key, None
    if not (code.diff() > 0).all():
        code, order = code.sort(stable=True)
        twin = (code.diff() == 0).nonzero()
        if twin.numel() > 0:
            first, second = order[twin[0, 0]], order[twin[0, 0] + 1]
            raise ValueError(
                f'Expected each edge once (got key {int(key[first])} -> query '
                f'{int(query[first])} at edges {int(first)} and '
                f'{int(second)}). Merge duplicates with '
                f'torch_geometric.utils.coalesce.'
            )
        key = key[order]
    degree = torch.bincount(query, minlength=size[1])
    start = torch.cat([degree.new_zeros(1), degree.cumsum(0)])
    return Rows(start, key.int(), order, size[0])


def check_range(edge_index: Tensor, size: tuple[int, int]) -> None:
    """Raises a ValueError that names an edge out of range."""
    if edge_index.numel() == 0:
        return
    limit = edge_index.new_tensor(size)
    if (edge_index.amin(1) >= 0).all() and (edge_index.amax(1) < limit).all():
        return
    outside = (edge_index < 0) | (edge_index >= limit.unsqueeze(-1))
    edge = int(outside.any(dim=0).nonzero()[0, 0])
    key, query = edge_index[:, edge].tolist()
    raise ValueError(
        f'Expected edges from {size[0]} keys to {size[1]} queries (got '
        f'key {key} -> query {query} at edge {edge}). Row 0 of '
        f"'edge_index' is the key, row 1 the query."
    )


def check_num_graphs(size: tuple[int, int], num_graphs: int) -> None:
    """Raises a ValueError if a size is not that of equal graphs."""
    if num_graphs < 1 or size[0] % num_graphs or size[1] % num_graphs:
        raise ValueError(
            f"Expected 'num_graphs' to divide the size {tuple(size)} (got "
            f'{num_graphs}).'
        )


def check_within_graphs(
    edge_index: Tensor, size: tuple[int, int], num_graphs: int
) -> None:
    """Raises a ValueError that names an edge from one graph to another."""
    num_keys, num_queries = (max(n // num_graphs, 1) for n in size)
    across = edge_index[0] // num_keys != edge_index[1] // num_queries
    if across.any():
        edge = int(across.nonzero()[0, 0])
        key, query = edge_index[:, edge].tolist()
        raise ValueError(
            f'Expected edges within {num_graphs} graphs of {num_keys} keys and '
            f'{num_queries} queries (got key {key} -> query {query} at edge '
            f'{edge}).'
        )
