"""The receiver-side Laplacian of a token graph, in float64."""

from __future__ import annotations

import torch
from torch import Tensor

from gnnbridge.graph.checks import check_edges, is_integer
from gnnbridge.graph.dense import as_attention


def laplacian(
    edge_index: Tensor,
    edge_weight: Tensor | None = None,
    num_nodes: int | None = None,
) -> Tensor:
    r"""Laplacian of the receivers, :math:`L = D - A`.

    .. math::
        L_{ij} = \delta_{ij} \sum_{k \ne i} A_{ik} - (1 - \delta_{ij}) A_{ij}

    with :math:`A_{ij}` the weight with which receiver :math:`i` aggregates
    from source :math:`j`. Rows sum to zero, and self-loops cancel: the
    diagonal is summed from the other entries of its row, so that a token
    that attends almost only to itself loses no digits. It is not PyG's
    :func:`~torch_geometric.utils.get_laplacian`, whose degrees are those of
    the sources.

    Args:
        edge_index: The edges, source first and receiver second, or the
            matrix :math:`A` itself (then without the next two arguments).
        edge_weight: The weight of each edge; ones if not given.
        num_nodes: The number of tokens; inferred if not given.

    Shapes:
        - **input:** edges :math:`(2, E)` and weights :math:`(E)` or
          :math:`(E, H)`, or a matrix :math:`(*, N, N)`
        - **output:** :math:`(*, N, N)`, row = receiver

    Returns:
        The Laplacian, in float64.

    Raises:
        ValueError: If an edge is out of range, or a weight negative or not
            finite.
    """
    off = off_diagonal(as_attention(edge_index, edge_weight, num_nodes))
    return torch.diag_embed(off.sum(-1)) - off


def leave_rate(
    edge_index: Tensor,
    edge_weight: Tensor | None = None,
    num_nodes: int | None = None,
) -> Tensor:
    r"""Rate at which the walk leaves each token, the diagonal of :math:`L`.

    .. math::
        \ell_i = \sum_{k \ne i} A_{ik}

    For rows that sum to one this is :math:`1 - A_{ii}`, without its
    cancellation when :math:`A_{ii}` is near one. A token with
    :math:`\ell_i = 0` is a root: the walk that reaches it stays.

    Args:
        edge_index: The edges, or the matrix :math:`A`; see
            :func:`laplacian`.
        edge_weight: The weight of each edge; ones if not given.
        num_nodes: The number of tokens; inferred if not given.

    Shapes:
        - **input:** edges :math:`(2, E)` and weights :math:`(E)` or
          :math:`(E, H)`, or a matrix :math:`(*, N, N)`
        - **output:** :math:`(*, N)`

    Returns:
        The leave rates, in float64.

    Raises:
        ValueError: As :func:`laplacian`.
    """
    if is_integer(edge_index):
        num_nodes = check_edges(edge_index, edge_weight, num_nodes)
        source, target = edge_index
        weight = torch.ones(source.size(0), device=source.device)
        weight = (weight if edge_weight is None else edge_weight).double()
        others = weight[source != target]
        rate = others.new_zeros(num_nodes, *others.shape[1:])
        return rate.index_add(0, target[source != target], others).movedim(
            0, -1
        )
    off = off_diagonal(as_attention(edge_index, edge_weight, num_nodes))
    return off.sum(-1)


def off_diagonal(A: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
    """The weights without the self-loops, a new matrix."""
    off = A.to(dtype, copy=True)
    off.diagonal(dim1=-2, dim2=-1).zero_()
    return off
