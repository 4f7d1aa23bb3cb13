"""Where the walk on one digraph ends, and how it lives there."""

from __future__ import annotations

import torch
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import breadth_first_order
from torch import Tensor

from gnnbridge.spectral.green import hitting_of
from gnnbridge.spectral.walk import closed_classes, stationary, walk_on


def members(off: Tensor) -> list[Tensor]:
    """The tokens of each closed class of one graph, by their first token."""
    peers = closed_classes(off)
    first = peers.to(torch.uint8).argmax(-1)
    own = torch.arange(len(peers), device=peers.device)
    heads = own[peers.diagonal() & (first == own)]
    return [peers[head].nonzero().flatten() for head in heads]


def absorption_law(off: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    r"""The closed class in which the walk ends, and its limit there.

    Args:
        off: The weights :math:`(N, N)` of one graph, without self-loops.

    Returns:
        The probabilities :math:`(N, C)` of each closed class,
        :math:`\Pi = \lim_{t \to \infty} e^{-L t}` :math:`(N, N)`, and which
        classes can be reached :math:`(N, C)`, however rarely.
    """
    classes = members(off)
    hit = hitting_of(walk_on(off, None, off.dtype))
    law = torch.stack([hit[:, tokens[0]] for tokens in classes], dim=-1)
    limit = torch.zeros_like(off)
    for column, tokens in zip(law.unbind(-1), classes, strict=True):
        share = stationary(off[tokens][:, tokens])
        limit = limit.index_add(1, tokens, column.unsqueeze(-1) * share)
    flow = csr_matrix((off.detach().T > 0).cpu().numpy())
    reach = torch.zeros(law.shape, dtype=torch.bool)
    for number, tokens in enumerate(classes):
        found = breadth_first_order(
            flow, int(tokens[0]), return_predecessors=False
        )
        reach[torch.as_tensor(found, dtype=torch.int64), number] = True
    return law, limit, reach.to(off.device)


def class_commute(off: Tensor) -> tuple[Tensor, Tensor]:
    r"""Commute times within one strongly connected class.

    Args:
        off: The weights :math:`(N, N)` of the class, without self-loops.

    Returns:
        The times :math:`(N, N)` of the walk that stays at :math:`i` for
        :math:`1 / \ell_i` on average, and its stationary distribution.
    """
    x = stationary(off)
    rate = off.sum(-1)
    scale = rate.mean()
    matrix = (torch.diag(rate) - off) / scale + x
    inverse = torch.linalg.inv(matrix) / scale
    # H_ij = (Y_jj - Y_ij) / x_j
    hit = (inverse.diagonal() - inverse) / x
    return hit + hit.mT, x
