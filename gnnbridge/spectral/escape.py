r"""Escape conductances :math:`d_i P_i[T_j < T_i^+]` of any digraph."""

from __future__ import annotations

import torch
from torch import Tensor

from gnnbridge.spectral.classes import class_commute, members
from gnnbridge.spectral.green import first_visits, visits_of
from gnnbridge.spectral.laplacian import off_diagonal
from gnnbridge.spectral.walk import walk_on


def escape_conductance(
    A: Tensor, hops: float | None, dtype: torch.dtype
) -> Tensor:
    """The conductances; on the diagonal the leave rates.

    See :func:`~gnnbridge.spectral.effective_resistance`.
    """
    walk = walk_on(A, hops, dtype)
    visits = visits_of(walk)
    hit = first_visits(visits, walk)
    eye = torch.eye(A.size(-1), dtype=torch.bool, device=A.device)
    # Split the first visit to j, and the return to i, by which comes first:
    # h_ij = p + q h_ij and 1 - 1 / G_ii = q + p h_ji; solve for p.
    back = (hit * hit.mT).masked_fill(eye, 0.0)
    if walk.peers is not None:
        # Within a closed class nothing is lost: filled in below.
        back = back.masked_fill(walk.peers, 0.0)
    stays = visits.diagonal(dim1=-2, dim2=-1).unsqueeze(-1)
    flow = torch.where(
        eye,
        walk.rate.unsqueeze(-1),
        walk.rate.unsqueeze(-1) * hit / (stays * (1 - back)),
    )
    if walk.peers is None:
        return flow
    size = A.size(-1)
    graphs = off_diagonal(A, dtype).reshape(-1, size, size)
    flows = flow.reshape(-1, size, size)
    filled = [_fill(*pair) for pair in zip(graphs, flows, strict=True)]
    return torch.stack(filled).reshape(A.shape)


def _fill(off: Tensor, flow: Tensor) -> Tensor:
    """The conductances within closed classes, from their commute times."""
    for tokens in members(off):
        if len(tokens) > 1:
            inner = off[tokens][:, tokens]
            commute, x = class_commute(inner)
            eye = torch.eye(len(x), dtype=torch.bool, device=x.device)
            pairs = 1 / (x.unsqueeze(-1) * commute.masked_fill(eye, 1.0))
            block = torch.where(eye, inner.sum(-1).unsqueeze(-1), pairs)
            flow = flow.index_put((tokens.unsqueeze(1), tokens), block)
    return flow
