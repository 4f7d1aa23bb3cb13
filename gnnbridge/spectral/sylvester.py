r"""Solvers of the Lyapunov equation :math:`M S + S M^\top = W`.

For lower triangular :math:`M` on the CPU a recursion on blocks (`Jonsson and
Kagstrom, 2002 <https://doi.org/10.1145/592843.592845>`_) whose work is in
matrix products, down to blocks of LAPACK's ``trsyl``; no Schur decomposition,
as the matrix is triangular already. For anything else, and on other devices,
the squared iteration of `Smith, 1968 <https://doi.org/10.1137/0116017>`_. With
an M-matrix :math:`M` and :math:`W \ge 0`, both only add terms of one sign.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import lapack
from torch import Tensor

Method: TypeAlias = Literal['recursive', 'smith']

# Below this size ``trsyl`` is faster than more recursion.
_LEAF = 32
# Squarings; the slowest part of the walk may be 2^-_SQUARINGS times as fast
# as the fastest.
_SQUARINGS = 64


def solve_lyapunov(matrix: Tensor, right: Tensor, method: Method) -> Tensor:
    r"""The symmetric :math:`S` with :math:`M S + S M^\top = W`.

    Differentiable, also twice.

    Args:
        matrix: The matrices :math:`M` :math:`(*, N, N)`, eigenvalues to the
            right of zero; lower triangular for ``'recursive'``.
        right: Symmetric :math:`W` :math:`(*, N, N)`.
        method: ``'recursive'`` (CPU) or ``'smith'``.
    """
    solution: Tensor = _Lyapunov.apply(matrix, right, method)
    return solution


class _Lyapunov(torch.autograd.Function):
    @staticmethod
    def forward(matrix: Tensor, right: Tensor, method: Method) -> Tensor:
        if method == 'smith':
            return _smith(matrix, right)
        return _recursive(matrix, right)

    @staticmethod
    def setup_context(
        ctx: Any, inputs: tuple[Tensor, Tensor, Method], output: Tensor
    ) -> None:
        matrix, _, ctx.method = inputs
        ctx.save_for_backward(matrix, output)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        # The adjoint: M^T Y + Y M = G. Reversed, M^T is lower triangular too.
        matrix, solution = ctx.saved_tensors
        grad = (grads[0] + grads[0].mT) / 2
        adjoint = solve_lyapunov(
            matrix.mT.flip(-2, -1), grad.flip(-2, -1), ctx.method
        ).flip(-2, -1)
        return -2 * adjoint @ solution, adjoint, None


def _recursive(matrix: Tensor, right: Tensor) -> Tensor:
    size = matrix.size(-1)
    solution = right.expand_as(matrix).contiguous().clone()
    batch = matrix.contiguous().reshape(-1, size, size)
    for M, S in zip(batch, solution.view(-1, size, size), strict=True):
        _Blocks(M, S).lyapunov(0, size)
    return solution


class _Blocks:
    """The recursion on one matrix, in place of its right-hand side.

    ``trsyl`` wants upper triangles in column order: the transposed blocks.
    """

    def __init__(self, matrix: Tensor, solution: Tensor) -> None:
        self.matrix, self.solution = matrix, solution
        self.upper = matrix.numpy().T
        self.values = solution.numpy().T
        single = matrix.dtype == torch.float32
        self.trsyl = lapack.strsyl if single else lapack.dtrsyl

    def lyapunov(self, low: int, high: int) -> None:
        """Solve the diagonal block of rows and columns `low` to `high`."""
        if high - low <= _LEAF:
            self._leaf(low, high, low, high)
            return
        middle = _half(low, high)
        self.lyapunov(low, middle)
        first = self.solution[low:middle, low:middle]
        below = self.solution[middle:high, low:middle]
        last = self.solution[middle:high, middle:high]
        between = self.matrix[middle:high, low:middle]
        below.addmm_(between, first, alpha=-1)
        self.sylvester(middle, high, low, middle)
        update = between @ below.T
        last.sub_(update).sub_(update.T)
        self.lyapunov(middle, high)
        self.solution[low:middle, middle:high] = below.T

    def sylvester(self, low: int, high: int, left: int, right: int) -> None:
        """Solve the block of rows `low` to `high`, columns `left` to `right`.

        The equations of its rows and columns are triangular each.
        """
        rows, cols = high - low, right - left
        if max(rows, cols) <= _LEAF:
            self._leaf(low, high, left, right)
        elif rows >= cols:
            middle = _half(low, high)
            self.sylvester(low, middle, left, right)
            self.solution[middle:high, left:right].addmm_(
                self.matrix[middle:high, low:middle],
                self.solution[low:middle, left:right],
                alpha=-1,
            )
            self.sylvester(middle, high, left, right)
        else:
            middle = _half(left, right)
            self.sylvester(low, high, left, middle)
            self.solution[low:high, middle:right].addmm_(
                self.solution[low:high, left:middle],
                self.matrix[middle:right, left:middle].T,
                alpha=-1,
            )
            self.sylvester(low, high, middle, right)

    def _leaf(self, low: int, high: int, left: int, right: int) -> None:
        block: NDArray[np.floating] = self.values[left:right, low:high]
        solved, scale, _ = self.trsyl(
            self.upper[left:right, left:right],
            self.upper[low:high, low:high],
            block,
            trana='T',
        )
        block[:] = solved if scale == 1 else solved / scale
        if low == left:
            block[:] = (block + block.T) / 2


def _half(low: int, high: int) -> int:
    """The middle, a multiple of the leaves from `low`."""
    leaves = -((high - low) // -_LEAF)
    return low + (leaves + 1) // 2 * _LEAF


def _smith(matrix: Tensor, right: Tensor) -> Tensor:
    r"""Squared Smith iteration after a Cayley transform.

    With :math:`\mu = \max_i M_{ii}` and :math:`C = (M + \mu)^{-1} (\mu - M)`
    the solution is :math:`\sum_k C^k S_0 C^{k\top}`, :math:`S_0 = 2 \mu (M +
    \mu)^{-1} W (M + \mu)^{-\top}`, whose partial sums double in each step.
    For an M-matrix :math:`\mu` is the smallest for which :math:`C \ge 0`.
    Entries of :math:`C` near one round, which costs a relative error of some
    :math:`\epsilon \mu / \min_i M_{ii}`.
    """
    shift = matrix.diagonal(dim1=-2, dim2=-1).amax(-1)[..., None, None]
    eye = torch.eye(matrix.size(-1), dtype=matrix.dtype, device=matrix.device)
    inverse = torch.linalg.inv(matrix + shift * eye)
    step = inverse @ (shift * eye - matrix)
    total = 2 * shift * inverse @ right @ inverse.mT
    tiny = torch.finfo(matrix.dtype).eps / 4
    for _ in range(_SQUARINGS):
        more = step @ total @ step.mT
        total = total + more
        if (
            more.abs().amax((-2, -1)) <= tiny * total.abs().amax((-2, -1))
        ).all():
            break
        step = step @ step
    else:
        raise ValueError(
            'Expected a graph on which the walk ends within 2^64 times its '
            'shortest stay at a token (got a slower one).'
        )
    return (total + total.mT) / 2
