"""A clear refusal of second derivatives by kernels that have only the first."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch_geometric.typing import OptTensor


def differentiable_once(name: str, *tensors: OptTensor) -> tuple[Any, ...]:
    """The tensors, whose gradients refuse to be differentiated again."""
    if torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return tensors
    wanted = [x for x in tensors if x is not None and x.requires_grad]
    if not wanted:
        return tensors
    guarded = iter(_Once.apply(name, *wanted))
    return tuple(
        x if x is None or not x.requires_grad else next(guarded)
        for x in tensors
    )


class _Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, name: str, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.name = name
        return tuple(x.view_as(x) for x in tensors)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        if torch.is_grad_enabled():
            grads = _Refusal.apply(ctx.name, *grads)
        return None, *grads


class _Refusal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, name: str, *grads: Tensor) -> tuple[Tensor, ...]:
        ctx.name = name
        return tuple(x.view_as(x) for x in grads)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        raise NotImplementedError(
            f"Expected first derivatives of backend '{ctx.name}' (got a second "
            f"one). Plan the graph with backend='scatter', which has "
            f'derivatives of any order.'
        )
