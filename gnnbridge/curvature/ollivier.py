"""Ollivier-Ricci curvature of the edges."""

from __future__ import annotations

from fractions import Fraction
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from gnnbridge.curvature.measures import (
    Problems,
    neighborhoods,
    transport_problems,
)
from gnnbridge.curvature.simple_graph import (
    SimpleGraph,
    in_chunks,
    read_graph,
)
from gnnbridge.curvature.sinkhorn import sinkhorn_cost
from gnnbridge.curvature.transport import transport_cost
from gnnbridge.graph.checks import check_size

Method = Literal['exact', 'sinkhorn']

# Pairs of neighbours at a time: bounds the memory.
_CHUNK = 1 << 18
# Up to here a table of all pairs of nodes is small; beyond, the number of
# neighbours at a time is bounded, too.
_SMALL, _PER_NEIGHBOR = 1 << 13, 1 << 6


def ollivier_ricci(
    edge_index: Tensor,
    edge_weight: Tensor | None = None,
    num_nodes: int | None = None,
    *,
    alpha: float = 0.0,
    method: Method = 'exact',
    iterations: int | None = None,
    directed: bool | None = None,
) -> Tensor:
    r"""Ollivier-Ricci curvature, by optimal transport between neighbours.

    .. math::
        \kappa(u, v) = 1 - W_1(\mu_u, \nu_v)

    (`Ollivier, 2009 <https://arxiv.org/abs/math/0701886>`_), the distance
    being the number of hops, so that that of :math:`u` and :math:`v` is 1.
    The measure of a node keeps :math:`\alpha` there and spreads the rest over
    its neighbours, evenly or in proportion to the weights of the edges:
    weights are shares, not lengths, as those of attention are.

    In a directed graph :math:`\mu_u` is over the nodes with an edge into the
    source :math:`u`, :math:`\nu_v` over those with an edge from the target
    :math:`v`, and hops follow the edges
    (`Saucan et al., 2019 <https://arxiv.org/abs/1809.07698>`_): what comes in
    at :math:`u` is moved to where it goes out from :math:`v`. All mass stays
    at a node without such neighbours. Curvatures lie between -2 and 1; on a
    graph in which every token attends to all earlier ones they are 0.

    Args:
        edge_index: The edges, source first and receiver second, or the
            matrix :math:`A` itself (then without the next two arguments).
            Self-loops are left out; repeated edges count as one edge, whose
            weight is their sum.
        edge_weight: The positive weight of each edge; ones if not given.
        num_nodes: The number of nodes; inferred if not given.
        alpha: The mass :math:`\alpha` that stays, from 0 to 1.
        method: ``'exact'`` runs on the CPU and is not differentiable.
            ``'sinkhorn'`` runs where the edges are, is differentiable in the
            weights, and never gives less than the exact value: mostly just
            that, and up to some hundredths more on a few edges.
        iterations: The number of iterations for ``'sinkhorn'``, 100 if not
            given.
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
        NotImplementedError: If `method` is none of the above.
        ValueError: If an edge is out of range, a weight is not positive and
            finite, `alpha` or `iterations` do not fit, or `directed` is false
            for a graph that is not symmetric.

    Example:
        >>> path = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
        >>> ollivier_ricci(path, alpha=0.5)
        tensor([0.5000, 0.5000, 0.5000, 0.5000], dtype=torch.float64)
    """
    iterations = _check_options(alpha, method, iterations)
    graph = read_graph(edge_index, edge_weight, num_nodes, directed)
    edges = np.arange(graph.edge_index.size(1))
    if not graph.directed:
        # One half of the edges has the values of the other.
        u, v = graph.edge_index.cpu().numpy()
        edges = np.flatnonzero(u < v)
    cost = _costs(graph, edges, alpha, method, iterations)
    return graph.spread(_in_place(graph, edges, 1 - cost))


def curvature_of_edges(graph: SimpleGraph, edges: np.ndarray) -> np.ndarray:
    """The exact curvature, nothing staying at home, of some of the edges."""
    return 1 - _costs(graph, edges, 0.0, 'exact', 0).numpy()


def _costs(
    graph: SimpleGraph,
    edges: np.ndarray,  # shape: [M]
    alpha: float,
    method: Method,
    iterations: int,
) -> Tensor:  # shape: [M]
    """The cost of transport of some of the edges."""
    neighbors = neighborhoods(graph, alpha)
    u, v = graph.edge_index.cpu().numpy()[:, edges]
    supplies = np.diff(neighbors.into.start)[u]
    demands = np.diff(neighbors.out.start)[v]
    work = _work(supplies, demands, method, graph.num_nodes)
    # Problems of like size together.
    order = work.argsort(kind='stable')
    costs = [graph.edge_index.new_zeros(0, dtype=torch.float64)]
    for run in in_chunks(work[order], _CHUNK):
        ends = u[order[run]], v[order[run]]
        problems = transport_problems(
            *ends, neighbors, keep_shared=method == 'sinkhorn'
        )
        if method == 'sinkhorn':
            costs.append(sinkhorn_cost(problems, iterations))
        else:
            scale = _scale(graph, alpha, *ends)
            costs.append(_exact(problems, scale).to(costs[0].device))
    place = torch.from_numpy(order.argsort()).to(costs[0].device)
    return torch.cat(costs)[place]


def _in_place(graph: SimpleGraph, edges: np.ndarray, values: Tensor) -> Tensor:
    """The values of all edges from those of some, or of one half."""
    index = torch.from_numpy(edges).to(values.device)
    place = torch.empty_like(graph.reverse)
    place[index] = torch.arange(index.numel(), device=values.device)
    if not graph.directed:
        place[graph.reverse[index]] = place[index]
    return values[place]


def _exact(problems: Problems, scale: np.ndarray | None) -> Tensor:
    return torch.from_numpy(transport_cost(problems, scale))


def _scale(
    graph: SimpleGraph, alpha: float, u: np.ndarray, v: np.ndarray
) -> np.ndarray | None:
    """What makes the masses whole numbers, if they are plain fractions."""
    part = Fraction(alpha).limit_denominator(1000)
    if graph.weight is not None or float(part) != alpha:
        return None
    source, target = graph.edge_index.cpu().numpy()
    entering = np.bincount(target, minlength=graph.num_nodes)
    leaving = np.bincount(source, minlength=graph.num_nodes)
    common = np.lcm(entering[u].clip(1), leaving[v].clip(1))
    return common * float(part.denominator)


def _work(
    supplies: np.ndarray,  # shape: [M]
    demands: np.ndarray,  # shape: [M]
    method: Method,
    num_nodes: int,
) -> np.ndarray:  # shape: [M]
    """Memory that each edge takes."""
    work = supplies * demands
    if method == 'sinkhorn':
        work = np.maximum(supplies, demands) ** 2
    if num_nodes > _SMALL:
        work = np.maximum(work, _PER_NEIGHBOR * (supplies + demands))
    return work


def _check_options(alpha: float, method: Method, iterations: int | None) -> int:
    if method not in get_args(Method):
        raise NotImplementedError(
            f"Expected 'method' to be one of {get_args(Method)} (got "
            f'{method!r}).'
        )
    if not 0 <= alpha <= 1:
        raise ValueError(
            f"Expected 'alpha' to be between 0 and 1 (got {alpha}). Use 0 for "
            f'all mass on the neighbours instead.'
        )
    if method == 'exact' and iterations is not None:
        raise ValueError(
            f"Expected no 'iterations' for method='exact' (got {iterations}). "
            f"Use method='sinkhorn' instead."
        )
    return 100 if iterations is None else check_size('iterations', iterations)
