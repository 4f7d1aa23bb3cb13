"""What a token graph is: order, causality, roots, and their check."""

from __future__ import annotations

import copy
from typing import Any

import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor
from torch_geometric.data import Data

from gnnbridge.graph.checks import (
    check_edge_index,
    check_num_edges,
    check_num_nodes,
    check_weights,
    describe_edge,
    first,
)
from gnnbridge.typing import Weights

_NODE_ATTRIBUTES = ('x', 'position', 'token_id', 'mixing')


def validate(
    data: Data,
    *,
    causal: bool | None = None,
    single_root: bool = False,
    weights: Weights = 'nonnegative',
) -> Data:
    r"""Check that a graph is a well-formed token graph, and return it.

    ``edge_index`` is ``[2, E]`` int64 within range, sorted by target then
    source, without duplicates, inside the graphs of a batch; ``edge_weight``
    is ``[E]`` and ``edge_attr`` ``[E, H]``, finite and non-negative; every
    tensor named ``edge_*`` has one row per edge.

    Args:
        data: The graph, or a PyG ``Batch`` of graphs.
        causal: If ``True``, every edge must satisfy ``j <= i`` in the node
            numbering. ``None`` and ``False`` demand nothing. Causality is a
            matter of node order (the slot in the cache), never of
            ``data.position``: packed or shifted positions do not change what
            a query may see.
        single_root: Whether the graph, or each graph of a batch, must have
            exactly one closed class: see :func:`roots`.
        weights: ``'nonnegative'``, or ``'signed'`` to allow negative weights.

    Returns:
        The same object, so that the call chains.

    Raises:
        TypeError: If the input is not a ``Data`` or a dtype is wrong.
        ValueError: Otherwise; the message names the offending edge or row.
    """
    _check_type(data)
    check_edge_index(data.edge_index)
    num_nodes = check_num_nodes(data.num_nodes)
    check_num_edges(data.edge_index)
    check_edge_index(data.edge_index, num_nodes)
    _check_attributes(data, num_nodes, weights)
    _check_within_graphs(data)
    _check_order(data.edge_index, num_nodes)
    if causal:
        _check_causal(data.edge_index)
    if single_root:
        _check_single_root(data)
    return data


def is_causal(data: Data) -> bool:
    r"""Whether no node receives from a later one, :math:`j \le i` on all edges.

    Decided by node index, not by ``data.position``. In a batch the graphs are
    blocks of consecutive nodes, so the same comparison holds for all of them.
    """
    _check_type(data)
    check_edge_index(data.edge_index)
    return bool((data.edge_index[0] <= data.edge_index[1]).all())


def sort(data: Data) -> Data:
    r"""Sort the edges by target, then source.

    Every edge-level attribute moves along: ``edge_weight``, ``edge_attr``,
    whatever is named ``edge_*``, and tensors that PyG takes for edge-level
    by their length. The sort is stable and drops nothing.

    Returns:
        A new ``Data``; the input and its tensors are left as they were.
    """
    _check_type(data)
    check_edge_index(data.edge_index)
    source, target = data.edge_index
    key = target * max(data.num_nodes or 0, 1) + source
    return select_edges(data, torch.argsort(key, stable=True))


def select_edges(data: Data, edges: Tensor) -> Data:
    r"""The graph with the given edges only, in the given order.

    Args:
        data: The graph.
        edges: Positions ``[E']`` int64 or mask ``[E]`` bool over the edges.

    Returns:
        A shallow copy of ``data`` with new edge-level tensors.
    """
    out = copy.copy(data)
    selected = {name: data[name][edges] for name in edge_attributes(data)}
    out.edge_index = data.edge_index[:, edges]
    for name, value in selected.items():
        out[name] = value
    return out


def edge_attributes(data: Data) -> list[str]:
    r"""The names of the tensors that hold one row per edge.

    These are the names that start with ``edge_`` (without ``index``, which
    has a meaning of its own in PyG), and, as in PyG, other tensors with
    :math:`E` rows where no other reading of the length fits.
    """
    num_edges = data.edge_index.size(1)
    # A Batch also holds tensors of one entry per graph, and its own 'ptr'.
    taken = {data.num_nodes, getattr(data, 'num_graphs', None)}
    guess = num_edges not in taken
    return [
        name
        for name, value in data.to_dict().items()
        if isinstance(value, Tensor)
        and 'index' not in name
        and name != 'ptr'
        and (
            name.startswith('edge_')
            or (guess and value.dim() > 0 and value.size(0) == num_edges)
        )
    ]


