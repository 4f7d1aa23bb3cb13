"""The inverse of a lower triangular matrix by recursion on blocks.

Two thirds of the operations of ``torch.linalg.solve_triangular`` with the
identity, almost all of them in matrix products. For an M-matrix every product
has terms of one sign, so no digits are lost in any precision.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

# Blocks of this size are left to the triangular solver.
_LEAF = 64


def inverse_lower(matrix: Tensor) -> Tensor:
    """Inverse of the lower triangles :math:`(*, N, N)`; differentiable.

    What is above the diagonal is not read.
    """
    inverse: Tensor = _InverseLower.apply(matrix)
    return inverse


class _InverseLower(torch.autograd.Function):
    @staticmethod
    def forward(matrix: Tensor) -> Tensor:
        inverse = matrix.tril()
        _invert(inverse)
        return inverse

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (inverse,) = ctx.saved_tensors
        return -(inverse.mT @ grads[0].tril() @ inverse.mT).tril()


def _invert(block: Tensor) -> None:
    """Invert in place."""
    size = block.size(-1)
    if size <= _LEAF:
        eye = torch.eye(size, dtype=block.dtype, device=block.device)
        block.copy_(
            torch.linalg.solve_triangular(
                block, eye.expand_as(block), upper=False
            )
        )
        return
    leaves = -(size // -_LEAF)
    half = (leaves + 1) // 2 * _LEAF
    first, second = block[..., :half, :half], block[..., half:, half:]
    between = block[..., half:, :half]
    _invert(first)
    _invert(second)
    # From zero: the negative of a zero would have an inverse of -inf.
    between.copy_(0 - second @ (between @ first))
