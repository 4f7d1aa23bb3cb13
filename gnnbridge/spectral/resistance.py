"""Effective resistance of token graphs: directed, metric and classical."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from gnnbridge.graph.checks import is_integer
from gnnbridge.graph.dense import as_attention
from gnnbridge.spectral.arguments import (
    Tokens,
    by_graph,
    by_head,
    check_dtype,
    positions_of,
    selected,
)
from gnnbridge.spectral.escape import escape_conductance
from gnnbridge.spectral.green import hitting_of, sparse_hitting
from gnnbridge.spectral.layers import renormalized
from gnnbridge.spectral.lyapunov import resistance_between
from gnnbridge.spectral.restart import restart_resistance
from gnnbridge.spectral.sparse import sparse_walk
from gnnbridge.spectral.undirected import classical_resistance
from gnnbridge.spectral.walk import Walk, positive, walk_on

Kind = Literal['causal', 'restart', 'lyapunov', 'undirected', 'escape']


def effective_resistance(
    edge_index: Tensor,
    edge_weight: Tensor | None = None,
    num_nodes: int | None = None,
    *,
    kind: Kind = 'causal',
    hops: float | None = None,
    conductance: bool = False,
    restart: str | Tensor = 'uniform',
    rows: Tokens | None = None,
    cols: Tokens | None = None,
    renormalize: bool = False,
    dtype: torch.dtype = torch.float64,
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

      and infinite if the walk never visits :math:`i` or :math:`j`. The walk
      must end at single tokens, or after `hops`.
    - ``'lyapunov'``: the squared distance of what :math:`i` and :math:`j`
      see, a measure of collapse and not of sensitivity; any digraph. See
      :func:`~gnnbridge.spectral.lyapunov_resistance`.
    - ``'escape'``: directional, for any digraph.

      .. math::
          R_{i \to j} = \frac{1}{d_i \, P_i[T_j < T_i^+]}

      with :math:`d_i` all the weight (and killing) at :math:`i`,
      :math:`T_j` the time at which the walk is first at :math:`j` and
      :math:`T_i^+` the time of its first return, self-loops included
      (`Sugiyama and Sato, 2022 <https://arxiv.org/abs/2202.12560>`_). On
      causal graphs it is ``'causal'``, on undirected ones the classical
      resistance. Where it is not causal, and the walk comes back with
      probability :math:`p` before it ends, :math:`1 - p` costs digits.
    - ``'undirected'``: the classical resistance of a network of conductors
      :math:`A_{ij} = A_{ji}`; infinite between its components.

    With `hops` :math:`= K` the walk ends after :math:`K` steps on average,
    which matches the score to the depth of a model: :math:`h` is the one of
    that walk and the leave rate :math:`(K \ell_i + \sum_k A_{ik}) / (1 +
    K)`, killing included.

    Rows need not sum to one: as the conductances of a network, :math:`A` has
    a scale, and resistance has the inverse one. Differences of maps have
    negative weights and no walk; measure each map, or their positive part.

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
            not given. Not for ``'lyapunov'`` and ``'undirected'``.
        conductance: Whether to return :math:`1 / R`, which is 0 where
            :math:`R` is infinite. Its diagonal is the leave rate for the
            directional kinds and 0 for the others.
        restart: The distribution :math:`\rho`: ``'uniform'``, ``'last'`` (the
            last token) or a tensor :math:`(N)`. Only for ``'restart'``.
        rows: The receivers to return, as an index; all if not given.
        cols: The sources to return, as an index; all if not given. For
            ``'causal'`` only these are solved for, and edges are never made
            dense.
        renormalize: Whether to divide each row by its sum first.
        dtype: The precision, ``torch.float64`` or ``torch.float32``.

    Shapes:
        - **input:** edges :math:`(2, E)` and weights :math:`(E)` or
          :math:`(E, H)`, or a matrix :math:`(*, N, N)`
        - **output:** :math:`(*, N, N)`, row = receiver, or its `rows` and
          `cols`

    Returns:
        The resistances, in `dtype`, with a diagonal of zeros.

    Raises:
        ValueError: If the graph, `hops`, `restart`, `rows` or `cols` do not
            fit `kind`, or a weight is negative, NaN or infinite.

    Example:
        >>> A = torch.tensor([[1., 0., 0.], [.5, .5, 0.], [.2, .3, .5]])
        >>> effective_resistance(A)[2, 1]  # 1 / A[2, 1]: the only route
        tensor(3.3333, dtype=torch.float64)
    """
    _check_options(kind, hops, restart)
    check_dtype(dtype)
    chosen = rows is not None or cols is not None
    if kind == 'causal' and chosen and is_integer(edge_index):
        heads = by_head(
            lambda head: effective_resistance(
                edge_index, head, num_nodes, hops=hops,
                conductance=conductance, rows=rows, cols=cols,
                renormalize=renormalize, dtype=dtype,
            ),
            edge_index,
            edge_weight,
        )  # fmt: skip
        if heads is not None:
            return heads
        sparse = sparse_walk(edge_index, edge_weight, num_nodes, hops, dtype)
        if sparse is not None:
            rate, size = sparse.rate, sparse.rate.size(0)
            rate = rate / positive(sparse.total) if renormalize else rate
            flow = _conductance(rate, sparse_hitting(sparse, rows, cols), rows)
            return flow if conductance else _resistance(flow, size, rows, cols)
    A = as_attention(edge_index, edge_weight, num_nodes)
    if renormalize:
        A = renormalized(A.to(dtype))

    def pairs_of(graph: Tensor) -> Tensor:
        if kind == 'causal':
            walk = _causal_walk(graph, hops, dtype)
            flow = _conductance(walk.rate, hitting_of(walk, rows, cols), rows)
            if conductance:
                return flow
            return _resistance(flow, A.size(-1), rows, cols)
        pairs, is_conductance = _all_pairs(graph, kind, hops, restart, dtype)
        if conductance != is_conductance:
            pairs = _resistance(pairs, A.size(-1))
        return selected(pairs, rows, cols)

    return by_graph(pairs_of, A)


