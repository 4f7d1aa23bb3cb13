"""Balanced Forman curvature of the edges, in the definition of the paper."""

from __future__ import annotations

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from gnnbridge.curvature.simple_graph import in_chunks, read_graph

# Multiplications in one sparse product: bounds its memory.
_CHUNK = 1 << 22


def balanced_forman(
    edge_index: Tensor,
    edge_weight: Tensor | None = None,
    num_nodes: int | None = None,
    *,
    directed: bool | None = None,
) -> Tensor:
    r"""Balanced Forman curvature (Topping et al., 2022).

    Definition 1 of `"Understanding over-squashing and bottlenecks on graphs
    via curvature" <https://arxiv.org/abs/2111.14522>`_: 0 if :math:`u` or
    :math:`v` has less than two neighbours, and else

    .. math::
        \mathrm{Ric}(u, v) = \frac{2}{d_u} + \frac{2}{d_v} - 2
        + 2 \frac{|\triangle|}{d_{\max}} + \frac{|\triangle|}{d_{\min}}
        + \frac{|\square^u| + |\square^v|}{\gamma_{\max} \, d_{\max}}

    with :math:`\triangle` the common neighbours, :math:`\square^u` the
    neighbours of :math:`u` alone that are adjacent to a neighbour of
    :math:`v` alone, :math:`u` and :math:`v` themselves not counted (4-cycles
    without diagonals), :math:`\square^v` the same from the other end, and
    :math:`\gamma_{\max}` the largest number of partners that one of these
    has in such 4-cycles. The last term is 0 without them.

    In a directed graph the neighbours of the source :math:`u` are those with
    an edge into it and the neighbours of the target :math:`v` those with an
    edge from it, as for :func:`~gnnbridge.curvature.ollivier_ricci`: what
    comes in at :math:`u` has to pass :math:`u \to v` to get out at
    :math:`v`. An edge :math:`k \to w` from the former to the latter is a way
    past, and makes the squares. On a causal graph there are no triangles.

    .. note::
        The released implementations count :math:`v` among
        :math:`\square^u` and :math:`u` among :math:`\square^v`, which the
        paper does not.

    Args:
        edge_index: The edges, or a matrix :math:`A` of zeros and ones; see
            :func:`~gnnbridge.curvature.forman`.
        edge_weight: Ones, or nothing: the formula has no weights.
        num_nodes: The number of nodes; inferred if not given.
        directed: Whether to take the directed form. By default if some edge
            lacks its reverse.

    Shapes:
        - **input:** edges :math:`(2, E)`, or a matrix :math:`(N, N)`
        - **output:** :math:`(E)` in the order of the edges, or
          :math:`(N, N)` for a matrix, row = receiver

    Returns:
        The curvatures, in float64; 0 on self-loops and, in a matrix, where
        there is no edge.

    Raises:
        ValueError: If an edge is out of range, a weight is not 1, or
            `directed` is false for a graph that is not symmetric.

    Example:
        >>> ring = torch.tensor([[0, 1, 2, 3], [1, 2, 3, 0]])
        >>> both = torch.cat([ring, ring.flip(0)], dim=1)
        >>> balanced_forman(both)[:4]  # 2/2 + 2/2 - 2 + (1 + 1) / (1 * 2)
        tensor([1., 1., 1., 1.], dtype=torch.float64)
    """
    graph = read_graph(
        edge_index, edge_weight, num_nodes, directed, weighted=False
    )
    source, target = graph.edge_index.cpu().numpy()
    ones = graph.adjacency()
    # Without directions one half of the edges has the values of the other.
    half = np.arange(source.size)
    if not graph.directed:
        half = np.flatnonzero(source < target)
    values = np.zeros(source.size)
    degree = ones.sum(1)
    back = ones.T.tocsr()
    work = (back @ degree)[source] + (ones @ back.sum(1))[target]
    for run in in_chunks(work[half], _CHUNK):
        edges = half[run]
        values[edges] = _curvature(ones, back, source[edges], target[edges])
    if not graph.directed:
        values[graph.reverse.cpu().numpy()[half]] = values[half]
    return graph.spread(torch.from_numpy(values).to(edge_index.device))


def balanced_forman_of_counts(
    d_u: np.ndarray | int,
    d_v: np.ndarray | int,
    *,
    triangles: np.ndarray | int,
    squares: np.ndarray | int,
    gamma: np.ndarray | int,
) -> np.ndarray:
    r"""The formula itself, from what is counted around each edge.

    Args:
        d_u: The number of neighbours of :math:`u`.
        d_v: That of :math:`v`.
        triangles: Their common neighbours.
        squares: :math:`|\square^u| + |\square^v|`.
        gamma: :math:`\gamma_{\max}`; 0 without squares.
    """
    low, high = np.minimum(d_u, d_v), np.maximum(d_u, d_v)
    bent = low > 1
    low, high = np.where(bent, low, 1), np.where(bent, high, 1)
    value = 2 / low + 2 / high - 2 + (2 / high + 1 / low) * triangles
    value = value + squares / (np.maximum(gamma, 1) * high)
    return np.where(bent, value, 0.0)


def _curvature(
    ones: sparse.csr_array,  # shape: [N, N], row = source
    back: sparse.csr_array,  # shape: [N, N], row = target
    u: np.ndarray,  # shape: [M]
    v: np.ndarray,  # shape: [M]
) -> np.ndarray:  # shape: [M]
    into_u, from_v = back[u], ones[v]  # shape: [M, N]
    common = into_u.multiply(from_v)
    only_u, only_v = _without(into_u, common, v), _without(from_v, common, u)
    # How many partners each neighbour has for a 4-cycle.
    of_u = (only_v @ back).multiply(only_u).tocsr()
    of_v = (only_u @ ones).multiply(only_v).tocsr()
    squares = np.diff(of_u.indptr) + np.diff(of_v.indptr)
    gamma = np.maximum(of_u.max(axis=1).toarray(), of_v.max(axis=1).toarray())
    return balanced_forman_of_counts(
        np.diff(into_u.indptr),
        np.diff(from_v.indptr),
        triangles=np.diff(common.tocsr().indptr),
        squares=squares,
        gamma=gamma.ravel(),
    )


def _without(
    neighbors: sparse.csr_array, common: sparse.csr_array, other: np.ndarray
) -> sparse.csr_array:
    """The neighbours in each row that are neither common nor `other`."""
    only = (neighbors - common).tocsr()
    row = np.repeat(np.arange(other.size), np.diff(only.indptr))
    only.data[only.indices == other[row]] = 0
    only.eliminate_zeros()
    return only
