"""Arguments that the spectral functions share, checked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from gnnbridge.graph.checks import is_integer

Tokens: TypeAlias = int | Sequence[int] | Tensor
"""Tokens of a graph: one position, which drops the dimension as indexing
does, or several. Negative positions count from the end."""


# From this size on, matrices one by one are faster on the CPU than all at once:
# their intermediate results stay in memory that is in use already.
_ONE_BY_ONE = 128


def by_graph(function: Callable[[Tensor], Tensor], A: Tensor) -> Tensor:
    """Apply a function of dense graphs to a batch :math:`(*, N, N)` of them."""
    size = A.size(-1)
    if A.dim() == 2 or A.device.type != 'cpu' or size < _ONE_BY_ONE:
        return function(A)
    found = [function(graph) for graph in A.reshape(-1, size, size)]
    return torch.stack(found).reshape(*A.shape[:-2], *found[0].shape)


def by_head(
    function: Callable[[Tensor], Tensor],
    edge_index: Tensor,
    edge_weight: Tensor | None,
) -> Tensor | None:
    """Apply a function of the weights of edges to those of each head.

    Returns:
        The results :math:`(H, *)`, or ``None`` without edges of several heads.
    """
    if not is_integer(edge_index) or edge_weight is None:
        return None
    if edge_weight.dim() != 2:
        return None
    return torch.stack([function(head) for head in edge_weight.unbind(1)])


def check_dtype(dtype: torch.dtype) -> torch.dtype:
    """Check that it is a precision to compute in."""
    if dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"Expected 'dtype' to be torch.float32 or torch.float64 (got "
            f'{dtype}).'
        )
    return dtype


def positions_of(name: str, tokens: Tokens, num_nodes: int) -> Tensor:
    """The positions, from 0, as a tensor of no or one dimension."""
    found = torch.as_tensor(tokens)
    if found.numel() == 0:
        found = found.to(torch.int64)
    if found.dim() > 1 or found.dtype not in (torch.int64, torch.int32):
        raise TypeError(
            f"Expected '{name}' to be a position or a sequence of positions "
            f'(got {found.dtype} of shape {list(found.shape)}).'
        )
    outside = (found < -num_nodes) | (found >= num_nodes)
    if outside.any():
        raise ValueError(
            f"Expected '{name}' between {-num_nodes} and {num_nodes - 1} for "
            f'{num_nodes} tokens (got {found[outside].flatten()[0].item()}).'
        )
    return torch.where(found < 0, found + num_nodes, found).long()


def selected(pairs: Tensor, rows: Tokens | None, cols: Tokens | None) -> Tensor:
    """Rows and columns of pairs :math:`(*, N, N)`, as an index each."""
    size = pairs.size(-1)
    if rows is not None:
        receivers = positions_of('rows', rows, size).to(pairs.device)
        pairs = pairs[..., receivers, :]
    if cols is not None:
        pairs = pairs[..., positions_of('cols', cols, size).to(pairs.device)]
    return pairs


def distribution_of(name: str, rho: str | Tensor, like: Tensor) -> Tensor:
    """A distribution :math:`(N)` over tokens by its name, or checked."""
    size = like.size(-1)
    if isinstance(rho, str):
        if rho == 'uniform':
            return like.new_full((size,), 1 / size)
        if rho == 'last':
            return torch.eye(size, dtype=like.dtype, device=like.device)[-1]
        raise ValueError(
            f"Expected '{name}' to be 'uniform', 'last' or a tensor (got "
            f"'{rho}')."
        )
    given = torch.as_tensor(rho).to(like)
    fits = given.shape == (size,) and bool((given >= 0).all())
    if not fits or abs(given.sum() - 1) > 1e-5:
        raise ValueError(
            f"Expected '{name}' to hold {size} non-negative entries that sum "
            f'to one (got shape {tuple(given.shape)}, sum {given.sum():.6g}).'
        )
    return given