def roots(data: Data) -> Tensor:
    r"""One node of each closed class of the graph, in increasing order.

    A random walk steps from a token :math:`i` to the tokens :math:`j` that it
    attends to. A closed class is a set of nodes that reach one another and
    that the walk cannot leave; a causal graph with a single root has the one
    class ``{0}``, its absorbing root. In a causal graph a closed class is a
    node whose leave rate :math:`\sum_{j \ne i} A_{ij}` is zero; in other
    digraphs it may hold several nodes, and the smallest stands for it. Edges
    of weight zero do not count.

    Returns:
        Node indices ``[R]``, int64, on the device of ``edge_index``;
        :math:`R \ge 1`.
    """
    _check_type(data)
    num_nodes = check_num_nodes(data.num_nodes)
    check_edge_index(data.edge_index, num_nodes)
    source, target = _leaving_edges(data)
    if bool((source <= target).all()):
        leaves = torch.zeros(num_nodes, dtype=torch.bool, device=source.device)
        leaves[target] = True
        return (~leaves).nonzero().flatten()
    return _closed_classes(source, target, num_nodes)


def _leaving_edges(data: Data) -> tuple[Tensor, Tensor]:
    source, target = data.edge_index
    leaving = source != target
    if data.get('edge_weight') is not None:
        leaving = leaving & (data.edge_weight != 0)
    return source[leaving], target[leaving]


def _closed_classes(source: Tensor, target: Tensor, num_nodes: int) -> Tensor:
    i, j = target.cpu().numpy(), source.cpu().numpy()
    walk = coo_matrix(([1] * len(i), (i, j)), shape=(num_nodes, num_nodes))
    count, label = connected_components(walk, connection='strong')
    label = torch.from_numpy(label).long()
    closed = torch.ones(count, dtype=torch.bool)
    crossing = label[i] != label[j]
    closed[label[i][crossing]] = False
    smallest = torch.full((count,), num_nodes)
    smallest.scatter_reduce_(0, label, torch.arange(num_nodes), reduce='amin')
    return smallest[closed].sort().values.to(source.device)


def _check_type(data: Any) -> None:
    if not isinstance(data, Data):
        raise TypeError(
            'Expected a torch_geometric.data.Data '
            f'(got {type(data).__name__}). Use one graph, or a Batch of them.'
        )


def _check_attributes(data: Data, num_nodes: int, weights: Weights) -> None:
    edge_index = data.edge_index
    for name in edge_attributes(data):
        value = data[name]
        if name in ('edge_weight', 'edge_attr'):
            check_weights(value, edge_index, name=name, weights=weights)
            dim, shape = (1, '[E]') if name == 'edge_weight' else (2, '[E, H]')
            if value.dim() != dim:
                raise ValueError(
                    f"Expected '{name}' to have shape {shape} "
                    f'(got {list(value.shape)}).'
                )
        elif value.dim() == 0 or value.size(0) != edge_index.size(1):
            raise ValueError(
                f"Expected '{name}' to have one row for each of the "
                f'{edge_index.size(1)} edges (got shape {list(value.shape)}).'
            )
    for name in _NODE_ATTRIBUTES:
        value = data.get(name)
        if value is not None and len(value) != num_nodes:
            raise ValueError(
                f"Expected '{name}' to have one row for each of the "
                f'{num_nodes} nodes (got {len(value)}).'
            )


def _check_within_graphs(data: Data) -> None:
    batch = data.get('batch')
    if batch is None:
        return
    source, target = data.edge_index
    crossing = batch[source] != batch[target]
    if crossing.any():
        edge = first(crossing)
        raise ValueError(
            'Expected no edge between two graphs of a batch (got '
            f'{describe_edge(data.edge_index, edge)} from graph '
            f'{int(batch[source[edge]])} to graph {int(batch[target[edge]])}).'
        )


def _check_order(edge_index: Tensor, num_nodes: int) -> None:
    source, target = edge_index
    step = (target * num_nodes + source).diff()
    if (step < 0).any():
        edge = first(step < 0)
        raise ValueError(
            'Expected edges sorted by target, then source (got '
            f'{describe_edge(edge_index, edge + 1)} after '
            f'{describe_edge(edge_index, edge)}). '
            "Use 'gnnbridge.graph.sort(data)' first."
        )
    if (step == 0).any():
        edge = first(step == 0)
        raise ValueError(
            'Expected no duplicate edges (got '
            f'{describe_edge(edge_index, edge)} and again as edge {edge + 1}).'
        )


def _check_causal(edge_index: Tensor) -> None:
    acausal = edge_index[0] > edge_index[1]
    if acausal.any():
        raise ValueError(
            'Expected a causal graph, sources not after their targets '
            f'(got {describe_edge(edge_index, first(acausal))}).'
        )


def _check_single_root(data: Data) -> None:
    found = roots(data)
    batch = data.get('batch')
    if batch is None:
        batch = torch.zeros(data.num_nodes, dtype=torch.long)
    graph = batch.to(found.device)[found]
    for number in graph.unique().tolist():
        nodes = found[graph == number].tolist()
        if len(nodes) > 1:
            shown = ', '.join(map(str, nodes[:8]))
            more = ', ...' if len(nodes) > 8 else ''
            raise ValueError(
                'Expected a graph with one root, from which every token is '
                f'reached (got {len(nodes)} roots in graph {number}: nodes '
                f'{shown}{more}).'
            )
