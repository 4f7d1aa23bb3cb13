"""Edges out of ranges of keys, without a loop over nodes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import Data


def ranges_to_graph(
    start: Tensor,  # shape: [Nq] or [Nq, S]
    count: Tensor,  # shape: [Nq] or [Nq, S]
    num_nodes: int,
    *,
    step: int = 1,
    first_query: int = 0,
) -> Data:
    r"""The graph whose query ``r`` sees the keys of given ranges.

    Row :math:`r` of the arguments is the query at node ``first_query + r``.
    It sees the keys ``start[r, s] + step * t`` for ``t < count[r, s]`` of
    each of its ranges. Memory is proportional to the number of edges. The
    ranges of a row must be disjoint and increasing; the edges then come out
    sorted by target, then source.

    Returns:
        ``edge_index`` int64, ``num_nodes`` and ``position``.
    """
    edge_index = range_edges(start, count, step=step)
    edge_index[1] += first_query
    return Data(
        edge_index=edge_index,
        num_nodes=num_nodes,
        position=torch.arange(num_nodes, device=count.device),
    )


def range_edges(
    start: Tensor,  # shape: [Nq] or [Nq, S]
    count: Tensor,  # shape: [Nq] or [Nq, S]
    *,
    step: int = 1,
) -> Tensor:  # shape: [2, E]
    """The edges of :func:`ranges_to_graph`, queries counted from zero."""
    num_ranges = start.size(1) if start.dim() > 1 else 1
    start, count = start.flatten(), count.flatten()
    segment = torch.arange(len(count), device=count.device)
    segment = segment.repeat_interleave(count)
    before = count.cumsum(0) - count
    within = torch.arange(len(segment), device=count.device) - before[segment]
    source = start[segment] + step * within
    return torch.stack([source, segment // num_ranges])


def window_ranges(
    query: Tensor,  # shape: [Nq]
    window: int,
    sinks: int,
) -> tuple[Tensor, Tensor]:  # shapes: [Nq, 2], [Nq, 2]
    r"""Starts and counts of the sink keys and of the window of each query.

    The sinks that lie within the window are counted with the window.
    """
    low = (query - window + 1).clamp(min=0)
    start = torch.stack([torch.zeros_like(low), low], dim=1)
    count = torch.stack([low.clamp(max=sinks), query - low + 1], dim=1)
    return start, count
