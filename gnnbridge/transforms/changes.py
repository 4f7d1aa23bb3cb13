"""What a rewiring does to a graph, step by step."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch_geometric.data import Data

from gnnbridge.graph.checks import check_size
from gnnbridge.graph.schema import edge_attributes, select_edges


@dataclass(frozen=True)
class Changes:
    r"""The edges that a rewiring adds and removes, in the order of its steps.

    An edge may come and go again: :attr:`added` and :attr:`removed` are what
    is left in the end.

    Attributes:
        edge_index: The edge of each event, ``[2, K]``, source first. A pick
            in an undirected graph is two events of one step, ``u -> v`` and
            ``v -> u``.
        is_added: Whether the event adds the edge or removes it, ``[K]`` bool.
        step: The step it belongs to, ``[K]`` int64, ascending from 0.
        weight: The weight of an added edge, ``[K]`` float64.
        trace: The objective before the first step and after each one,
            ``[S + 1]`` float64; empty for methods without one.
        objective: What :attr:`trace` is, such as ``'total resistance'``.
        exhausted: Whether the method stopped before it had made as many steps
            as it was asked for, since no candidate was left.
    """

    edge_index: Tensor
    is_added: Tensor
    step: Tensor
    weight: Tensor
    trace: Tensor = field(
        default_factory=lambda: torch.empty(0, dtype=torch.float64)
    )
    objective: str = ''
    exhausted: bool = False

    @property
    def added(self) -> Tensor:
        """The edges that are new in the end, ``[2, A]``."""
        return self.edge_index[:, self._added()]

    @property
    def removed(self) -> Tensor:
        """The edges that are gone in the end, ``[2, R]``."""
        first, last = self._first_and_last()
        gone = ~self.is_added[first] & ~self.is_added[last]
        return self.edge_index[:, last[gone].sort().values]

    @property
    def num_steps(self) -> int:
        """The number of steps that changed something."""
        return int(self.step[-1]) + 1 if self.step.numel() > 0 else 0

    def first(self, steps: int) -> Changes:
        """The first steps alone.

        Those of a greedy method are what it does at a smaller budget.
        """
        steps = check_size('steps', steps, minimum=0)
        kept = self.step < steps
        return Changes(
            edge_index=self.edge_index[:, kept],
            is_added=self.is_added[kept],
            step=self.step[kept],
            weight=self.weight[kept],
            trace=self.trace[: steps + 1],
            objective=self.objective,
            exhausted=self.exhausted and steps > self.num_steps,
        )

    def apply(self, data: Data) -> Data:
        r"""The graph after the changes, as a shallow copy.

        The edges that stay come first, in their order, and the added ones
        last. Attributes of edges stay aligned: an added edge has its weight
        in ``edge_weight``, one more than the largest type of the input in
        ``edge_type``, which is made (0 for the others) where an edge is
        added, and zeros in everything else.

        Args:
            data: The graph that the changes were found for.

        Raises:
            ValueError: If an edge to be removed is not in the graph.
        """
        out = copy.copy(data)
        if self.edge_index.numel() == 0:
            return out
        if self.removed.numel() > 0:
            out = select_edges(out, _others(data, self.removed))
        chosen = self._added()
        if chosen.numel() == 0:
            return out
        old = data.get('edge_type')
        empty = old is None or old.numel() == 0
        new_type = 1 if empty else int(old.max()) + 1
        return _append(
            out, self.edge_index[:, chosen], self.weight[chosen], new_type
        )

    def _added(self) -> Tensor:
        first, last = self._first_and_last()
        return last[self.is_added[first] & self.is_added[last]].sort().values

    def _first_and_last(self) -> tuple[Tensor, Tensor]:
        """The first and the last event of each edge."""
        source, target = self.edge_index
        size = int(self.edge_index.max()) + 1 if source.numel() > 0 else 1
        edges, place = (source * size + target).unique(return_inverse=True)
        event = torch.arange(place.numel(), device=place.device)
        bounds = event.new_empty(edges.numel())
        first = bounds.scatter_reduce(
            0, place, event, 'amin', include_self=False
        )
        last = bounds.scatter_reduce(
            0, place, event, 'amax', include_self=False
        )
        return first, last


def _others(data: Data, removed: Tensor) -> Tensor:
    """Which edges of the graph are not among the removed ones, ``[E]``."""
    num_nodes = int(data.num_nodes or 0)
    source, target = data.edge_index
    key = source * num_nodes + target
    gone = removed[0] * num_nodes + removed[1]
    missing = ~torch.isin(gone, key)
    if missing.any():
        u, v = removed[:, missing][:, 0].tolist()
        raise ValueError(
            f'Expected the graph that the changes were found for (got one '
            f'without the edge {u} -> {v}, which is to be removed).'
        )
    return ~torch.isin(key, gone)


def _append(data: Data, edges: Tensor, weight: Tensor, new_type: int) -> Data:
    out = copy.copy(data)
    count = edges.size(1)
    names = edge_attributes(data)
    if 'edge_type' not in names:
        zeros = edges.new_zeros(data.edge_index.size(1))
        out.edge_type = torch.cat([zeros, zeros.new_ones(count)])
    for name in names:
        value = data[name]
        fill = value.new_zeros((count, *value.shape[1:]))
        if name == 'edge_weight':
            fill = fill + weight.to(value)
        if name == 'edge_type':
            fill = fill + new_type
        out[name] = torch.cat([value, fill])
    out.edge_index = torch.cat([data.edge_index, edges], dim=1)
    return out
