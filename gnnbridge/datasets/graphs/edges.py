"""Edges as all graph tasks give them: sorted by target then source."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.utils import coalesce


def one_way(edges: Tensor, num_nodes: int) -> Tensor:
    """Sorts edges by target then source, each once.

    Args:
        edges: Sources and targets ``[2, E]`` int64.
        num_nodes: The number of nodes.
    """
    return coalesce(edges, num_nodes=num_nodes, sort_by_row=False)


def both_ways(edges: Tensor, num_nodes: int) -> Tensor:
    """The same with each edge in both directions."""
    return one_way(torch.cat([edges, edges.flip(0)], dim=1), num_nodes)


def path(first: int, last: int) -> Tensor:
    """The edges of a path over consecutive nodes ``[2, last - first]``."""
    nodes = torch.arange(first, last + 1)
    return torch.stack([nodes[:-1], nodes[1:]])


def marked(node: int, num_nodes: int) -> Tensor:
    """A mask that is true at one node ``[num_nodes]``."""
    return torch.arange(num_nodes) == node
