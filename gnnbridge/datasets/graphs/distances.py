r"""Distances on random connected graphs: tasks that look far.

Single-source shortest paths and eccentricity are tasks of
`Corso et al., 2020, "Principal Neighbourhood Aggregation for Graph Nets"
<https://arxiv.org/abs/2004.05718>`_ and of `Miglior et al., 2025, "Can You
Hear Me Now? A Benchmark for Long-Range Graph Propagation"
<https://arxiv.org/abs/2512.17762>`_, on other random graphs. Here a graph is
a uniformly random labelled tree with some random edges more, whose distances
are long for its size.
"""

from __future__ import annotations

import heapq
from typing import Literal

import torch
from torch import Generator, Tensor
from torch_geometric.data import Data

from gnnbridge.graph.checks import check_size


def shortest_paths(
    num_graphs: int,
    *,
    size: int,
    max_distance: int,
    extra_edges: int = 2,
    generator: Generator,
) -> list[Data]:
    """Draws graphs; every node must give its distance from a marked one.

    Distances are classes, and one of ``max_distance`` stands for all from
    there on, so that as many steps of message passing are enough. As with
    Corso et al. each node also has a random number that tells nothing.

    Args:
        num_graphs: The number of graphs.
        size: The number of nodes of each, at least 2.
        max_distance: The largest class, at least 2.
        extra_edges: The number of edges beyond those of a tree.
        generator: Source of chance.

    Shapes:
        ``x`` is ``[size, 2]`` float32: 1 at the marked node and 0 elsewhere,
        and a number from 0 to 1. ``y`` is ``[size - 1]`` int64, from 0 for a
        distance of 1: the marked node itself is not asked.

    Raises:
        ValueError: If a size is too small or there is no room for the edges.
    """
    check_size('max_distance', max_distance, 2)
    adjacency = _connected(num_graphs, size, extra_edges, generator)
    source = torch.randint(size, (num_graphs, 1, 1), generator=generator)
    number = torch.rand(num_graphs, size, generator=generator)
    asked = torch.arange(size) != source[:, 0]
    apart = hop_distances(adjacency)
    distance = apart.gather(1, source.expand(-1, -1, size))[:, 0]
    y = distance.clamp(max=max_distance) - 1
    x = torch.stack([(~asked).float(), number], dim=2)
    return [
        Data(
            x=x[i].clone(),
            edge_index=_edges(adjacency[i]),
            y=y[i][asked[i]],
            target_mask=asked[i].clone(),
        )
        for i in range(num_graphs)
    ]


def eccentricities(
    num_graphs: int,
    *,
    size: int,
    level: Literal['node', 'graph'] = 'node',
    extra_edges: int = 2,
    generator: Generator,
) -> list[Data]:
    """Draws graphs; how far is the farthest node?

    Either each node must give its eccentricity, the distance of the node that
    is farthest from it; or the graph must give that of a marked node. The
    former is the task of the papers, the latter much easier to learn, since
    what it takes is the distance of each node from the marked one. As with
    Corso et al. the answer is a number, and nodes have random numbers that
    tell nothing.

    Args:
        num_graphs: The number of graphs.
        size: The number of nodes of each, at least 2.
        level: Whether nodes or the graph is asked.
        extra_edges: The number of edges beyond those of a tree.
        generator: Source of chance.

    Shapes:
        ``x`` is ``[size, 2]`` float32: 1 at the marked node (there is none if
        nodes are asked) and 0 elsewhere, and a number from 0 to 1. ``y`` is
        ``[size, 1]`` or ``[1, 1]`` float32.

    Raises:
        ValueError: If a size is too small, there is no room for the edges or
            ``level`` is neither.
    """
    if level not in ('node', 'graph'):
        raise ValueError(
            f"Expected 'level' to be 'node' or 'graph' (got {level!r})."
        )
    adjacency = _connected(num_graphs, size, extra_edges, generator)
    mark = torch.zeros(num_graphs, size)
    y = hop_distances(adjacency).amax(dim=2).float()
    if level == 'graph':
        marked = torch.randint(size, (num_graphs, 1), generator=generator)
        mark.scatter_(1, marked, 1.0)
        y = y.gather(1, marked)
    number = torch.rand(num_graphs, size, generator=generator)
    x = torch.stack([mark, number], dim=2)
    graphs = [
        Data(
            x=x[i].clone(),
            edge_index=_edges(adjacency[i]),
            y=y[i].unsqueeze(1).clone(),
        )
        for i in range(num_graphs)
    ]
    if level == 'node':
        for graph in graphs:
            graph.target_mask = torch.ones(size, dtype=torch.bool)
    return graphs


def hop_distances(adjacency: Tensor) -> Tensor:
    """Lengths of shortest paths between all nodes of many graphs.

    Args:
        adjacency: Where edges are, ``[G, n, n]`` bool, symmetric.

    Returns:
        ``[G, n, n]`` int64; 0 on the diagonal, and ``n`` where no path is.
    """
    size = adjacency.size(-1)
    step = adjacency.float()
    reached = torch.eye(size, dtype=torch.bool).expand(adjacency.shape)
    # Whoever is out of reach in a step is one step further away.
    distance = (~reached).long()
    for _ in range(size - 1):
        if reached.all():
            break
        reached = reached | (reached.float() @ step > 0)
        distance = distance + (~reached).long()
    return distance


def _connected(
    num_graphs: int, size: int, extra_edges: int, generator: Generator
) -> Tensor:
    """Adjacency matrices ``[G, n, n]`` of random connected graphs."""
    check_size('num_graphs', num_graphs)
    check_size('size', size, 2)
    check_size('extra_edges', extra_edges, 0)
    room = size * (size - 1) // 2 - (size - 1)
    if extra_edges > room:
        raise ValueError(
            f"Expected 'extra_edges' to be at most {room} in a graph of "
            f'{size} nodes (got {extra_edges}).'
        )
    shape = (num_graphs, max(size - 2, 0))
    codes = torch.randint(size, shape, generator=generator)
    trees = torch.stack([_tree(code, size) for code in codes.tolist()])
    row, column = torch.triu_indices(size, size, offset=1)
    free = torch.rand(num_graphs, row.numel(), generator=generator)
    free = free.masked_fill(trees[:, row, column], -1)
    chosen = free.topk(extra_edges, dim=1).indices
    adjacency = trees
    graph = torch.arange(num_graphs).unsqueeze(1)
    adjacency[graph, row[chosen], column[chosen]] = True
    return adjacency | adjacency.mT


def _tree(code: list[int], size: int) -> Tensor:
    """The tree of a Prüfer code, edges above the diagonal ``[n, n]``."""
    degree = [1] * size
    for node in code:
        degree[node] += 1
    leaves = [node for node in range(size) if degree[node] == 1]
    edges = []
    for node in code:
        edges.append((heapq.heappop(leaves), node))
        degree[node] -= 1
        if degree[node] == 1:
            heapq.heappush(leaves, node)
    edges.append((heapq.heappop(leaves), heapq.heappop(leaves)))
    adjacency = torch.zeros(size, size, dtype=torch.bool)
    for a, b in edges:
        adjacency[min(a, b), max(a, b)] = True
    return adjacency


def _edges(adjacency: Tensor) -> Tensor:
    # Symmetric, so that rows may be read as targets.
    return adjacency.nonzero().T.flip(0).contiguous()
