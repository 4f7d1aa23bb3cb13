"""The patterns that are compared, at a number of edges per token."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data

from gnnbridge.graph import causal_graph
from gnnbridge.transforms import (
    AttentionSinks,
    CausalResistanceRewiring,
    measured_pattern,
    pattern,
)

# Patterns that look at the very input, and are no static ones.
ORACLES = ('top-k of mean attention', 'top-k of each head')
# Static, from nothing but the number of tokens.
FIXED = {
    'window': ('window', 1),
    'window + 1 sink': ('sinks', 1),
    'window + 4 sinks': ('sinks', 4),
    'BigBird-style': ('bigbird', 1),
    'expander': ('expander', 1),
    'FoSR': ('fosr', 1),
    'causal resistance': ('causal-resistance', 1),
    'causal resistance, depth': ('causal-resistance', 1),
}
# Static, from attention measured on training text.
MEASURED = (
    'mean attention',
    'causal resistance, measured',
    'shared among heads',
)
RANDOM = ('BigBird-style', 'expander', 'FoSR')
NAMES = (*FIXED, *MEASURED, *ORACLES)


class Patterns:
    """Makes the patterns of one model.

    Args:
        graphs: A batch of token graphs for each layer, from training text.
        num_tokens: The length of the sequences.
    """

    def __init__(self, graphs: list[Data], num_tokens: int) -> None:
        self.graphs, self.num_tokens = graphs, num_tokens
        self.hops = float(sum(data.mixing.double().mean() for data in graphs))
        self.mean = [mean_graph(data, num_tokens) for data in graphs]

    def make(self, name: str, budget: int, seed: int) -> Any:
        """What :func:`gnnbridge.rewire` takes, or ``None`` if there is none."""
        if name in FIXED:
            kind, sinks = FIXED[name]
            if budget <= sinks + 1 or (kind == 'expander' and budget < 5):
                return None
            hops = self.hops if name.endswith('depth') else None
            seed = seed if name in RANDOM else 0
            return fixed_graph(kind, budget, self.num_tokens, sinks, seed, hops)
        if name == 'mean attention':
            return {
                layer: top_k(data, budget)
                for layer, data in enumerate(self.mean)
            }
        if name == 'causal resistance, measured':
            rewiring = CausalResistanceRewiring(
                edges_per_token=budget, start=AttentionSinks(budget // 2, 1)
            )
            return {k: rewiring(data) for k, data in enumerate(self.mean)}
        if name == 'shared among heads':
            return measured_pattern(self.graphs, budget, self.num_tokens)
        if name == 'top-k of mean attention':
            return pattern('top-k', budget, self.num_tokens)
        return top_k_of_heads(budget)


@cache
def fixed_graph(
    kind: str,
    budget: int,
    num_tokens: int,
    sinks: int,
    seed: int,
    hops: float | None,
) -> Data:
    """The graph of a pattern, the same for all models and samples."""
    transform = pattern(
        kind, budget, num_tokens, sinks=sinks, seed=seed, hops=hops
    )
    return transform(causal_graph(num_tokens))


def mean_graph(batch: Data, num_tokens: int) -> Data:
    """The mean attention of a layer over samples, by distance, head mean.

    The first token keeps what it gets by row, as all tokens attend to it.
    """
    size = batch.edge_index.size(1) // batch.num_graphs
    weight = batch.edge_weight.view(-1, size).double().mean(0)
    source, target = batch.edge_index[:, :size]
    distance = target - source
    first = source == 0
    total = weight.new_zeros(num_tokens)
    total = total.index_add(0, distance[~first], weight[~first])
    count = torch.bincount(distance[~first], minlength=num_tokens)
    by_distance = total / count.clamp(min=1)
    smooth = torch.where(first, weight, by_distance[distance])
    return Data(
        edge_index=batch.edge_index[:, :size],
        edge_weight=smooth.clamp(min=1e-12),
        num_nodes=num_tokens,
    )


def top_k(data: Data, budget: int) -> Data:
    """The edges of most attention into each token."""
    return pattern('top-k', budget, data.num_nodes)(data)


def top_k_of_heads(budget: int) -> Callable[[int, Data], Data]:
    """Each head keeps the edges of its own most attention, on this input."""

    def keep(layer: int, data: Data) -> Data:
        source, target = data.edge_index
        n, heads = data.num_nodes, data.edge_attr.size(1)
        A = data.edge_attr.new_full((heads, n, n), -math.inf)
        A[:, target, source] = data.edge_attr.T
        best = A.topk(min(budget, n), dim=-1).indices
        used: Tensor = torch.zeros_like(A, dtype=torch.bool)
        used = used.scatter(2, best, True)
        return Data(
            edge_index=data.edge_index,
            edge_heads=used[:, target, source].T,
            num_nodes=n,
        )

    return keep