def total_resistance(
    edge_index: Tensor,
    edge_weight: Tensor | None = None,
    num_nodes: int | None = None,
    *,
    kind: Kind = 'causal',
    hops: float | None = None,
    restart: str | Tensor = 'uniform',
    renormalize: bool = False,
    dtype: torch.dtype = torch.float64,
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
        renormalize: Whether to divide each row by its sum first.
        dtype: The precision.

    Shapes:
        - **input:** edges :math:`(2, E)` and weights :math:`(E)`, or a
          matrix :math:`(*, N, N)`
        - **output:** :math:`(*)`

    Returns:
        The sum, in `dtype`.

    Raises:
        ValueError: As :func:`effective_resistance`.
    """
    resistance = effective_resistance(
        edge_index,
        edge_weight,
        num_nodes,
        kind=kind,
        hops=hops,
        restart=restart,
        renormalize=renormalize,
        dtype=dtype,
    )
    return resistance.tril(-1).sum((-2, -1))


def _causal_walk(A: Tensor, hops: float | None, dtype: torch.dtype) -> Walk:
    walk = walk_on(A, hops, dtype)
    if not walk.lower:
        *_, i, j = A.triu(1).nonzero()[0].tolist()
        raise ValueError(
            f"Expected a causal graph for kind='causal' (got an edge from the "
            f"later token {j} to token {i}). Use kind='escape' instead."
        )
    return walk


def _all_pairs(
    A: Tensor,
    kind: str,
    hops: float | None,
    restart: str | Tensor,
    dtype: torch.dtype,
) -> tuple[Tensor, bool]:
    """The pairs of a kind, and whether they are conductances."""
    if kind == 'escape':
        return escape_conductance(A, hops, dtype), True
    if kind == 'undirected':
        return classical_resistance(A, dtype), False
    if kind == 'lyapunov':
        return resistance_between(A, 'keep', 'auto', dtype), False
    return restart_resistance(walk_on(A, hops, dtype), restart), False


def _conductance(rate: Tensor, hit: Tensor, rows: Tokens | None) -> Tensor:
    """Leave rates of the receivers times chosen hitting probabilities."""
    if rows is not None:
        rate = rate[..., positions_of('rows', rows, rate.size(-1))]
    # One source chosen has no dimension of its own.
    return (rate.unsqueeze(-1) if hit.dim() > rate.dim() else rate) * hit


def _resistance(
    flow: Tensor,
    size: int,
    rows: Tokens | None = None,
    cols: Tokens | None = None,
) -> Tensor:
    """Inverse entries, infinite at zero; zero from a token to itself."""
    if rows is None and cols is None and not flow.requires_grad:
        inverse = flow.reciprocal()
        inverse.diagonal(dim1=-2, dim2=-1).zero_()
        return inverse
    # 1 / 0 has no gradient that could be masked afterwards.
    none = flow == 0
    inverse = 1 / flow.masked_fill(none, 1.0)
    inverse = inverse.masked_fill(none, math.inf)
    everyone = range(size)
    receivers = positions_of('rows', everyone if rows is None else rows, size)
    sources = positions_of('cols', everyone if cols is None else cols, size)
    if receivers.dim():
        receivers = receivers.reshape(-1, *[1] * sources.dim())
    same = (receivers == sources).to(flow.device)
    return inverse.masked_fill(same, 0.0)


def _check_options(
    kind: str, hops: float | None, restart: str | Tensor
) -> None:
    if kind not in get_args(Kind):
        raise ValueError(
            f"Expected 'kind' to be one of {get_args(Kind)} (got {kind!r})."
        )
    if kind in ('undirected', 'lyapunov') and hops is not None:
        raise ValueError(
            f"Expected hops=None for kind='{kind}' (got {hops}). Use "
            f"kind='escape' instead."
        )
    default = isinstance(restart, str) and restart == 'uniform'
    if kind != 'restart' and not default:
        raise ValueError(
            f"Expected no 'restart' for kind='{kind}' (got {restart!r}). Use "
            f"kind='restart' instead."
        )
