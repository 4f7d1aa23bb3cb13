"""Attention on the edges of a layer, by sequence, query and head."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch_geometric.data import Data

from gnnbridge.diagnostics.sequences import (
    node_sequence,
    sequence_starts,
    sum_into,
    tensor_of,
)
from gnnbridge.graph.checks import at_least_float32


@dataclass(frozen=True)
class Edges:
    """The edges of one layer, by sequence.

    Attributes:
        attention: Per head ``[E, H]``, in at least float32.
        sequence: The sequence of each edge ``[E]``.
        key: The source of each edge, counted in its sequence ``[E]``.
        query: The receiver of each edge, counted in its sequence ``[E]``.
        size: How many tokens each sequence has ``[B]``.
        length: How many of them count ``[B]``.
    """

    attention: Tensor
    sequence: Tensor
    key: Tensor
    query: Tensor
    size: Tensor
    length: Tensor

    @classmethod
    def of(
        cls, graph: Data, layer: int, tokens: int | None, token: int = 0
    ) -> Edges:
        """The edges of a graph, of which `token` among `tokens` is asked."""
        attention = tensor_of(graph, 'edge_attr', layer, 2)
        if graph.get('num_queries') is not None:
            raise ValueError(
                f'Expected a graph in which every token queries (got a cache '
                f'graph with fewer queries than keys at layer {layer}).'
            )
        starts = sequence_starts(graph)
        source, target = graph.edge_index
        sequence = node_sequence(starts)[target]
        first, size = starts[:-1], starts.diff()
        return cls(
            attention,
            sequence,
            source - first[sequence],
            target - first[sequence],
            size,
            lengths_of(size, tokens, token),
        )

    @property
    def counted(self) -> Tensor:
        """Which edges lead to a query that counts ``[E]``."""
        return self.query < self.length[self.sequence]

    def total(self, values: Tensor, chosen: Tensor) -> Tensor:
        """The sum over the chosen edges of each sequence ``[B, ...]``."""
        return sum_into(len(self.size), self.sequence[chosen], values[chosen])


def row_sums(graph: Data, values: Tensor) -> Tensor:
    """Sum of what the edges into each node hold, ``[N, H]``."""
    return sum_into(graph.num_nodes, graph.edge_index[1], values)


def query_mean(graph: Data, rows: Tensor, mass: Tensor) -> Tensor:
    """Mean over the queries that attend to anything, then over sequences.

    Args:
        graph: The graph of one layer.
        rows: What is averaged ``[N, H]``, zero for other queries.
        mass: How much each query attends ``[N, H]``.
    """
    starts = sequence_starts(graph)
    sequence, size = node_sequence(starts), len(starts) - 1
    queries = sum_into(size, sequence, (mass > 0).to(mass.dtype))
    return (sum_into(size, sequence, rows) / queries.clamp(min=1)).mean(0)


def dense_query_mean(rows: Tensor, mass: Tensor) -> Tensor:
    """The same for rows of dense attention ``[..., H, T]``."""
    return rows.sum(-1) / (mass > 0).sum(-1).clamp(min=1)


def dense_length(attention: Tensor, tokens: int | None, token: int) -> int:
    """How many tokens of dense attention count, and whether `token` does."""
    size = torch.tensor([attention.size(-1)])
    return int(lengths_of(size, tokens, token))


def lengths_of(sizes: Tensor, tokens: int | None, token: int) -> Tensor:
    """How many tokens of each sequence count."""
    shortest = int(sizes.min())
    if tokens is not None and shortest < tokens:
        raise ValueError(
            f'Expected sequences of at least tokens={tokens} tokens (got one '
            f'of {shortest}). Use tokens=None for whole sequences instead.'
        )
    end = shortest if tokens is None else tokens
    if not 0 <= token < end:
        raise ValueError(
            f"Expected 'token' to be one of the first {end} tokens, 0 to "
            f'{end - 1} (got {token}).'
        )
    return sizes if tokens is None else torch.full_like(sizes, tokens)


def check_dense(attention: Tensor) -> Tensor:
    """Dense attention in at least float32, if it is some."""
    shape = tuple(attention.shape)
    if len(shape) < 3 or shape[-1] != shape[-2] or 0 in shape:
        raise ValueError(
            f'Expected dense attention of shape [..., H, T, T] (got {shape}).'
        )
    if not attention.is_floating_point():
        raise TypeError(
            f'Expected floating-point attention (got {attention.dtype}).'
        )
    return at_least_float32(attention)


def check_sign(attention: Tensor) -> None:
    """Refuses negative attention."""
    lowest = attention.min() if attention.numel() else attention.new_zeros(())
    if not lowest >= 0:
        raise ValueError(
            f'Expected non-negative attention (got {lowest.item():.4g}). Use '
            f'one softmax map of differential attention at a time instead.'
        )


def stack_layers(layers: list[Tensor]) -> Tensor:
    """Results ``[L, H]`` of layers that have the same number of heads."""
    heads = [layer.size(0) for layer in layers]
    if len(set(heads)) > 1:
        raise ValueError(
            f'Expected the same number of heads in every layer (got {heads}). '
            f'Use one layer at a time instead.'
        )
    return torch.stack(layers)
