"""Forman-Ricci curvature of the edges, plain and augmented by cycles."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from gnnbridge.curvature.simple_graph import (
    SimpleGraph,
    in_chunks,
    read_graph,
)

# Multiplications in one sparse product: bounds its memory.
_CHUNK = 1 << 24


def forman(
    edge_index: Tensor,
    edge_weight: Tensor | None = None,
    num_nodes: int | None = None,
    *,
    directed: bool | None = None,
) -> Tensor:
    r"""Forman-Ricci curvature, the graph a complex of nodes and edges.

    That of `Sreejith et al., 2016 <https://arxiv.org/abs/1603.00386>`_ with
    node weights of one,

    .. math::
        F(e) = 2 - \sum_{e' \sim e} \sqrt{w_e / w_{e'}}

    over the other edges :math:`e'` at either end of :math:`e = uv`; without
    weights :math:`4 - d_u - d_v`. In a directed graph
    (`Saucan et al., 2019 <https://arxiv.org/abs/1809.07698>`_, eq. 5) the
    edges into the source :math:`u` and those out of the target :math:`v`
    count: without weights
    :math:`2 - d^{\mathrm{in}}_u - d^{\mathrm{out}}_v`. A reverse edge
    :math:`v \to u` is one of each and counts twice.

    Differentiable in the weights.

    Args:
        edge_index: The edges, source first and receiver second, or the
            matrix :math:`A` itself (then without the next two arguments).
            Self-loops are left out; repeated edges count as one edge, whose
            weight is their sum.
        edge_weight: The positive weight of each edge; ones if not given.
        num_nodes: The number of nodes; inferred if not given.
        directed: Whether to take the directed form. By default if some edge
            lacks its reverse, or has another weight.

    Shapes:
        - **input:** edges :math:`(2, E)` and weights :math:`(E)`, or a
          matrix :math:`(N, N)`
        - **output:** :math:`(E)` in the order of the edges, or
          :math:`(N, N)` for a matrix, row = receiver

    Returns:
        The curvatures, in float64; 0 on self-loops and, in a matrix, where
        there is no edge.

    Raises:
        ValueError: If an edge is out of range, a weight is not positive and
            finite, or `directed` is false for a graph that is not symmetric.

    Example:
        >>> forman(torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]]))  # 0 - 1 - 2
        tensor([1., 1., 1., 1.], dtype=torch.float64)
    """
    graph = read_graph(edge_index, edge_weight, num_nodes, directed)
    return graph.spread(_forman(graph))


def augmented_forman(
    edge_index: Tensor,
    edge_weight: Tensor | None = None,
    num_nodes: int | None = None,
    *,
    cycles: Literal[3, 4] = 3,
    directed: bool | None = None,
) -> Tensor:
    r"""Forman-Ricci curvature with the short cycles filled in as faces.

    AFRC-3 and AFRC-4 of
    `Fesser and Weber, 2023 <https://arxiv.org/abs/2309.09384>`_,

    .. math::
        F_3(e) = F(e) + 3 \, \triangle(e), \qquad
        F_4(e) = F_3(e) + 2 \, \square(e)

    with :math:`F` the :func:`forman` curvature without weights,
    :math:`\triangle(e)` the number of triangles and :math:`\square(e)` that
    of simple cycles of four edges through :math:`e`, chords allowed. In a
    directed graph the cycles are directed: a causal graph has none, and its
    values are those of :func:`forman`. For those of its skeleton, pass the
    edges and their reverses and keep the first half.

    Args:
        edge_index: The edges, or a matrix :math:`A` of zeros and ones; see
            :func:`forman`.
        edge_weight: Ones, or nothing: the formula has no weights.
        num_nodes: The number of nodes; inferred if not given.
        cycles: The length of the longest cycles to fill, 3 or 4.
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
        ValueError: As :func:`forman`; or if a weight is not 1, or `cycles`
            neither 3 nor 4.

    Example:
        >>> square = torch.tensor([[0, 1, 2, 3], [1, 2, 3, 0]])
        >>> both = torch.cat([square, square.flip(0)], dim=1)
        >>> augmented_forman(both, cycles=4)[:4]  # 4 - 2 - 2 + 2
        tensor([2., 2., 2., 2.], dtype=torch.float64)
    """
    if cycles not in (3, 4):
        raise ValueError(f"Expected 'cycles' to be 3 or 4 (got {cycles}).")
    graph = read_graph(
        edge_index, edge_weight, num_nodes, directed, weighted=False
    )
    triangles, squares = _cycles_through(graph, cycles)
    faces = torch.from_numpy(3 * triangles + 2 * squares)
    return graph.spread(_forman(graph) + faces.to(edge_index.device))


def _forman(graph: SimpleGraph) -> Tensor:
    source, target = graph.edge_index
    weight = graph.weight
    if weight is None:
        weight = torch.ones_like(source, dtype=torch.float64)
    root = weight.rsqrt()
    none = root.new_zeros(graph.num_nodes)
    entering = none.index_add(0, target, root)
    leaving = none.index_add(0, source, root)
    # Without directions the edge itself is among those at both of its ends.
    own = 0 if graph.directed else 2
    return 2 + own - weight.sqrt() * (entering[source] + leaving[target])


def _cycles_through(
    graph: SimpleGraph, longest: int
) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of (directed) cycles of length 3 and 4 through each edge.

    A cycle through u -> v is a walk back from v to u. All walks of length
    two are paths; of the walks v -> w -> x -> u those with w = u or x = v
    are not.
    """
    source, target = graph.edge_index.cpu().numpy()
    ones = graph.adjacency()
    back = ones.T.tocsr()
    triangles, squares = np.zeros(source.size), np.zeros(source.size)
    degree = back.sum(1)
    work = back @ (back @ degree if longest == 4 else degree)
    for rows in in_chunks(work, _CHUNK):
        edges = slice(*ones.indptr[[rows.start, rows.stop]])
        # Row u, column v: walks from v to u.
        walks = back[rows] @ back
        triangles[edges] = _at(ones[rows], walks)
        if longest == 4:
            squares[edges] = _at(ones[rows], walks @ back)
    if longest == 4:
        reverse = _at(ones, back)
        mutual = np.bincount(source, reverse, graph.num_nodes)
        squares -= reverse * (mutual[source] + mutual[target] - 1)
    return triangles, squares


def _at(ones: sparse.csr_array, values: sparse.csr_array) -> np.ndarray:
    """The values, zeros too, where the pattern is, row by row."""
    both = (values.multiply(ones) + ones).tocsr()
    return both.sorted_indices().data - 1
