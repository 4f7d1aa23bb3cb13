"""A clear refusal of second derivatives by kernels that have only the first."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def differentiable_once(name: str, *tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors, whose gradients refuse to be differentiated again."""
    if torch.compiler.is_compiling() or not (
        torch.is_grad_enabled() and any(x.requires_grad for x in tensors)
    ):
        return tensors
    return _Once.apply(name, *tensors)


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
        raise NotImplementedError(_REFUSAL.format(f"of backend '{ctx.name}'"))


def refuse_second(ctx: Any, *grads: Any) -> Any:
    """Derivative of the backward pass of an operation that has no other."""
    raise NotImplementedError(_REFUSAL.format('of a fused kernel'))


_REFUSAL = (
    'Expected first derivatives {} (got a second one). Plan the graph with '
    "backend='scatter', which has derivatives of any order."
)
