r"""The random walk on a token graph, against the information.

From receiver :math:`i` it steps to source :math:`j` with probability
:math:`A_{ij} / \sum_k A_{ik}`. It ends in the closed classes of the graph:
the sets of tokens that reach each other and nothing else. On a causal graph
these are the roots, tokens with no edge but their own self-loop, of which the
first token is always one; packed sequences and windows without sinks have
more. A killed walk (``hops``) ends anywhere.
"""

from __future__ import annotations

import math
from numbers import Real
from typing import Any, NamedTuple

import torch
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from gnnbridge.spectral.laplacian import off_diagonal


class Walk(NamedTuple):
    r"""The jumps of a walk: where it goes when it leaves a token.

    Attributes:
        system: :math:`I - P` :math:`(*, N, N)` with :math:`P` the
            probabilities of the next other token, whose rows sum to one, to
            less where the walk may be killed, and to zero where it ends.
        rate: The leave rates :math:`(*, N)`, killing included.
        total: The weight of each row :math:`(*, N)`, self-loop included.
        lower: Whether no token aggregates from a later one.
        peers: Which pairs :math:`(*, N, N)` are in one closed class; ``None``
            if each closed class is a single token.
    """

    system: Tensor
    rate: Tensor
    total: Tensor
    lower: bool
    peers: Tensor | None


def walk_on(A: Tensor, hops: float | None, dtype: torch.dtype) -> Walk:
    """The walk on a dense graph.

    Dropping the self-loops leaves every hitting probability as it is, and
    makes the matrix to invert unit triangular on a causal graph: nothing is
    divided by a leave rate, however small.
    """
    off = off_diagonal(A, dtype)
    rate, lower = off.sum(-1), is_lower(off)
    total = rate + A.diagonal(dim1=-2, dim2=-1).to(dtype)
    if hops is not None:
        follow, kill = split_hops(hops)
        rate = kill * total + follow * rate
        system = _system(off, rate, follow)
        return Walk(system, rate, total, lower, None)
    peers = None
    if not lower:
        peers = closed_classes(off)
        # Within a closed class of several tokens the walk has ended too.
        ended = peers.any(-1)
        single = peers.sum(-1) <= 1
        off = off.masked_fill(ended.unsqueeze(-1), 0.0)
        peers = None if single.all() else peers
    return Walk(_system(off, rate), rate, total, lower, peers)


def _system(off: Tensor, rate: Tensor, follow: float = 1.0) -> Tensor:
    """One minus the weights over the rates, in one pass."""
    if follow == 0:
        return torch.eye(
            off.size(-1), dtype=off.dtype, device=off.device
        ).expand_as(off)
    # The inverse of a rate may overflow where the quotient does not.
    system = off / (positive(rate) / -follow).unsqueeze(-1)
    system.diagonal(dim1=-2, dim2=-1).fill_(1)
    return system


def split_hops(hops: Any) -> tuple[float, float]:
    """Probabilities to follow an edge and to be killed, `hops` on average."""
    if isinstance(hops, bool) or not isinstance(hops, Real):
        raise TypeError(
            f"Expected 'hops' to be a number (got {hops!r} of type "
            f'{type(hops).__name__}).'
        )
    steps = float(hops)
    if not 0 <= steps < math.inf:
        raise ValueError(
            f"Expected 'hops' to be a finite number of at least 0 (got "
            f'{steps}). Use hops=None for an unlimited depth instead.'
        )
    return steps / (1 + steps), 1 / (1 + steps)


def positive(rate: Tensor) -> Tensor:
    """The rates to divide by; 1 where there is nothing to divide."""
    return rate.masked_fill(rate == 0, 1.0)


def is_lower(A: Tensor) -> bool:
    """Whether no token aggregates from a later one."""
    size = A.size(-1)
    if size > 512:
        # Without a copy of the whole: first the quarter that is all above
        # the diagonal, which settles most graphs that are not causal.
        half = size // 2
        if A[..., :half, half:].any():
            return False
        return is_lower(A[..., :half, :half]) and is_lower(A[..., half:, half:])
    return not bool(A.triu(1).any())


def closed_classes(A: Tensor) -> Tensor:
    """Which pairs of tokens belong to the same closed class, ``bool``.

    A closed class is a strongly connected component that no edge leaves. The
    diagonal marks the tokens in closed classes.
    """
    size = A.size(-1)
    graphs = (A.detach() > 0).reshape(-1, size, size).cpu()
    found = torch.stack([_closed(graph) for graph in graphs])
    return found.reshape(A.shape).to(A.device)


def _closed(graph: Tensor) -> Tensor:
    _, labels = connected_components(
        csr_matrix(graph.numpy()), directed=True, connection='strong'
    )
    label = torch.as_tensor(labels, dtype=torch.int64)
    same = label.unsqueeze(0) == label.unsqueeze(1)
    leaves = (graph & ~same).any(-1)
    open_ = torch.zeros(int(label.max()) + 1, dtype=torch.bool)
    open_[label[leaves]] = True
    return same & ~open_[label].unsqueeze(-1)


def stationary(off: Tensor) -> Tensor:
    r"""Stationary distribution of a closed class in continuous time.

    The :math:`x` with :math:`x^\top L = 0` and sum one, by elimination
    without subtractions (`Grassmann, Taksar and Heyman, 1985
    <https://doi.org/10.1287/opre.33.5.1107>`_), so that weights of very
    different sizes cost no digits.

    Args:
        off: The weights :math:`(N, N)` without self-loops of a strongly
            connected graph, row = receiver.
    """
    size = off.size(-1)
    if size == 1:
        return off.new_ones(1)
    if off.requires_grad:
        # The same by an equation, for autograd.
        laplacian = torch.diag(off.sum(-1)) - off
        ones = off.new_ones(size, 1)
        scale = laplacian.diagonal().mean()
        return torch.linalg.solve(
            (laplacian / scale + ones @ ones.mT / size).mT, ones / size
        ).squeeze(-1)
    rates = off.clone()
    for k in range(size - 1, 0, -1):
        rates[:k, k] /= rates[k, :k].sum()
        rates[:k, :k].addr_(rates[:k, k], rates[k, :k])
    x = off.new_ones(size)
    for k in range(1, size):
        x[k] = x[:k] @ rates[:k, k]
    return x / x.sum()
