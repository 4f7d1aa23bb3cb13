"""Nodes put in front of those of a graph, or behind them."""

from __future__ import annotations

import copy

import torch
from torch import Tensor
from torch_geometric.data import Data

from gnnbridge.graph.schema import edge_attributes


def shift_nodes(data: Data, count: int) -> Data:
    """A shallow copy in which all numbers of nodes are larger by `count`."""
    out = copy.copy(data)
    for name, value in data.to_dict().items():
        named = 'index' in name or name == 'face'
        if named and isinstance(value, Tensor) and count > 0:
            out[name] = value + count
    return out


def add_nodes(out: Data, data: Data, before: int, after: int) -> Data:
    """A shallow copy with room for new nodes in the attributes of nodes.

    These are zero, as in PyG's own transforms, but for two of them:
    ``batch``, and the ``position`` of tokens, which counts on behind the last
    one, and in front starts where the first one was, the others moving on.

    Args:
        out: The graph, already with the edges of the new nodes.
        data: The graph as it was, which tells what belongs to nodes.
        before: The number of nodes to put in front.
        after: The number of nodes to put behind.
    """
    out = copy.copy(out)
    names = _node_attributes(data)
    for name in names:
        if name == 'position' and data[name].dim() == 1:
            out[name] = _positions(data[name], before, after)
        else:
            out[name] = _padded(data, name, before, after)
    if 'num_nodes' in data or not names:
        out.num_nodes = int(data.num_nodes or 0) + before + after
    return out


def _node_attributes(data: Data) -> list[str]:
    # PyG keeps what it finds out in the graph that it is asked about.
    data = copy.copy(data)
    of_edges = edge_attributes(data)
    return [
        name
        for name, value in data.to_dict().items()
        if isinstance(value, Tensor)
        and name not in of_edges
        and not ('index' in name or name == 'face')
        and data.is_node_attr(name)
    ]


def _positions(position: Tensor, before: int, after: int) -> Tensor:
    front = torch.arange(before, device=position.device)
    behind = torch.arange(1, after + 1, device=position.device)
    ends = position[:1] + front, position[-1:] + before + behind
    positions = torch.cat([ends[0], position + before, ends[1]])
    return positions.to(position.dtype)


def _padded(data: Data, name: str, before: int, after: int) -> Tensor:
    value = data[name]
    dim = data.__cat_dim__(name, value)
    ends = []
    for count in (before, after):
        shape = list(value.shape)
        shape[dim] = count
        end = value.new_zeros(shape)
        ends.append(end + value[0] if name == 'batch' else end)
    return torch.cat([ends[0], value, ends[1]], dim=dim)
