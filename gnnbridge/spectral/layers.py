"""Stacks of attention matrices and what multiplies them, checked."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gnnbridge.graph.dense import as_attention


def stack_of(
    attentions: Tensor | Sequence[Tensor], dtype: torch.dtype
) -> list[Tensor]:
    """One matrix :math:`(*, N, N)` for each layer, all of the same shape."""
    layers = [as_attention(A).to(dtype) for A in attentions]
    if not layers or any(A.shape != layers[0].shape for A in layers):
        raise ValueError(
            f"Expected 'attentions' to hold one matrix of the same shape for "
            f'each layer (got {[tuple(A.shape) for A in layers]}).'
        )
    return layers


def shares_of(
    mixing: float | Tensor, num_layers: int, like: Tensor
) -> list[Tensor]:
    """The mixing of each layer as a column over receivers."""
    shares = torch.as_tensor(mixing, dtype=like.dtype, device=like.device)
    sizes = [(), (num_layers,), (num_layers, like.size(-1))]
    if shares.shape not in sizes:
        raise ValueError(
            f"Expected 'mixing' to be a number or to have one of the shapes "
            f'{sizes[1:]} (got {tuple(shares.shape)}).'
        )
    if not ((shares >= 0) & (shares <= 1)).all():
        raise ValueError(
            f"Expected 'mixing' between 0 and 1 (got values from "
            f'{shares.min():.4g} to {shares.max():.4g}).'
        )
    if shares.dim() < 2:
        shares = shares.reshape(-1, 1).expand(num_layers, like.size(-1))
    return list(shares.unsqueeze(-1))


def stochastic(
    layers: list[Tensor], attentions: Tensor | Sequence[Tensor]
) -> list[Tensor]:
    """Check that every row sums to one, as exactly as its dtype can."""
    for number, (A, given) in enumerate(zip(layers, attentions, strict=True)):
        coarse = given.dtype in (torch.float16, torch.bfloat16)
        gap = (A.sum(-1) - 1).abs()
        if (gap > (0.02 if coarse else 1e-4)).any():
            row = int(gap.flatten().argmax()) % A.size(-1)
            total = A.sum(-1).flatten()[int(gap.flatten().argmax())]
            raise ValueError(
                f'Expected rows that sum to one (got {total.item():.6g} for '
                f'receiver {row} of layer {number}). Use renormalize=True to '
                f'divide each row by its sum.'
            )
    return layers


def renormalized(A: Tensor) -> Tensor:
    """Rows divided by their sums; rows of zeros stay."""
    total = A.sum(-1, keepdim=True)
    return A / total.masked_fill(total == 0, 1.0)
