"""Rotary position embeddings (https://arxiv.org/abs/2104.09864)."""

from __future__ import annotations

from typing import Optional

import torch
from torch import Tensor
from torch_geometric.typing import OptTensor


def check_width(width: int, theta: Optional[float]) -> None:
    """Raises a ValueError if heads of this width cannot be rotated."""
    if theta is not None and width % 2 != 0:
        raise ValueError(
            f'Expected heads of even width for rotary embeddings (got {width}).'
        )


def positions_of(
    x: Tensor, position: OptTensor, theta: Optional[float]
) -> OptTensor:
    """The positions of nodes ``[N]``; None for a layer without rotation.

    Raises:
        ValueError: If positions are given to such a layer, or do not fit.
    """
    if position is not None and theta is None:
        raise ValueError(
            "Expected no 'position' (got one, but the layer has no "
            "position encoding). Build it with 'rope_theta=10000.0'."
        )
    if position is not None and position.shape != x.shape[:1]:
        raise ValueError(
            f"Expected 'position' of shape [{x.size(0)}] (got "
            f'{list(position.shape)}).'
        )
    if theta is not None and position is None:
        return torch.arange(x.size(0), device=x.device)
    return position


def rotate(x: Tensor, position: Tensor, theta: float) -> Tensor:
    """Rotates heads ``[N, H, D]`` by their positions (eq. 34)."""
    half = x.size(-1) // 2
    dtype = torch.promote_types(x.dtype, torch.float32)
    step = torch.arange(half, device=x.device, dtype=dtype)
    angle = position.unsqueeze(-1) * theta ** (-step / half)
    cos = angle.cos().unsqueeze(1).to(x.dtype)
    sin = angle.sin().unsqueeze(1).to(x.dtype)
    first, second = x[..., :half], x[..., half:]
    return torch.cat(
        [first * cos - second * sin, second * cos + first * sin], dim=-1
    )
