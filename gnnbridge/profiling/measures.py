"""The measures of every layer of a model, and of uniform attention."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch_geometric.data import Data

from gnnbridge.diagnostics.attention import (
    attention_entropy,
    sink_rate,
    sink_score,
)
from gnnbridge.diagnostics.oversmoothing import (
    dirichlet_energy,
    effective_rank,
    mean_cosine,
    rank_collapse,
)
from gnnbridge.graph.causal import causal_graph, complete_graph
from gnnbridge.graph.dense import to_attention
from gnnbridge.graph.schema import is_causal
from gnnbridge.models.capture import capture
from gnnbridge.models.slots import self_attention_slots
from gnnbridge.spectral.resistance import effective_resistance

if TYPE_CHECKING:
    from gnnbridge.models.capture import PreTrainedModel

# The values at which sink rates of different models are compared.
SINK_TOKENS = 64
SINK_EPSILON = 0.3
_MAX_ARCS = 400
# Captured attention held at once; layers beyond it take another forward pass.
_CAPTURE_BYTES = 2**30


@dataclass
class Found:
    """What one pass over the layers of a model gives.

    Attributes:
        measures: One entry per layer, or per layer and head, and quantity.
        graphs: The strongest edges of every layer.
        resistance: By position of the source; ``None`` if not causal.
        causal: Whether no token of any layer attends to a later one.
        hidden_size: The width of the states that enter a layer.
    """

    measures: dict[str, list[Any]]
    graphs: list[dict[str, Any]]
    resistance: dict[str, Any] | None
    causal: bool
    hidden_size: int

    def as_baseline(self) -> dict[str, Any]:
        """The part that is compared with another model's."""
        return {'measures': self.measures, 'resistance': self.resistance}


def measure(
    model: PreTrainedModel, input_ids: Tensor, sink_tokens: int
) -> Found:
    """Measures every layer of a converted model, a few layers at a time.

    Args:
        model: A converted model.
        input_ids: The tokens ``[1, N]``.
        sink_tokens: How many of them sink scores are taken over.
    """
    measures: dict[str, list[Any]] = {}
    graphs: list[dict[str, Any]] = []
    total = torch.zeros(input_ids.size(1), input_ids.size(1))
    causal = True
    for graph in _captured(model, input_ids):
        for name, value in _layer_measures(graph, sink_tokens).items():
            measures.setdefault(name, []).append(value)
        A = to_attention(graph)
        graphs.append({'layer': len(graphs), **_drawn(graph, A)})
        total = total + A
        causal = causal and is_causal(graph)
        hidden_size = graph.x.size(1)
    hops = sum(measures['mixing'])
    return Found(
        measures=measures,
        graphs=graphs,
        resistance=_resistance(total / len(graphs), hops) if causal else None,
        causal=causal,
        hidden_size=hidden_size,
    )


def _captured(model: PreTrainedModel, input_ids: Tensor) -> Iterator[Data]:
    layers = [slot.layer for slot in self_attention_slots(model).values()]
    heads = getattr(model.config, 'num_attention_heads', None)
    # Some configs give one number per layer, or none at all.
    heads = heads if isinstance(heads, int) else 128
    size = 4 * heads * input_ids.size(1) ** 2
    step = max(_CAPTURE_BYTES // size, 1)
    for start in range(0, len(layers), step):
        yield from capture(
            model, input_ids, layers=layers[start : start + step], device='cpu'
        )


def _layer_measures(graph: Data, tokens: int) -> dict[str, Any]:
    rate = sink_rate(graph, epsilon=SINK_EPSILON, tokens=tokens)
    return {
        'layer': int(graph.layer),
        'sink_score': sink_score(graph, tokens=tokens)[0].tolist(),
        'sink_rate': rate.item(),
        'entropy': attention_entropy(graph)[0].tolist(),
        'mixing': graph.mixing.mean().item(),
        'dirichlet_energy': dirichlet_energy(graph, normalized=True).item(),
        'effective_rank': effective_rank(graph).item(),
        'rank_collapse': rank_collapse(graph).item(),
        'mean_cosine': mean_cosine(graph).item(),
    }


def _drawn(graph: Data, A: Tensor) -> dict[str, Any]:
    """The strongest edges into every token but those from itself."""
    size = A.size(0)
    keys = min(2 if size <= 128 else 1, size - 1)
    weight, source = A.clone().fill_diagonal_(0).topk(keys, dim=1)
    target = torch.arange(size).unsqueeze(1).expand_as(source)
    # Of the strongest of every token the strongest, as many as can be drawn.
    order = weight.flatten().argsort(descending=True)[:_MAX_ARCS]
    found = [t.flatten()[order] for t in (source, target, weight)]
    edges = list(zip(*(t.tolist() for t in found), strict=True))
    return {
        'num_edges': graph.num_edges,
        'edges_per_token': keys,
        'first_token_share': A[:, 0].mean().item(),
        'self_share': A.diagonal().mean().item(),
        'edges': [edge for edge in edges if edge[2] > 0],
    }


def _resistance(A: Tensor, hops: float) -> dict[str, Any]:
    """Resistance by source, from the last receiver and from all later ones."""
    conductance = effective_resistance(A, hops=hops, conductance=True)
    later = conductance.tril(-1)
    count = torch.arange(len(A) - 1, -1, -1)
    last = 1 / later[-1]
    mean = count / later.sum(0)
    return {'hops': hops, 'last': last.tolist(), 'mean': mean.tolist()}


def uniform(found: Found, size: int, sink_tokens: int) -> dict[str, Any]:
    """What attention gives that is uniform over the tokens it may see.

    Args:
        found: The model to compare with: whether it is causal, its mixing.
        size: The number of tokens.
        sink_tokens: How many of them sink scores are taken over.
    """
    graph = causal_graph(size) if found.causal else complete_graph(size)
    target = graph.edge_index[1]
    graph.edge_weight = 1 / torch.bincount(target)[target]
    graph.edge_attr = graph.edge_weight.unsqueeze(1)
    A = to_attention(graph)
    hops = sum(found.measures['mixing'])
    score = sink_score(graph, tokens=sink_tokens)
    return {
        'name': 'uniform causal' if found.causal else 'uniform',
        'sink_score': score.item(),
        'entropy': attention_entropy(graph).item(),
        'first_token_share': A[:, 0].mean().item(),
        'resistance': _resistance(A, hops) if found.causal else None,
    }
