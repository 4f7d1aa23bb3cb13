"""Nodes in an order that says nothing."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Generator
from torch_geometric.data import Data

from gnnbridge.datasets.graphs.edges import one_way


def renumbered(graphs: Iterable[Data], *, generator: Generator) -> list[Data]:
    """Gives the nodes of each graph other numbers, drawn at random.

    A method that takes the first of several equals, as rewiring does with
    pairs of nodes, would else find the node that is asked by its number.

    Args:
        graphs: The graphs, which are not changed. Attributes of nodes move
            with the nodes, and so do the answers ``y`` of nodes that
            ``target_mask`` marks; without a mask they stay.
        generator: Source of chance.
    """
    found = []
    for graph in graphs:
        size = int(graph.num_nodes or 0)
        number = torch.randperm(size, generator=generator)
        order = number.argsort()
        out = graph.clone()
        out.edge_index = one_way(number[graph.edge_index], size)
        for name in graph.node_attrs():
            if name != 'y':
                out[name] = graph[name][order]
        if 'target_mask' in graph:
            out.y = graph.y[number[graph.target_mask].argsort()]
        found.append(out)
    return found
