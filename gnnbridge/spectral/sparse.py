"""The walk on a causal graph given by edges, without a dense matrix.

The triangular solves are scipy's (SuperLU), on the CPU; results come back on
the device of the edges. Differentiable in the weights.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import spsolve_triangular
from torch import Tensor

from gnnbridge.graph.checks import check_edges
from gnnbridge.spectral.walk import positive, split_hops

# Edges times right-hand sides whose gradients are summed at once.
_CHUNK = 2**24


class SparseEdges(NamedTuple):
    r"""The edges of a causal graph.

    Attributes:
        source: The sources :math:`(E)`.
        target: The receivers :math:`(E)`.
        weight: The weight :math:`(E)` of each, zero for self-loops.
        rate: Their sums :math:`(N)` by receiver.
        total: The same with self-loops.
    """

    source: Tensor
    target: Tensor
    weight: Tensor
    rate: Tensor
    total: Tensor


class TriangularSystem:
    r"""The matrix :math:`I - P` of a strictly lower triangular :math:`P`.

    Args:
        source: The columns :math:`(E)` of the entries of :math:`P`.
        target: Their rows :math:`(E)`.
        jump: The entries :math:`(E)`; duplicates add up, and entries on the
            diagonal do not count.
        size: The number of rows.
    """

    def __init__(
        self, source: Tensor, target: Tensor, jump: Tensor, size: int
    ) -> None:
        self.source, self.target, self.jump = source, target, jump
        self.size = size

    def solve(self, right: Tensor, *, transpose: bool = False) -> Tensor:
        r""":math:`(I - P)^{-1}` or its transpose times a :math:`(N, K)`."""
        solution: Tensor = _Solve.apply(self.jump, right, self, transpose)
        return solution

    @cached_property
    def matrix(self) -> csr_matrix:
        """The same for scipy."""
        row, col = self.target.cpu().numpy(), self.source.cpu().numpy()
        values, size = self.jump.detach().cpu().numpy(), self.size
        loops = row == col
        once = np.array_equal(row[loops], np.arange(size))
        if once and (row[1:] >= row[:-1]).all():
            # As the graphs of this library are: sorted by receiver, with a
            # self-loop each, which makes room for the diagonal.
            start = np.searchsorted(row, np.arange(size + 1))
            data = np.negative(values)
            data[loops] = 1
            index = col.astype(np.int32)
            return csr_matrix((data, index, start), shape=(size, size))
        everyone = np.arange(size)
        rest = ~loops
        entries = np.concatenate([-values[rest], np.ones(size, values.dtype)])
        rows = np.concatenate([row[rest], everyone])
        cols = np.concatenate([col[rest], everyone])
        return csr_matrix((entries, (rows, cols)), shape=(size, size))


class SparseWalk(NamedTuple):
    """The jumps of a causal walk; see :class:`gnnbridge.spectral.walk.Walk`.

    Attributes:
        jumps: The jumps, as the matrix to solve with.
        rate: The leave rates :math:`(N)`, killing included.
        total: The weight of each row :math:`(N)`, self-loop included.
    """

    jumps: TriangularSystem
    rate: Tensor
    total: Tensor


def causal_edges(
    edge_index: Tensor,
    edge_weight: Tensor | None,
    num_nodes: int | None,
    dtype: torch.dtype,
) -> SparseEdges | None:
    """The checked edges of a graph, or ``None`` if it is not causal."""
    num_nodes = check_edges(edge_index, edge_weight, num_nodes)
    source, target = edge_index
    if edge_weight is None:
        edge_weight = torch.ones(source.size(0), device=source.device)
    if (source > target).any():
        return None
    weight = edge_weight.to(dtype)
    zeros = weight.new_zeros(num_nodes)
    total = zeros.index_add(0, target, weight)
    weight = weight.masked_fill(source == target, 0.0)
    rate = zeros.index_add(0, target, weight)
    return SparseEdges(source, target, weight, rate, total)


def sparse_walk(
    edge_index: Tensor,
    edge_weight: Tensor | None,
    num_nodes: int | None,
    hops: float | None,
    dtype: torch.dtype,
) -> SparseWalk | None:
    """The walk of a graph given by edges.

    Returns:
        The walk, or ``None`` if the graph is not causal or has weights of
        several heads.
    """
    if edge_weight is not None and edge_weight.dim() > 1:
        return None
    edges = causal_edges(edge_index, edge_weight, num_nodes, dtype)
    if edges is None:
        return None
    source, target, weight, rate, total = edges
    follow = 1.0
    if hops is not None:
        follow, kill = split_hops(hops)
        rate = kill * total + follow * rate
    jump = follow * weight / positive(rate)[target]
    system = TriangularSystem(source, target, jump, rate.size(0))
    return SparseWalk(system, rate, total)


class _Solve(torch.autograd.Function):
    @staticmethod
    def forward(
        jump: Tensor, right: Tensor, system: TriangularSystem, transpose: bool
    ) -> Tensor:
        if right.size(1) == 0:
            return right.clone()
        matrix = system.matrix
        solution = spsolve_triangular(
            matrix.T if transpose else matrix,
            right.detach().cpu().numpy(),
            lower=not transpose,
            unit_diagonal=True,
        )
        return torch.as_tensor(
            solution, dtype=right.dtype, device=right.device
        ).reshape(right.shape)

    @staticmethod
    def setup_context(
        ctx: Any,
        inputs: tuple[Tensor, Tensor, TriangularSystem, bool],
        output: Tensor,
    ) -> None:
        _, _, ctx.system, ctx.transpose = inputs
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        # x = (I - P)^-1 b: grad b = (I - P)^-T g, grad P = (grad b) x^T.
        (output,) = ctx.saved_tensors
        system: TriangularSystem = ctx.system
        right = system.solve(grads[0], transpose=not ctx.transpose)
        first, second = (output, right) if ctx.transpose else (right, output)
        step = max(_CHUNK // max(output.size(1), 1), 1)
        edges = zip(
            system.target.split(step), system.source.split(step), strict=True
        )
        jump = [(first[t] * second[s]).sum(-1) for t, s in edges]
        return torch.cat(jump), right, None, None
