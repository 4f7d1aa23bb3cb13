"""Changes that are made all at once, and what they do beside edges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from gnnbridge.graph.checks import check_size
from gnnbridge.transforms.changes import Changes
from gnnbridge.transforms.input_graph import InputGraph
from gnnbridge.transforms.new_nodes import add_nodes, shift_nodes


@dataclass(frozen=True)
class AtOnce(Changes):
    """The changes of a method without steps: all of them are one step.

    Attributes:
        relation: The relation of each edge, ``[K]``, counted from 1: an added
            edge gets the largest type so far plus this as its ``edge_type``.
        kept_weight: New weights of the edges that stay, in their order.
        new_nodes: How many nodes are put in front of the others and how many
            behind them, to be marked in ``virtual_node_mask``; the events are
            in the numbering after that.
    """

    relation: Tensor | None = None
    kept_weight: Tensor | None = None
    new_nodes: tuple[int, int] | None = None

    def first(self, steps: int) -> Changes:
        """Everything, or nothing for no steps."""
        whole = check_size('steps', steps, minimum=0) > 0
        return self if whole else super().first(0)

    def apply(self, data: Data) -> Data:
        """The graph after the changes, as a shallow copy.

        Raises:
            ValueError: If `data` is not the graph that they were found for.
        """
        before, after = self.new_nodes or (0, 0)
        out = super().apply(shift_nodes(data, before))
        if self.new_nodes is not None:
            out = add_nodes(out, data, before, after)
            out.virtual_node_mask = _outer(data, before, after)
        count = int(self.is_added.sum())
        if self.relation is not None and count > 0:
            later = self.relation[self.is_added] - 1
            later = later.to(out.edge_type)
            kept, new = out.edge_type[:-count], out.edge_type[-count:]
            out.edge_type = torch.cat([kept, new + later])
        if self.kept_weight is not None:
            out.edge_weight = self._weights(data, out.edge_index.size(1))
        return out

    def _weights(self, data: Data, num_edges: int) -> Tensor:
        assert self.kept_weight is not None
        weight = torch.cat([self.kept_weight, self.weight[self.is_added]])
        if weight.numel() != num_edges:
            raise ValueError(
                f'Expected the graph that the changes were found for (got one '
                f'that has {num_edges} edges after them, and weights for '
                f'{weight.numel()}).'
            )
        given = data.get('edge_weight')
        dtype = torch.get_default_dtype() if given is None else given.dtype
        return weight.to(dtype)


def _outer(data: Data, before: int, after: int) -> Tensor:
    """Which nodes are new."""
    size = int(data.num_nodes or 0)
    node = torch.arange(before + size + after, device=data.edge_index.device)
    return (node < before) | (node >= before + size)


def make_at_once(
    graph: InputGraph,
    *,
    added: np.ndarray | None = None,  # shape: [2, A]
    removed: np.ndarray | None = None,  # shape: [2, R]
    weight: np.ndarray | float = 1.0,  # shape: [A]
    relation: np.ndarray | None = None,  # shape: [A]
    kept_weight: np.ndarray | None = None,
    **others: Any,
) -> AtOnce:
    """Changes from arrays, the removed edges before the added ones."""
    none = np.empty((2, 0), dtype=np.int64)
    added = none if added is None else added
    removed = none if removed is None else removed
    num_added, num_removed = added.shape[1], removed.shape[1]
    device = graph.device
    edges = torch.from_numpy(np.concatenate([removed, added], axis=1))
    weights = np.ones(num_removed + num_added)
    weights[num_removed:] = weight
    if relation is not None:
        before = np.ones(num_removed, dtype=np.int64)
        others['relation'] = torch.from_numpy(
            np.concatenate([before, relation])
        ).to(device)
    if kept_weight is not None:
        others['kept_weight'] = torch.from_numpy(kept_weight).to(device)
    event = torch.arange(edges.size(1), device=device)
    return AtOnce(
        edge_index=edges.long().to(device),
        is_added=event >= num_removed,
        step=torch.zeros_like(event),
        weight=torch.from_numpy(weights).to(device),
        **others,
    )


def keys_of(edges: np.ndarray, num_nodes: int) -> np.ndarray:
    """One number for each edge, in lexicographic order."""
    keys: np.ndarray = edges[0] * num_nodes + edges[1]
    return keys


def distinct(edges: np.ndarray, num_nodes: int) -> np.ndarray:
    """The edges ``[2, M]`` without repetitions, in lexicographic order."""
    return np.stack(np.divmod(np.unique(keys_of(edges, num_nodes)), num_nodes))


def missing_from(edges: np.ndarray, graph: InputGraph) -> np.ndarray:
    """Which of the edges ``[2, M]`` the graph does not have, ``[M]``."""
    given = graph.edge_index.cpu().numpy()
    num_nodes = int(max(graph.num_nodes, edges.max(initial=0) + 1))
    return ~np.isin(keys_of(edges, num_nodes), keys_of(given, num_nodes))


def both_ways(pairs: np.ndarray) -> np.ndarray:
    """The pairs ``[2, P]`` as edges, each one followed by its reverse."""
    edges = np.stack([pairs, pairs[::-1]], axis=2)
    return edges.reshape(2, -1)
