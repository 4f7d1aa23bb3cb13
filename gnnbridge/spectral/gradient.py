"""The gradient of resistance in every edge that a graph could have."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gnnbridge.graph.dense import as_attention
from gnnbridge.spectral.arguments import check_dtype
from gnnbridge.spectral.green import hitting_of
from gnnbridge.spectral.walk import is_lower, positive, split_hops, walk_on


def resistance_gradient(
    edge_index: Tensor,
    edge_weight: Tensor | None = None,
    num_nodes: int | None = None,
    *,
    hops: float | None = None,
    pairs: Tensor | None = None,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    r"""Change of the causal resistance per weight added to each edge.

    .. math::
        G_{al} = \frac{\partial}{\partial A_{al}}
        \sum_{i > j} w_{ij} R_{i \to j}

    for every receiver :math:`a` and source :math:`l < a`, edges that the graph
    does not have included. To move weight in row :math:`a` from source
    :math:`k` to :math:`l`, as attention does, is worth :math:`G_{al} -
    G_{ak}`. From :math:`\partial h_{ij} / \partial A_{al} = h_{ia} (h_{lj} -
    h_{aj}) / \ell_a`, all entries in two products of matrices.

    Args:
        edge_index: The edges of a causal graph, source first and receiver
            second, or the matrix :math:`A` itself (then without the next two
            arguments).
        edge_weight: The weight of each edge; ones if not given.
        num_nodes: The number of tokens; inferred if not given.
        hops: The expected number of attention hops; unlimited if not given.
        pairs: The weights :math:`w`, row = receiver; ones if not given, for
            the :func:`~gnnbridge.spectral.total_resistance`.
        dtype: The precision, ``torch.float64`` or ``torch.float32``.

    Shapes:
        - **input:** edges :math:`(2, E)` and weights :math:`(E)` or
          :math:`(E, H)`, or a matrix :math:`(*, N, N)`
        - **pairs:** :math:`(N, N)` or :math:`(*, N, N)`
        - **output:** :math:`(*, N, N)`, row = receiver

    Returns:
        The gradient, in `dtype`; zero above the diagonal, minus infinity for
        edges that would connect a pair of infinite resistance, or that would
        be the first into a root other than the first token. On the diagonal
        the change for a self-loop, zero without `hops`.

    Raises:
        ValueError: If the graph is not causal, a weight is negative, or
            `pairs` do not fit.

    Example:
        >>> A = torch.tensor([[1., 0., 0.], [.5, .5, 0.], [.2, .3, .5]])
        >>> resistance_gradient(A)[2]  # R = 1 / .5 + 1 / .3, and R_10
        tensor([ -4.0000, -15.1111,  0.0000], dtype=torch.float64)
    """
    check_dtype(dtype)
    A = as_attention(edge_index, edge_weight, num_nodes)
    if not is_lower(A):
        *_, i, j = A.triu(1).nonzero()[0].tolist()
        raise ValueError(
            f'Expected a causal graph (got an edge from the later token {j} '
            f'to token {i}).'
        )
    weight = torch.ones_like(A, dtype=dtype)
    if pairs is not None:
        if pairs.shape not in (A.shape, A.shape[-2:]):
            raise ValueError(
                f"Expected 'pairs' of shape {list(A.shape[-2:])} (got "
                f'{list(pairs.shape)}).'
            )
        weight = pairs.to(weight).expand_as(weight)
    weight = weight.tril(-1)
    follow, kill = (1.0, 0.0) if hops is None else split_hops(hops)
    walk = walk_on(A, hops, dtype)
    h, rate = hitting_of(walk), walk.rate.unsqueeze(-1)
    flow = rate * h
    apart = (flow == 0) & (weight != 0)
    # Derivative of the sum in each conductance.
    slope = -weight / flow.masked_fill(flow == 0, 1.0).square()
    slope = slope.masked_fill(flow == 0, 0.0)
    # What passes a on the way from i, for every source before a.
    through = (h.mT @ (rate * slope)).tril(-1) / positive(rate)
    own = ((slope - through) * h).sum(-1, keepdim=True)
    gradient = (follow * through @ h.mT + own).tril(-1)
    gradient = gradient + torch.diag_embed(kill * own.squeeze(-1))
    # The first edge into a root changes all walks that pass it at once.
    ends = walk.rate == 0
    reach = (h > 0).to(dtype)
    jumps = torch.zeros_like(apart)
    if apart.any():
        jumps |= (reach.mT @ apart.to(dtype) @ reach.mT) > 0
    if ends[..., 1:].any():
        passing = reach.mT @ (weight != 0).to(dtype) @ reach.mT
        jumps |= (passing > 0) & ends.unsqueeze(-1)
    return gradient.masked_fill(jumps.tril(-1), -math.inf)
