r"""The walk that starts again: a metric on directed graphs.

Whenever the walk has ended it restarts from a token drawn from :math:`\rho`.
Commute times of the closed chain are a metric.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gnnbridge.graph.dense import as_attention
from gnnbridge.spectral.arguments import check_dtype, distribution_of
from gnnbridge.spectral.classes import class_commute, members
from gnnbridge.spectral.green import first_visits, times, visits_of
from gnnbridge.spectral.laplacian import off_diagonal
from gnnbridge.spectral.walk import Walk, walk_on


def commute_time(
    edge_index: Tensor,
    edge_weight: Tensor | None = None,
    num_nodes: int | None = None,
    *,
    hops: float | None = None,
    restart: str | Tensor = 'uniform',
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    r"""Expected steps from `i` to `j` and back, restarting at the roots.

    .. math::
        C_{ij} = (1 + \rho \cdot \tau) \, R_{ij}

    with :math:`R` the resistance of kind ``'restart'`` and :math:`\tau` the
    :func:`~gnnbridge.spectral.absorption_time`; a restart takes one step. On
    a strongly connected graph the walk never ends, and these are its ordinary
    commute times, :math:`\mathrm{vol} \cdot R` if it is undirected.

    Args:
        edge_index: The edges, or the matrix :math:`A`; see
            :func:`~gnnbridge.spectral.effective_resistance`.
        edge_weight: The weight of each edge; ones if not given.
        num_nodes: The number of tokens; inferred if not given.
        hops: The expected number of attention hops :math:`K` until the walk
            starts again; until it ends if not given.
        restart: The distribution :math:`\rho` of restarts.
        dtype: The precision, ``torch.float64`` or ``torch.float32``.

    Shapes:
        - **input:** edges :math:`(2, E)` and weights :math:`(E)` or
          :math:`(E, H)`, or a matrix :math:`(*, N, N)`
        - **output:** :math:`(*, N, N)`

    Returns:
        The times, in `dtype`; infinite where the walk does not come back.

    Raises:
        ValueError: If a weight is negative or `hops` or `restart` do not fit.
    """
    check_dtype(dtype)
    A = as_attention(edge_index, edge_weight, num_nodes)
    walk = walk_on(A, hops, dtype)
    if walk.peers is None:
        time = times(walk)
        cycle = 1 + time @ distribution_of('restart', restart, time)
        return cycle[..., None, None] * restart_resistance(walk, restart)
    rho = distribution_of('restart', restart, walk.rate)
    size = A.size(-1)
    graphs = A.to(dtype).reshape(-1, size, size)
    return torch.stack([_closed_chain(graph, rho) for graph in graphs]).reshape(
        A.shape
    )


def restart_resistance(walk: Walk, restart: str | Tensor) -> Tensor:
    """Resistance of kind ``'restart'`` of a walk that ends at single tokens.

    See :func:`~gnnbridge.spectral.effective_resistance`.
    """
    if walk.peers is not None:
        batch_and_pair = (walk.peers.sum(-1) > 1).nonzero()[0].tolist()
        raise ValueError(
            f"Expected the walk to end at single tokens for kind='restart' "
            f'(got token {batch_and_pair[-1]} in a closed class of several). '
            f'Use hops=K, the expected number of attention hops, or '
            f"kind='escape' instead."
        )
    hit = first_visits(visits_of(walk), walk)
    rho = distribution_of('restart', restart, walk.rate)
    reach = (rho.unsqueeze(-2) @ hit).squeeze(-2)
    visited = reach > 0
    term = (1 - hit) / reach.masked_fill(~visited, 1.0).unsqueeze(-2)
    never = ~(visited.unsqueeze(-1) & visited.unsqueeze(-2))
    pairs = (term + term.mT).masked_fill(never, math.inf)
    return off_diagonal(pairs, pairs.dtype)


def _closed_chain(A: Tensor, rho: Tensor) -> Tensor:
    """Commute times of one graph whose roots step to `rho`, class by class."""
    off = off_diagonal(A, A.dtype)
    ends = off.sum(-1) == 0
    off = torch.where(ends.unsqueeze(-1), rho, off)
    # A restart to the same root is a step that leads nowhere else.
    stays = torch.where(ends, rho, A.diagonal())
    off = off_diagonal(off, off.dtype)
    rate = off.sum(-1)
    commute = torch.full_like(A, math.inf)
    for tokens in members(off):
        if len(tokens) > 1:
            inner, x = class_commute(off[tokens][:, tokens])
            # Holding times 1 / rate become numbers of steps.
            steps = (rate[tokens] + stays[tokens]) @ x
            block = inner * steps
            commute = commute.index_put((tokens.unsqueeze(1), tokens), block)
    return off_diagonal(commute, commute.dtype)
