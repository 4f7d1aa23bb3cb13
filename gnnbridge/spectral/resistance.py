"""Effective resistance of token graphs: directed, metric and classical."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from gnnbridge.graph.dense import as_attention
from gnnbridge.spectral.green import (
    absorption_time,
    first_visits,
    is_lower,
    reachable,
    visits_and_rate,
)
from gnnbridge.spectral.laplacian import off_diagonal

Kind = Literal['causal', 'restart', 'escape', 'undirected']


def effective_resistance(
    edge_index: Tensor,
    edge_weight: Tensor | None = None,
    num_nodes: int | None = None,
    *,
    kind: Kind = 'causal',
    hops: float | None = None,
    conductance: bool = False,
    restart: str | Tensor = 'uniform',
) -> Tensor:
    r"""Effective resistance :math:`R_{i \to j}` from receiver to source.

    Low resistance means that what source :math:`j` holds reaches receiver
    :math:`i`. With :math:`h` the
    :func:`~gnnbridge.spectral.hitting_probability` and :math:`\ell` the
    :func:`~gnnbridge.spectral.leave_rate`, `kind` is one of

    - ``'causal'``: directional, for causal graphs.

      .. math::
          R_{i \to j} = \frac{1}{\ell_i h_{ij}}

      It lies between :math:`1 / \ell_i` and :math:`1 / A_{ij}`, and is
      infinite if :math:`j` is out of reach, as every later token is.
    - ``'restart'``: a metric. The commute time of the walk that starts again
      from a token drawn from :math:`\rho` (`restart`) whenever it has ended,
      over the mean length of its cycles. With :math:`b = \rho^\top h`,

      .. math::
          R_{ij} = \frac{1 - h_{ij}}{b_j} + \frac{1 - h_{ji}}{b_i}

      and infinite if the walk never visits :math:`i` or :math:`j`.
    - ``'escape'``: directional, for any digraph on which the walk ends.

      .. math::
          R_{i \to j} = \frac{1}{d_i \, P_i[T_j < T_i^+]}

      with :math:`d_i` all the weight (and killing) at :math:`i`,
      :math:`T_j` the time at which the walk is first at :math:`j` and
      :math:`T_i^+` the time of its first return, self-loops included
      (`Sugiyama and Sato, 2022 <https://arxiv.org/abs/2202.12560>`_). On
      causal graphs it is ``'causal'``; on undirected ones it tends to the
      classical resistance as `hops` grows.
    - ``'undirected'``: the classical resistance of a network of conductors
      :math:`A_{ij} = A_{ji}`; infinite between its components.

    All but the last need a walk that ends: at a root (see
    :func:`~gnnbridge.spectral.hitting_probability`), or after `hops`
    :math:`= K` steps on average, which matches the score to the depth of a
    model. With `hops`, :math:`h` is the one of that walk and the leave rate
    is :math:`(K \ell_i + \sum_k A_{ik}) / (1 + K)`, killing included.

    .. note::
        With several roots (packed sequences, a window without sinks) each
        root is a token of its own, at which the walk ends and from which it
        may restart.

    Args:
        edge_index: The edges, source first and receiver second, or the
            matrix :math:`A` itself (then without the next two arguments).
        edge_weight: The weight of each edge; ones if not given.
        num_nodes: The number of tokens; inferred if not given.
        kind: Which resistance; see above.
        hops: The expected number of attention hops :math:`K`; unlimited if
            not given. Not for ``'undirected'``.
        conductance: Whether to return :math:`1 / R`, which is 0 where
            :math:`R` is infinite. Its diagonal is the leave rate for the
            directional kinds and 0 for the others.
        restart: The distribution :math:`\rho`: ``'uniform'``, ``'last'`` (the
            last token) or a tensor :math:`(N)`. Only for ``'restart'``.

    Shapes:
        - **input:** edges :math:`(2, E)` and weights :math:`(E)`, or a
          matrix :math:`(*, N, N)`
        - **output:** :math:`(*, N, N)`, row = receiver

    Returns:
        The resistances, in float64, with a diagonal of zeros.

    Raises:
        NotImplementedError: If `kind` is none of the above.
        ValueError: If the graph, `hops` or `restart` do not fit `kind`.

    Example:
        >>> A = torch.tensor([[1., 0., 0.], [.5, .5, 0.], [.2, .3, .5]])
        >>> effective_resistance(A)[2, 1]  # 1 / A[2, 1]: the only route
        tensor(3.3333, dtype=torch.float64)
    """
    _check_options(kind, hops, restart)
    A = as_attention(edge_index, edge_weight, num_nodes)
    if kind == 'undirected':
        resistance = _undirected(A)
    elif kind == 'restart':
        resistance = _restart(A, hops, restart)
    else:
        escape = _causal(A, hops) if kind == 'causal' else _escape(A, hops)
        return escape if conductance else _no_diagonal(_inverse(escape))
    return _no_diagonal(_inverse(resistance)) if conductance else resistance


def total_resistance(
    edge_index: Tensor,
    edge_weight: Tensor | None = None,
    num_nodes: int | None = None,
    *,
    kind: Kind = 'causal',
    hops: float | None = None,
    restart: str | Tensor = 'uniform',
) -> Tensor:
    r"""Sum of the resistances, each pair once with the later token receiving.

    .. math::
        R_{\mathrm{tot}} = \sum_{i > j} R_{i \to j}

    For the symmetric kinds this is the Kirchhoff index. One source out of
    reach of one later receiver makes it infinite.

    Args:
        edge_index: The edges, or the matrix :math:`A`; see
            :func:`effective_resistance`, also for the other arguments.
        edge_weight: The weight of each edge; ones if not given.
        num_nodes: The number of tokens; inferred if not given.
        kind: Which resistance.
        hops: The expected number of attention hops.
        restart: The distribution of restarts.

    Shapes:
        - **input:** edges :math:`(2, E)` and weights :math:`(E)`, or a
          matrix :math:`(*, N, N)`
        - **output:** :math:`(*)`

    Returns:
        The sum, in float64.

    Raises:
        NotImplementedError: As :func:`effective_resistance`.
        ValueError: As :func:`effective_resistance`.
    """
    resistance = effective_resistance(
        edge_index,
        edge_weight,
        num_nodes,
        kind=kind,
        hops=hops,
        restart=restart,
    )
    return resistance.tril(-1).sum((-2, -1))


def commute_time(
    edge_index: Tensor,
    edge_weight: Tensor | None = None,
    num_nodes: int | None = None,
    *,
    restart: str | Tensor = 'uniform',
) -> Tensor:
    r"""Expected steps from `i` to `j` and back, restarting at the root.

    .. math::
        C_{ij} = (1 + \rho \cdot \tau) \, R_{ij}

    with :math:`R` the resistance of kind ``'restart'`` and :math:`\tau` the
    :func:`~gnnbridge.spectral.absorption_time`; a restart takes one step.

    Args:
        edge_index: The edges, or the matrix :math:`A`; see
            :func:`effective_resistance`.
        edge_weight: The weight of each edge; ones if not given.
        num_nodes: The number of tokens; inferred if not given.
        restart: The distribution :math:`\rho` of restarts.

    Shapes:
        - **input:** edges :math:`(2, E)` and weights :math:`(E)`, or a
          matrix :math:`(*, N, N)`
        - **output:** :math:`(*, N, N)`

    Returns:
        The times, in float64; infinite where the walk never comes.

    Raises:
        ValueError: If the graph or `restart` do not fit.
    """
    A = as_attention(edge_index, edge_weight, num_nodes)
    time = absorption_time(A)
    cycle = 1 + time @ _distribution(restart, time)
    return cycle[..., None, None] * _restart(A, None, restart)


def _causal(A: Tensor, hops: float | None) -> Tensor:
    if not is_lower(A):
        *_, i, j = A.triu(1).nonzero()[0].tolist()
        raise ValueError(
            f"Expected a causal graph for kind='causal' (got an edge from the "
            f'later token {j} to token {i}). Use another kind instead.'
        )
    visits, rate = visits_and_rate(A, hops)
    return rate.unsqueeze(-1) * first_visits(visits)


def _escape(A: Tensor, hops: float | None) -> Tensor:
    # Split the first visit to j, and the return to i, by which comes first:
    # h_ij = p + q h_ij and 1 - 1 / G_ii = q + p h_ji; solve for p.
    visits, rate = visits_and_rate(A, hops)
    hit = first_visits(visits)
    back = _no_diagonal(hit * hit.mT)
    stays = visits.diagonal(dim1=-2, dim2=-1).unsqueeze(-1)
    return torch.where(
        _diagonal_mask(A),
        torch.diag_embed(rate),
        rate.unsqueeze(-1) * hit / (stays * (1 - back)),
    )


def _restart(A: Tensor, hops: float | None, restart: str | Tensor) -> Tensor:
    visits, rate = visits_and_rate(A, hops)
    hit = first_visits(visits)
    reach = (_distribution(restart, rate).unsqueeze(-2) @ hit).squeeze(-2)
    visited = reach > 0
    term = (1 - hit) / reach.masked_fill(~visited, 1.0).unsqueeze(-2)
    never = ~(visited.unsqueeze(-1) & visited.unsqueeze(-2))
    return _no_diagonal((term + term.mT).masked_fill(never, math.inf))


def _undirected(A: Tensor) -> Tensor:
    off = off_diagonal(A)
    # float32 weights that were symmetric before a division or a sum.
    if not torch.allclose(off, off.mT, rtol=1e-5, atol=0.0):
        gap = (off - off.mT).abs()
        *_, i, j = (gap == gap.max()).nonzero()[0].tolist()
        raise ValueError(
            f"Expected symmetric weights for kind='undirected' (got tokens "
            f'{i} and {j} that differ by {gap.max().item():.4g} between the '
            f"two directions). Use kind='escape' instead."
        )
    off = (off + off.mT) / 2
    same = reachable(off)
    # One constant vector per component makes the Laplacian invertible and
    # cancels from the differences below.
    block = same.to(off) / same.sum(-1, keepdim=True)
    inverse = torch.linalg.inv(torch.diag_embed(off.sum(-1)) - off + block)
    own = inverse.diagonal(dim1=-2, dim2=-1)
    resistance = own.unsqueeze(-1) + own.unsqueeze(-2) - 2 * inverse
    return _no_diagonal(resistance.masked_fill(~same, math.inf))


def _distribution(restart: str | Tensor, like: Tensor) -> Tensor:
    size = like.size(-1)
    if isinstance(restart, str):
        if restart == 'uniform':
            return like.new_full((size,), 1 / size)
        if restart == 'last':
            return torch.eye(size, dtype=like.dtype, device=like.device)[-1]
        raise ValueError(
            f"Expected 'restart' to be 'uniform', 'last' or a tensor (got "
            f"'{restart}')."
        )
    rho = torch.as_tensor(restart).to(like)
    if rho.shape != (size,) or (rho < 0).any() or abs(rho.sum() - 1) > 1e-5:
        raise ValueError(
            f"Expected 'restart' to hold {size} non-negative entries that sum "
            f'to one (got shape {tuple(rho.shape)}, sum {rho.sum():.6g}).'
        )
    return rho


def _check_options(
    kind: str, hops: float | None, restart: str | Tensor
) -> None:
    if kind not in get_args(Kind):
        raise NotImplementedError(
            f"Expected 'kind' to be one of {get_args(Kind)} (got {kind!r})."
        )
    if kind == 'undirected' and hops is not None:
        raise ValueError(
            f"Expected hops=None for kind='undirected' (got {hops}). Use "
            f"kind='escape' instead."
        )
    default = isinstance(restart, str) and restart == 'uniform'
    if kind != 'restart' and not default:
        raise ValueError(
            f"Expected no 'restart' for kind='{kind}' (got {restart!r}). Use "
            f"kind='restart' instead."
        )


def _diagonal_mask(A: Tensor) -> Tensor:
    return torch.eye(A.size(-1), dtype=torch.bool, device=A.device)


def _no_diagonal(pairs: Tensor) -> Tensor:
    return pairs.masked_fill(_diagonal_mask(pairs), 0.0)


def _inverse(pairs: Tensor) -> Tensor:
    positive = pairs > 0
    inverse = 1 / pairs.masked_fill(~positive, 1.0)
    return inverse.masked_fill(~positive, math.inf)
