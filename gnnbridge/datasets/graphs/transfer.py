r"""Graph transfer: a class at one node is asked at another, far away.

From `Bodnar et al., 2021, "Weisfeiler and Lehman Go Cellular: CW Networks"
<https://arxiv.org/abs/2106.12575>`_ and `Di Giovanni et al., 2023, "On
Over-Squashing in Message Passing Neural Networks"
<https://arxiv.org/abs/2302.02941>`_. The node that is asked has features 0,
the node that knows has the class in one-hot form, and every other node has
ones. In the papers graphs of one class are equal, so that what is tested is
whether the class gets through and not whether that generalises. With
``spread`` the ones of each graph become another number, the same for all its
nodes, so that no graph comes twice; noise on every node would be learned by
heart long before the class got through.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Generator, Tensor
from torch_geometric.data import Data

from gnnbridge.datasets.graphs.edges import both_ways, marked, one_way, path
from gnnbridge.graph.checks import check_size


def ring_transfer(
    num_graphs: int,
    *,
    size: int,
    num_classes: int = 5,
    crossed: bool = False,
    spread: float = 0.0,
    generator: Generator,
) -> list[Data]:
    r"""Draws rings; node 0 must give the class of the node opposite.

    The information has :math:`\lfloor n / 2 \rfloor` steps to go, on two ways.

    Args:
        num_graphs: The number of graphs.
        size: The number of nodes :math:`n` of each, at least 2.
        num_classes: The number of classes, each as frequent as the others.
        crossed: Whether chords join the two ways, which makes the
            *CrossedRing* of Di Giovanni et al.
        spread: Standard deviation of what each graph adds to its ones.
        generator: Source of chance.

    Shapes:
        ``x`` is ``[n, num_classes]`` float32, ``y`` ``[1]`` int64.

    Raises:
        ValueError: If a size is too small or ``spread`` is negative.
    """
    check_size('size', size, 2)
    ring = torch.cat([path(0, size - 1), torch.tensor([[size - 1], [0]])], 1)
    if crossed:
        ring = torch.cat([ring, _crosses(size)], dim=1)
    route = _Route(both_ways(ring, size), size, source=size // 2, asked=0)
    return _drawn(num_graphs, route, num_classes, spread, generator)


def clique_path_transfer(
    num_graphs: int,
    *,
    size: int,
    num_classes: int = 5,
    spread: float = 0.0,
    generator: Generator,
) -> list[Data]:
    r"""Draws cliques with a path; the far end tells, the clique is asked.

    Half of the nodes form a clique and the others a path that starts at one
    of them. The node that is asked is another of the clique, so that the
    information has :math:`\lfloor n / 2 \rfloor + 1` steps to go if
    :math:`n` is even. This is the *CliquePath* of Di Giovanni et al., whose
    code calls it the lollipop.

    Args:
        num_graphs: The number of graphs.
        size: The number of nodes :math:`n` of each, at least 4.
        num_classes: The number of classes, each as frequent as the others.
        spread: Standard deviation of what each graph adds to its ones.
        generator: Source of chance.

    Shapes:
        ``x`` is ``[n, num_classes]`` float32, ``y`` ``[1]`` int64.

    Raises:
        ValueError: If a size is too small or ``spread`` is negative.
    """
    route = _Route(_lollipop(size), size, source=size - 1, asked=0)
    return _drawn(num_graphs, route, num_classes, spread, generator)


def lollipop_transfer(
    num_graphs: int,
    *,
    size: int,
    num_classes: int = 5,
    spread: float = 0.0,
    generator: Generator,
) -> list[Data]:
    """The other way round: the clique tells, the far end is asked.

    On the graph of :func:`clique_path_transfer`. A mean over neighbours
    dilutes what leaves a clique otherwise than what enters it.

    Args:
        num_graphs: The number of graphs.
        size: The number of nodes of each, at least 4.
        num_classes: The number of classes, each as frequent as the others.
        spread: Standard deviation of what each graph adds to its ones.
        generator: Source of chance.

    Shapes:
        ``x`` is ``[n, num_classes]`` float32, ``y`` ``[1]`` int64.

    Raises:
        ValueError: If a size is too small or ``spread`` is negative.
    """
    route = _Route(_lollipop(size), size, source=0, asked=size - 1)
    return _drawn(num_graphs, route, num_classes, spread, generator)


def directed_path_transfer(
    num_graphs: int,
    *,
    size: int,
    branches: int = 4,
    num_classes: int = 5,
    generator: Generator,
) -> list[Data]:
    """Draws directed paths; the last node must give the class of the first.

    Branches leave the path at random nodes, several from one if it so falls:
    an edge to a leaf that holds a random class of its own. Along the edges
    nothing of it comes back, but against them most leaves are nearer to the
    node that is asked than the first node is, so that whoever forgets the
    direction finds several classes. The task is this package's own.

    Args:
        num_graphs: The number of graphs.
        size: The number of nodes of the path, at least 2.
        branches: The number of leaves, which follow the path's nodes.
        num_classes: The number of classes, each as frequent as the others.
        generator: Source of chance.

    Shapes:
        ``x`` is ``[size + branches, num_classes]`` float32, ``y`` ``[1]``
        int64.

    Raises:
        ValueError: If a size is too small.
    """
    check_size('size', size, 2)
    check_size('branches', branches, 0)
    total = size + branches
    route = _Route(path(0, size - 1), total, source=0, asked=size - 1)
    graphs = _drawn(num_graphs, route, num_classes, 0.0, generator)
    leaves = torch.arange(size, total)
    for graph in graphs:
        stems = torch.randint(size, (branches,), generator=generator)
        edges = torch.cat(
            [graph.edge_index, torch.stack([stems, leaves])], dim=1
        )
        graph.edge_index = one_way(edges, total)
        held = torch.randint(num_classes, (branches,), generator=generator)
        graph.x[leaves] = _one_hot(held, num_classes)
    return graphs


class _Route(NamedTuple):
    """Where the information starts and where it is asked for."""

    edge_index: Tensor
    num_nodes: int
    source: int
    asked: int


def _drawn(
    num_graphs: int,
    route: _Route,
    num_classes: int,
    spread: float,
    generator: Generator,
) -> list[Data]:
    check_size('num_graphs', num_graphs)
    check_size('num_classes', num_classes, 2)
    if not 0 <= spread < math.inf:
        raise ValueError(
            "Expected 'spread' to be a standard deviation of at least 0 "
            f'(got {spread}).'
        )
    y = torch.randperm(num_graphs, generator=generator) % num_classes
    level = 1 + spread * torch.randn(num_graphs, 1, 1, generator=generator)
    x = level.repeat(1, route.num_nodes, num_classes)
    x[:, route.asked] = 0
    x[:, route.source] = _one_hot(y, num_classes)
    return [
        Data(
            x=x[i].clone(),
            edge_index=route.edge_index,
            y=y[i : i + 1].clone(),
            target_mask=marked(route.asked, route.num_nodes),
        )
        for i in range(num_graphs)
    ]


def _one_hot(classes: Tensor, num_classes: int) -> Tensor:
    return torch.nn.functional.one_hot(classes, num_classes).float()


def _crosses(size: int) -> Tensor:
    """Chords from each node of one way to two on the other."""
    near = torch.arange(size // 2)
    far = torch.cat([size - 1 - near, size + 1 - near[2:]])
    return torch.stack([torch.cat([near, near[2:]]), far])


def _lollipop(size: int) -> Tensor:
    check_size('size', size, 4)
    half = size // 2
    clique = torch.combinations(torch.arange(half)).T
    stick = path(half - 1, size - 1)
    return both_ways(torch.cat([clique, stick], dim=1), size)
