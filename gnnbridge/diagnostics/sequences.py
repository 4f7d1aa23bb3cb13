"""Token graphs as diagnostics read them: layers, and sequences in a layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch_geometric.data import Data

from gnnbridge.graph.checks import at_least_float32

Graphs: TypeAlias = Data | Sequence[Data]


def as_layers(graphs: Any) -> list[Data]:
    """The graphs, one per layer; a single graph is one layer."""
    layers = [graphs] if isinstance(graphs, Data) else list(graphs)
    if not layers or not all(isinstance(graph, Data) for graph in layers):
        kinds = sorted({type(graph).__name__ for graph in layers})
        raise TypeError(
            f"Expected 'graphs' to be a token graph or one token graph per "
            f'layer (got {kinds or "none"}). Use gnnbridge.capture to get '
            f'them.'
        )
    return layers


def sequence_starts(graph: Data) -> Tensor:
    """First node of each sequence, and the number of nodes: ``[B + 1]``."""
    ptr = graph.get('ptr')
    if ptr is None:
        ptr = torch.tensor([0, graph.num_nodes])
    return ptr.to(graph.edge_index.device)


def node_sequence(starts: Tensor) -> Tensor:
    """The sequence of each node, ``[N]``."""
    lengths = starts.diff()
    sequences = torch.arange(len(lengths), device=starts.device)
    return sequences.repeat_interleave(lengths)


def sum_into(size: int, index: Tensor, values: Tensor) -> Tensor:
    """Sum the rows of `values` that share an index, ``[size, ...]``."""
    out = values.new_zeros(size, *values.shape[1:])
    return out.index_add(0, index, values)


def tensor_of(graph: Data, name: str, layer: int, dim: int) -> Tensor:
    """An attribute of a token graph, in at least float32."""
    value = graph.get(name)
    if value is None or value.dim() != dim:
        got = 'none' if value is None else f'shape {tuple(value.shape)}'
        raise ValueError(
            f"Expected the graph of layer {layer} to hold '{name}' with "
            f'{dim} dimensions (got {got}).'
        )
    return at_least_float32(value)


def mean_over_sequences(
    states: Tensor | Graphs,
    measure: Callable[[Tensor], Tensor],
) -> Tensor:
    """A measure of hidden states: batched, or per layer of graphs.

    Args:
        states: Hidden states ``[..., N, d]``, or token graphs with ``x``.
        measure: From ``[..., N, d]`` to ``[...]``.

    Returns:
        The measure ``[...]`` of a tensor; for graphs the mean over the
        sequences of each layer, ``[L]``.
    """
    if isinstance(states, Tensor):
        if states.dim() < 2 or states.numel() == 0:
            raise ValueError(
                f"Expected 'x' of shape [..., N, d] (got "
                f'{tuple(states.shape)}).'
            )
        return measure(at_least_float32(states))
    values = []
    for layer, graph in enumerate(as_layers(states)):
        x = tensor_of(graph, 'x', layer, 2)
        lengths = sequence_starts(graph).diff().tolist()
        values.append(
            torch.stack([measure(part) for part in x.split(lengths)]).mean(0)
        )
    return torch.stack(values)
