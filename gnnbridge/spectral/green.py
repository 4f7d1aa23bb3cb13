r"""Hitting probabilities and absorption times of the walk on a token graph.

The walk goes against the information, from receiver :math:`i` to source
:math:`j` with probability :math:`A_{ij} / \sum_k A_{ik}`. A root is a token
with no edge but its own self-loop (the first token of a causal graph): the
walk that reaches it stays there. A graph may have several roots (packed
sequences, a window without sinks); each counts as a token of its own.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gnnbridge.graph.dense import as_attention
from gnnbridge.spectral.laplacian import off_diagonal


def hitting_probability(
    edge_index: Tensor,
    edge_weight: Tensor | None = None,
    num_nodes: int | None = None,
    *,
    hops: float | None = None,
) -> Tensor:
    r"""Probability that the walk from receiver `i` ever visits source `j`.

    .. math::
        h_{ij} = \frac{1}{\ell_i} \sum_{k \ne i} A_{ik} h_{kj}
        \quad (i \ne j), \qquad h_{jj} = 1

    Self-loops, and so a residual connection of any strength, leave
    :math:`h` as it is. On a causal graph this is one triangular solve, and
    appending tokens never changes old values.

    With `hops` :math:`= K` the walk is killed with probability
    :math:`1 / (1 + K)` before each step, so that it makes :math:`K` steps
    on average: the depth-matched form, for a model whose residual mixing
    adds up to :math:`K = \sum_l \alpha_l`. :math:`K \to \infty` gives back
    :math:`h`, and small :math:`K` direct attention.

    Args:
        edge_index: The edges, source first and receiver second, or the
            matrix :math:`A` itself (then without the next two arguments).
        edge_weight: The weight of each edge; ones if not given.
        num_nodes: The number of tokens; inferred if not given.
        hops: The expected number of attention hops :math:`K`; unlimited if
            not given.

    Shapes:
        - **input:** edges :math:`(2, E)` and weights :math:`(E)`, or a
          matrix :math:`(*, N, N)`
        - **output:** :math:`(*, N, N)`, row = receiver

    Returns:
        The probabilities, in float64, with a diagonal of ones.

    Raises:
        ValueError: If a weight is negative, if `hops` is negative or not
            finite, or if a token of a graph that is not causal reaches no
            root and `hops` is not given.

    Example:
        >>> A = torch.tensor([[1., 0., 0.], [.5, .5, 0.], [.2, .3, .5]])
        >>> hitting_probability(A)[2, 1]  # .3 / (.2 + .3)
        tensor(0.6000, dtype=torch.float64)
    """
    A = as_attention(edge_index, edge_weight, num_nodes)
    visits, _ = visits_and_rate(A, hops)
    return first_visits(visits)


def absorption_time(
    edge_index: Tensor,
    edge_weight: Tensor | None = None,
    num_nodes: int | None = None,
) -> Tensor:
    r"""Expected number of steps until the walk from each token is at a root.

    .. math::
        \tau_i = 1 + \sum_k \frac{A_{ik}}{\sum_m A_{im}} \tau_k,
        \qquad \tau_{\mathrm{root}} = 0

    Steps along self-loops count. It bounds how much a receiver can draw from
    all tokens but the roots, at any depth.

    Args:
        edge_index: The edges, or the matrix :math:`A`; see
            :func:`hitting_probability`.
        edge_weight: The weight of each edge; ones if not given.
        num_nodes: The number of tokens; inferred if not given.

    Shapes:
        - **input:** edges :math:`(2, E)` and weights :math:`(E)`, or a
          matrix :math:`(*, N, N)`
        - **output:** :math:`(*, N)`

    Returns:
        The times, in float64.

    Raises:
        ValueError: If a weight is negative, or if a token of a graph that is
            not causal reaches no root.
    """
    A = as_attention(edge_index, edge_weight, num_nodes)
    visits, rate = visits_and_rate(A, None)
    stay = A.to(rate.dtype).sum(-1) / rate.masked_fill(rate == 0, math.inf)
    return (visits @ stay.unsqueeze(-1)).squeeze(-1)


def visits_and_rate(A: Tensor, hops: float | None) -> tuple[Tensor, Tensor]:
    r"""Green function of the walk without its self-loops, and leave rates.

    Dropping the self-loops leaves every hitting probability as it is, and
    makes the matrix to invert unit triangular on a causal graph: nothing is
    divided by :math:`\ell_j`, however small. With `hops` the leave rate
    includes the rate at which the walk is killed.

    Returns:
        The expected number of visits to `j` from `i`, :math:`(*, N, N)`, and
        the leave rates :math:`(*, N)`; 0 for a root of an unkilled walk and
        for a token without any edge.
    """
    off = off_diagonal(A)
    rate = off.sum(-1)
    if hops is None:
        jump = _over(off, rate)
    else:
        follow, kill = _split(hops)
        total = A.to(off.dtype).sum(-1)
        rate = kill * total + follow * rate
        jump = _over(follow * off, rate)
    eye = torch.eye(off.size(-1), dtype=off.dtype, device=off.device)
    if is_lower(off):
        visits = torch.linalg.solve_triangular(
            eye - jump, eye.expand_as(jump), upper=False, unitriangular=True
        )
        return visits, rate
    if hops is None:
        _require_root(off, rate)
    return torch.linalg.solve(eye - jump, eye.expand_as(jump)), rate


def first_visits(visits: Tensor) -> Tensor:
    """Hitting probabilities from the expected number of visits."""
    return visits / visits.diagonal(dim1=-2, dim2=-1).unsqueeze(-2)


def is_lower(A: Tensor) -> bool:
    """Whether no token aggregates from a later one."""
    return not bool(A.triu(1).any())


def reachable(A: Tensor) -> Tensor:
    """Which sources `j` a walk from `i` can ever visit, itself included."""
    size = A.size(-1)
    steps = (A > 0) | torch.eye(size, dtype=torch.bool, device=A.device)
    for _ in range(max(size - 1, 1).bit_length()):
        steps = (steps.to(A.dtype) @ steps.to(A.dtype)) > 0
    return steps


def _over(weights: Tensor, rate: Tensor) -> Tensor:
    """Rows over their rate; the rows of roots, which are zero, as they are."""
    return weights / rate.masked_fill(rate == 0, 1.0).unsqueeze(-1)


def _split(hops: float) -> tuple[float, float]:
    """Probabilities to follow an edge and to be killed, `hops` on average."""
    if not 0 <= hops < math.inf:
        raise ValueError(
            f"Expected 'hops' to be a finite number of at least 0 (got "
            f'{hops}). Use hops=None for an unlimited depth instead.'
        )
    return hops / (1 + hops), 1 / (1 + hops)


def _require_root(off: Tensor, rate: Tensor) -> None:
    ends = (reachable(off) & (rate == 0).unsqueeze(-2)).any(-1)
    if not ends.all():
        token = (~ends).nonzero()[0, -1].item()
        raise ValueError(
            f'Expected every token to reach a root, a token without edges '
            f'from other tokens (got token {token}, which reaches none). Use '
            f'hops=K, the expected number of attention hops, instead.'
        )
