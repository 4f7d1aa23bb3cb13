r"""Tree-NeighborsMatch: a lookup that must pass through a bottleneck.

From `Alon and Yahav, 2021, "On the Bottleneck of Graph Neural Networks and
its Practical Implications" <https://arxiv.org/abs/2006.05205>`_: the
:math:`2^r` leaves of a binary tree each hold a key and a value, the root
holds a key, and must give the value of the leaf that holds it too. All
values must reach the root, for no leaf knows which one will be asked for.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch_geometric.data import Data

from gnnbridge.datasets.graphs.edges import both_ways, marked, one_way
from gnnbridge.graph.checks import check_size


def tree_neighbors_match(
    num_graphs: int,
    *,
    depth: int,
    directed: bool = True,
    generator: Generator,
) -> list[Data]:
    r"""Draws trees; the root must give the value of the leaf with its key.

    As in the authors' code keys stand in the order of the leaves, values are
    a random order, and edges lead from child to parent. Nodes are numbered
    level by level from the root, node 0; the code numbers them depth first
    and adds self-loops, which layers here add themselves where they use
    them.

    There are :math:`2^r! \cdot 2^r` different graphs: 96 of depth 2.

    Args:
        num_graphs: The number of graphs.
        depth: The depth :math:`r` of the tree, at least 1.
        directed: Whether edges lead to the root only; else both ways.
        generator: Source of chance.

    Shapes:
        ``x`` is ``[2^(r + 1) - 1, 2]`` int64: the key and the value of each
        node, from 1, and 0 where it has none. ``y`` is ``[1]`` int64, the
        value less 1.

    Raises:
        ValueError: If ``num_graphs`` or ``depth`` is less than 1.
    """
    check_size('num_graphs', num_graphs)
    leaves = 2 ** check_size('depth', depth)
    edges = _tree_edges(2 * leaves - 1, directed)
    # The leaves are the last level: nodes `leaves - 1` and after.
    x = torch.zeros(num_graphs, 2 * leaves - 1, 2, dtype=torch.int64)
    noise = torch.rand(num_graphs, leaves, generator=generator)
    values = noise.argsort(dim=1) + 1
    asked = torch.randint(leaves, (num_graphs, 1), generator=generator)
    x[:, leaves - 1 :, 0] = torch.arange(1, leaves + 1)
    x[:, leaves - 1 :, 1] = values
    x[:, 0, 0] = asked[:, 0] + 1
    y = values.gather(1, asked) - 1
    return [
        Data(
            x=x[i].clone(),
            edge_index=edges,
            y=y[i].clone(),
            target_mask=marked(0, 2 * leaves - 1),
        )
        for i in range(num_graphs)
    ]


def _tree_edges(num_nodes: int, directed: bool) -> Tensor:
    child = torch.arange(1, num_nodes)
    edges = torch.stack([child, (child - 1) // 2])
    return (one_way if directed else both_ways)(edges, num_nodes)
