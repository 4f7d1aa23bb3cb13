"""Keys that a layer chose for each query, as an addition to the mask.

Sparse decoders score keys in a small side branch and attend to the best. Only
to kernels that they know by name do they give this choice as a mask; others
are handed the indices.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gnnbridge.models.pairs import intersect


def selected(
    module: nn.Module,
    mask: Tensor | None,  # [B, 1, Q, K]
    shape: tuple[int, int, int, int],
    device: torch.device,
    *,
    indices: Tensor | None = None,  # [B, Q, top-k]
    block_indices: Tensor | None = None,  # [B, groups, Q, top blocks]
    position_ids: Tensor | None = None,
) -> Tensor | None:
    """The mask with all keys closed that a layer did not choose.

    Args:
        module: The attention module.
        mask: Its mask, bool or float, or None.
        shape: ``(batch, heads, queries, keys)``.
        device: Device of the result.
        indices: Chosen keys (DeepSeek-V3.2, GLM-MoE-DSA).
        block_indices: Chosen blocks of keys (MiniMax-M3).
        position_ids: Positions of the queries.
    """
    if indices is not None:
        chosen = torch.zeros(
            shape[0], *shape[2:], dtype=torch.bool, device=device
        )
        chosen = chosen.scatter(-1, indices.long(), True).unsqueeze(1)
        mask = intersect(mask, chosen)
    if block_indices is not None:
        if position_ids is None:
            queries, keys = shape[2:]
            position_ids = torch.arange(keys - queries, keys, device=device)
            position_ids = position_ids.unsqueeze(0)
        indexer: Any = module.indexer
        mask = indexer.build_block_mask(
            block_indices, mask, shape[3], torch.float32, device,
            position_ids.expand(shape[0], -1),
        )  # fmt: skip
    return mask
