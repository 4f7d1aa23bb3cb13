r"""Sums of powers of a transition matrix, exactly or by pushing.

Here matrices are as in the paper and in PyG: row = source, column = target.
A column sums to one if it is normalised over the edges into a target.

Everything is a sum of products of non-negative numbers, or a solution of a
system that stays so (an M-matrix, diagonally dominant by columns). So each
entry is right to a relative error, and zero where no path leads.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from scipy import sparse
from scipy.special import gammaln
from torch import Tensor

Normalization = Literal['sym', 'col', 'row']

# Rows of the sparse form at a time: bounds the memory of what is pushed.
_ROWS = 1 << 8


def diffusion_matrix(
    A: Tensor,  # shape: [N, N]
    normalization: Normalization,
    diffuse: Callable[[Tensor], Tensor],
) -> Tensor:  # shape: [N, N]
    r"""A function of the transition matrix :math:`T`.

    With :math:`D` the diagonal matrix of the column sums, :math:`T` is
    :math:`A D^{-1}` (``'col'``), :math:`D^{-1/2} A D^{-1/2}` (``'sym'``), or
    that of the rows (``'row'``). What has no sum is left out.

    Args:
        A: The weights in float64, row = source.
        normalization: Which :math:`T`.
        diffuse: The function, of a matrix whose columns sum to at most one.
    """
    if normalization == 'row':
        return diffusion_matrix(A.T, 'col', diffuse).T
    degree = A.sum(0)
    used = degree > 0
    scale = degree.where(used, 1)
    walk = A / scale
    if normalization == 'col':
        return diffuse(walk)
    # 'sym' is similar to it.
    root = scale.sqrt()
    return diffuse(walk * used[:, None]) * (root / root[:, None])


def pagerank(walk: Tensor, alpha: float) -> Tensor:
    r""":math:`\alpha (I - (1 - \alpha) T)^{-1}`."""
    system = (alpha - 1) * walk
    system.diagonal().add_(1)
    return torch.linalg.inv(system).mul_(alpha)


def polynomial(walk: Tensor, coefficients: np.ndarray) -> Tensor:
    r""":math:`\sum_k \theta_k T^k`, in about :math:`2 \sqrt{K}` products.

    Powers up to :math:`q = \sqrt{K}` are kept, and the sum is nested in
    :math:`T^q` (Paterson and Stockmeyer, 1973).
    """
    size = math.isqrt(len(coefficients) - 1) + 1
    powers = [torch.eye(len(walk), dtype=walk.dtype)]
    while len(powers) < size:
        powers.append(powers[-1] @ walk)
    step = powers[-1] @ walk
    flat = torch.stack(powers).flatten(1)
    total = torch.zeros_like(walk)
    for start in reversed(range(0, len(coefficients), size)):
        block = torch.from_numpy(coefficients[start : start + size])
        part = (block @ flat[: len(block)]).view_as(walk)
        total = torch.addmm(part, total, step)
    return total


def heat_coefficients(t: float) -> np.ndarray:
    r""":math:`e^{-t} t^k / k!`, as far as they count in double precision."""
    k = np.arange(math.ceil(t + 12 * math.sqrt(t) + 30))
    coefficients: np.ndarray = np.exp(k * np.log(t) - t - gammaln(k + 1))
    last = np.flatnonzero(coefficients > 1e-18 * coefficients.max())[-1]
    return coefficients[: last + 1]


def pushed_pagerank(
    A: sparse.csr_array,  # shape: [N, N]
    normalization: Normalization,
    alpha: float,
    tolerance: float,
) -> sparse.csr_array:  # shape: [N, N]
    r"""Personalised PageRank from below, with sparse columns.

    The push of `Andersen, Chung and Lang, 2006
    <https://doi.org/10.1109/FOCS.2006.44>`_ from all nodes, each round at all
    places whose residual is above :math:`\epsilon d_u`, with
    :math:`d` the sums of weights relative to the mean weight. What an
    undirected graph lacks at :math:`u` in the end is at most that, for
    ``'sym'`` :math:`\epsilon \sqrt{d_u d_v}`.
    """
    if normalization == 'row':
        turned = A.T.tocsr()
        return pushed_pagerank(turned, 'col', alpha, tolerance).T.tocsr()
    degree = A.sum(0)
    used = degree > 0
    scale = np.where(used, degree, 1)
    walk = (A.T / scale[:, None]).tocsr()
    if normalization == 'sym':
        walk = (walk * used).tocsr()
    slack = tolerance * degree / A.data.mean() if A.nnz > 0 else degree
    found = sparse.vstack(
        [
            _push(walk, np.arange(start, stop), alpha, slack)
            for start, stop in _runs(len(degree))
        ]
    )
    if normalization == 'sym':
        root = np.sqrt(scale)
        found = found.tocsr() * root[:, None] / root
    return found.T.tocsr()


def _runs(num_nodes: int) -> list[tuple[int, int]]:
    starts = range(0, num_nodes, _ROWS)
    return [(start, min(start + _ROWS, num_nodes)) for start in starts]


def _push(
    walk: sparse.csr_array,  # shape: [N, N]
    seeds: np.ndarray,  # shape: [M]
    alpha: float,
    slack: np.ndarray,  # shape: [N]
) -> sparse.csr_array:  # shape: [M, N]
    ones = np.ones(seeds.size), (np.arange(seeds.size), seeds)
    residual = sparse.csr_array(ones, shape=(seeds.size, walk.shape[0]))
    total = 0 * residual
    while True:
        large = residual.data > slack[residual.indices]
        pushed = _only(residual, large)
        if pushed.nnz == 0:
            return total
        total = total + alpha * pushed
        residual = _only(residual, ~large) + (1 - alpha) * (pushed @ walk)


def _only(matrix: sparse.csr_array, kept: np.ndarray) -> sparse.csr_array:
    """The entries that are kept."""
    before = np.concatenate([[0], kept.cumsum()])
    parts = matrix.data[kept], matrix.indices[kept], before[matrix.indptr]
    return sparse.csr_array(parts, shape=matrix.shape)
