"""The graph of an attention mask."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import Data

from gnnbridge.graph.checks import check_num_edges


def from_mask(
    mask: Tensor,  # shape: [Nq, Nk]
    *,
    device: torch.device | str | None = None,
) -> Data:
    r"""The graph of a mask ``mask[i, j]``, row = query, true = keep.

    Args:
        mask: Bool, ``[N, N]``, or ``[Nq, Nk]`` with ``Nq <= Nk`` for queries
            that are the last ``Nq`` of ``Nk`` keys, as with a KV cache.
        device: Where the tensors live; by default where the mask is.

    Returns:
        A graph over the ``Nk`` keys, with ``num_queries`` if ``Nq < Nk``.

    Raises:
        TypeError: If the mask is not bool. An additive mask does not say
            which of its values mean "hidden": compare it first.
        ValueError: If the shape does not fit or nothing is kept.
    """
    _check_mask(mask)
    num_queries, num_keys = mask.shape
    query, source = mask.to(device).nonzero(as_tuple=True)
    edge_index = torch.stack([source, query + num_keys - num_queries])
    check_num_edges(edge_index)
    data = Data(
        edge_index=edge_index,
        num_nodes=num_keys,
        position=torch.arange(num_keys, device=edge_index.device),
    )
    if num_queries < num_keys:
        data.num_queries = num_queries
    return data


def _check_mask(mask: Tensor) -> None:
    if not isinstance(mask, Tensor):
        raise TypeError(
            f"Expected 'mask' to be a tensor (got {type(mask).__name__})."
        )
    if mask.is_floating_point():
        raise TypeError(
            f"Expected 'mask' to be bool, true = keep (got {mask.dtype}). Use "
            "'mask == 0' for an additive mask that is 0 where a key is kept, "
            'and -inf or the smallest float where it is hidden.'
        )
    if mask.dtype != torch.bool:
        raise TypeError(
            f"Expected 'mask' to be bool, true = keep (got {mask.dtype}). Use "
            "'mask.bool()' if 1 means keep."
        )
    if mask.dim() != 2:
        raise ValueError(
            "Expected 'mask' to have shape [Nq, Nk] "
            f"(got {list(mask.shape)}). Use 'mask[b, 0]' to take sequence b "
            'of a mask of shape [B, 1, Nq, Nk].'
        )
    if mask.numel() == 0 or mask.size(0) > mask.size(1):
        raise ValueError(
            "Expected 'mask' to have 1 <= Nq <= Nk, the queries being the "
            f'last of the keys (got {list(mask.shape)}).'
        )
