r"""Hitting probabilities and absorption times of the walk on a token graph.

See :mod:`gnnbridge.spectral.walk` for the walk and where it ends.
"""

from __future__ import annotations

from collections.abc import Callable

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
)
from gnnbridge.spectral.sparse import SparseWalk, sparse_walk
from gnnbridge.spectral.triangular import inverse_lower
from gnnbridge.spectral.walk import Walk, positive, walk_on


def hitting_probability(
    edge_index: Tensor,
    edge_weight: Tensor | None = None,
    num_nodes: int | None = None,
    *,
    hops: float | None = None,
    rows: Tokens | None = None,
    cols: Tokens | None = None,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    r"""Probability that the walk from receiver `i` ever visits source `j`.

    .. math::
        h_{ij} = \frac{1}{\ell_i} \sum_{k \ne i} A_{ik} h_{kj}
        \quad (i \ne j), \qquad h_{jj} = 1

    Self-loops, and so a residual connection of any strength, leave
    :math:`h` as it is, and so does the scale of a row. On a causal graph this
    is one triangular inverse, and appending tokens never changes old values
    (:class:`~gnnbridge.spectral.cache.ResistanceCache` appends). On other
    digraphs the walk ends in a closed class, a set of tokens that reach each
    other and nothing else, and visits all of it.

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
        rows: The receivers to solve for, as an index; all if not given.
        cols: The sources to solve for, as an index; all if not given. With
            `rows` or `cols`, edges of a causal graph are never made dense:
            each receiver or source is one sparse triangular solve, on the
            CPU.
        dtype: The precision, ``torch.float64`` or ``torch.float32``. On
            causal graphs all terms have one sign, so that float32 keeps six
            digits.

    Shapes:
        - **input:** edges :math:`(2, E)` and weights :math:`(E)` or
          :math:`(E, H)`, or a matrix :math:`(*, N, N)`
        - **output:** :math:`(*, N, N)`, row = receiver, or its `rows` and
          `cols`

    Returns:
        The probabilities, in `dtype`, with a diagonal of ones.

    Raises:
        ValueError: If a weight is negative, if `hops` is negative or not
            finite, or if `rows` or `cols` are no tokens of the graph.

    Example:
        >>> A = torch.tensor([[1., 0., 0.], [.5, .5, 0.], [.2, .3, .5]])
        >>> hitting_probability(A)[2, 1]  # .3 / (.2 + .3)
        tensor(0.6000, dtype=torch.float64)
    """
    check_dtype(dtype)
    chosen = rows is not None or cols is not None
    if chosen and is_integer(edge_index):
        heads = by_head(
            lambda head: hitting_probability(
                edge_index, head, num_nodes,
                hops=hops, rows=rows, cols=cols, dtype=dtype,
            ),
            edge_index,
            edge_weight,
        )  # fmt: skip
        if heads is not None:
            return heads
        sparse = sparse_walk(edge_index, edge_weight, num_nodes, hops, dtype)
        if sparse is not None:
            return sparse_hitting(sparse, rows, cols)
    A = as_attention(edge_index, edge_weight, num_nodes)
    return by_graph(
        lambda graph: hitting_of(walk_on(graph, hops, dtype), rows, cols), A
    )


def absorption_time(
    edge_index: Tensor,
    edge_weight: Tensor | None = None,
    num_nodes: int | None = None,
    *,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    r"""Expected number of steps until the walk from each token has ended.

    .. math::
        \tau_i = 1 + \sum_k \frac{A_{ik}}{\sum_m A_{im}} \tau_k,
        \qquad \tau_{\mathrm{root}} = 0

    Steps along self-loops count. It bounds how much a receiver can draw from
    all tokens but the roots, at any depth. On graphs that are not causal it
    is the time until the walk is in a closed class, zero for its tokens.

    Args:
        edge_index: The edges, or the matrix :math:`A`; see
            :func:`hitting_probability`.
        edge_weight: The weight of each edge; ones if not given.
        num_nodes: The number of tokens; inferred if not given.
        dtype: The precision, ``torch.float64`` or ``torch.float32``. Edges of
            a causal graph take one sparse solve, on the CPU.

    Shapes:
        - **input:** edges :math:`(2, E)` and weights :math:`(E)` or
          :math:`(E, H)`, or a matrix :math:`(*, N, N)`
        - **output:** :math:`(*, N)`

    Returns:
        The times, in `dtype`.

    Raises:
        ValueError: If a weight is negative.
    """
    check_dtype(dtype)
    if is_integer(edge_index):
        heads = by_head(
            lambda head: absorption_time(
                edge_index, head, num_nodes, dtype=dtype
            ),
            edge_index,
            edge_weight,
        )
        if heads is not None:
            return heads
        sparse = sparse_walk(edge_index, edge_weight, num_nodes, None, dtype)
        if sparse is not None:
            stay = _time_at(sparse.total, sparse.rate)
            return sparse.jumps.solve(stay.unsqueeze(-1)).squeeze(-1)
    A = as_attention(edge_index, edge_weight, num_nodes)
    return times(walk_on(A, None, dtype))


def times(walk: Walk) -> Tensor:
    """Expected number of steps of a walk, self-loops included."""
    stay = _time_at(walk.total, walk.rate)
    if walk.peers is not None:
        stay = stay.masked_fill(walk.peers.any(-1), 0.0)
    if walk.lower:
        return torch.linalg.solve_triangular(
            walk.system, stay.unsqueeze(-1), upper=False, unitriangular=True
        ).squeeze(-1)
    return torch.linalg.solve(walk.system, stay)


def visits_of(walk: Walk) -> Tensor:
    """Expected number of times that the walk comes to `j` from `i`."""
    if walk.lower:
        return inverse_lower(walk.system)
    return torch.linalg.inv(walk.system)


def hitting_of(
    walk: Walk, rows: Tokens | None = None, cols: Tokens | None = None
) -> Tensor:
    """Hitting probabilities of a walk, all or chosen ones."""
    size = walk.rate.size(-1)
    receivers = None if rows is None else positions_of('rows', rows, size)
    sources = None if cols is None else positions_of('cols', cols, size)
    if walk.lower and (receivers is not None or sources is not None):
        solve = _dense_solver(walk.system)
        return _chosen(solve, walk.rate, receivers, sources)
    hit = first_visits(visits_of(walk), walk)
    hit = hit if receivers is None else hit[..., receivers, :]
    return hit if sources is None else hit[..., sources]


def first_visits(visits: Tensor, walk: Walk) -> Tensor:
    """Hitting probabilities from the expected numbers of visits."""
    if walk.lower:
        return visits  # never more than one
    hit = visits / visits.diagonal(dim1=-2, dim2=-1).unsqueeze(-2)
    if walk.peers is None:
        return hit
    # The walk ends where it enters a class, and would visit all of it.
    enters = visits @ walk.peers.to(visits)
    return torch.where(walk.peers.any(-1).unsqueeze(-2), enters, hit)


def sparse_hitting(
    walk: SparseWalk, rows: Tokens | None, cols: Tokens | None
) -> Tensor:
    """Chosen hitting probabilities of a causal walk without a dense matrix."""
    size = walk.rate.size(0)
    receivers = None if rows is None else positions_of('rows', rows, size)
    sources = None if cols is None else positions_of('cols', cols, size)

    def solve(right: Tensor, transpose: bool) -> Tensor:
        return walk.jumps.solve(right, transpose=transpose)

    return _chosen(solve, walk.rate, receivers, sources)


def _dense_solver(system: Tensor) -> Callable[[Tensor, bool], Tensor]:
    """Solutions with a unit lower triangular matrix or its transpose."""

    def solve(right: Tensor, transpose: bool) -> Tensor:
        return torch.linalg.solve_triangular(
            system.mT if transpose else system,
            right.expand(*system.shape[:-1], -1),
            upper=transpose,
            unitriangular=True,
        )

    return solve


def _chosen(
    solve: Callable[[Tensor, bool], Tensor],
    like: Tensor,
    receivers: Tensor | None,
    sources: Tensor | None,
) -> Tensor:
    """Rows or columns of a triangular inverse."""
    if receivers is None:
        assert sources is not None
        found = solve(_unit(sources, like), False)
        return found if sources.dim() else found.squeeze(-1)
    hit = solve(_unit(receivers, like), True).mT
    hit = hit if receivers.dim() else hit.squeeze(-2)
    return hit if sources is None else hit[..., sources]


def _unit(tokens: Tensor, like: Tensor) -> Tensor:
    """Columns of the identity."""
    flat = tokens.reshape(-1)
    unit = torch.zeros(like.size(-1), len(flat), dtype=like.dtype)
    unit[flat, torch.arange(len(flat))] = 1
    return unit.to(like.device)


def _time_at(total: Tensor, rate: Tensor) -> Tensor:
    """Expected number of steps at a token before it is left."""
    return (total / positive(rate)).masked_fill(rate == 0, 0.0)
