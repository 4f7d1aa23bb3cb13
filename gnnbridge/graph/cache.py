"""Graphs of a KV cache, where queries and keys differ in number."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import Data

from gnnbridge.graph.checks import check_edge_index, check_size, describe_edge
from gnnbridge.graph.checks import first as first_true
from gnnbridge.graph.ranges import ranges_to_graph, window_ranges


def cache_graph(
    num_queries: int,
    num_keys: int,
    *,
    window: int | None = None,
    sinks: int = 0,
    device: torch.device | str | None = None,
) -> Data:
    r"""The causal graph of a decoding step: the last tokens query the cache.

    The nodes are the ``num_keys`` tokens in the cache, by absolute position;
    the last ``num_queries`` of them are queries, and only these receive
    edges. A query at absolute position :math:`p` has key index :math:`p`.

    Args:
        num_queries: The number of queries, at most ``num_keys``.
        num_keys: The number of keys, the new tokens' own included.
        window: The number of keys in a sliding window, the query's own
            included; all earlier keys if ``None``.
        sinks: The number of first tokens that are seen beyond the window.
        device: Where the tensors live.

    Returns:
        A graph over ``num_keys`` nodes with ``num_queries``. See
        :func:`to_bipartite` for local query numbers.
    """
    check_size('num_keys', num_keys)
    if check_size('num_queries', num_queries) > num_keys:
        raise ValueError(
            f"Expected 'num_queries' to be at most num_keys = {num_keys} "
            f'(got {num_queries}). The keys include those of the queries.'
        )
    window = num_keys if window is None else check_size('window', window)
    check_size('sinks', sinks, minimum=0)
    first_query = num_keys - num_queries
    query = torch.arange(first_query, num_keys, device=device)
    start, count = window_ranges(query, window, sinks)
    data = ranges_to_graph(start, count, num_keys, first_query=first_query)
    data.num_queries = num_queries
    return data


def to_bipartite(data: Data) -> tuple[Tensor, tuple[int, int]]:
    r"""Local query numbers, as ``propagate`` of a bipartite graph wants them.

    Args:
        data: A graph with ``num_queries``; without it every node is a query.
            In a batch the queries are the last nodes of each graph, and are
            numbered through.

    Returns:
        ``edge_index`` ``[2, E]`` int64 with row 0 the key's node index and
        row 1 the query counted from 0, and ``(num_keys, num_queries)`` for
        the ``size`` of PyG's ``propagate``.

    Raises:
        ValueError: If an edge ends in a node that is not a query.
    """
    num_keys = int(data.num_nodes)
    edge_index = data.edge_index
    check_edge_index(edge_index, num_keys)
    is_query = _query_mask(data, num_keys)
    source, target = edge_index
    stray = ~is_query[target]
    if stray.any():
        edge = describe_edge(edge_index, first_true(stray))
        raise ValueError(
            'Expected edges that end in a query, one of the last '
            f"'num_queries' nodes of a graph (got {edge})."
        )
    number = is_query.cumsum(0) - 1
    return (
        torch.stack([source, number[target]]),
        (num_keys, int(is_query.sum())),
    )


def _query_mask(data: Data, num_keys: int) -> Tensor:
    device = data.edge_index.device
    node = torch.arange(num_keys, device=device)
    if data.get('num_queries') is None:
        return torch.ones_like(node, dtype=torch.bool)
    num_queries = torch.as_tensor(data.num_queries, device=device)
    if data.get('ptr') is None:
        return node >= num_keys - num_queries
    return node >= (data.ptr[1:] - num_queries)[data.batch]
