"""The token graphs of one sequence, small enough to be looked at."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from gnnbridge.graph.schema import is_causal
from gnnbridge.models.capture import capture

if TYPE_CHECKING:
    from gnnbridge.models.capture import PreTrainedModel

SHOWN_TOKENS = 1024
# Of all edges in a report, three each; a third more as text.
_MOST_BYTES = 4_500_000
_MOST_KEYS = 8


@dataclass
class ShownGraphs:
    """Collects the strongest keys of every query and head, layer by layer.

    Attributes:
        tokens: The number of tokens.
        layers: What is shown of each layer.
        causal: Whether no token attends to a later one.
        heads: The numbers of heads.
        hidden_size: The width of the states, 0 if they were not seen.
        token_ids: The tokens; -1 for an inserted one that has no id.
    """

    tokens: int
    num_layers: int
    layers: list[dict[str, Any]] = field(default_factory=list)
    causal: bool = True
    heads: list[int] = field(default_factory=list)
    hidden_size: int = 0
    token_ids: list[int] = field(default_factory=list)

    def add(self, graph: Data) -> None:
        """Takes the graph of the next layer."""
        self.causal = self.causal and is_causal(graph)
        # More than were read, if the model inserts some.
        self.tokens = int(graph.num_nodes or 0)
        if graph.get('token_id') is not None:
            self.token_ids = graph.token_id.tolist()
        attention = graph.edge_attr
        self.heads.append(attention.size(1))
        x = graph.get('x')
        self.hidden_size = self.hidden_size if x is None else x.size(1)
        each = 3 * self.tokens * attention.size(1) * self.num_layers
        keep = min(max(_MOST_BYTES // each, 1), _MOST_KEYS, self.tokens)
        weight, source = _strongest(graph, keep)
        source_of, target = graph.edge_index
        share = graph.edge_weight / self.tokens
        self.layers.append(
            {
                'layer': int(graph.layer),
                'heads': attention.size(1),
                'edges_total': graph.edge_index.size(1),
                'keep': keep,
                'source': _text(source.numpy().astype('<u2')),
                'weight': _text(weight.numpy()),
                'self_share': float(share[source_of == target].sum()),
                'first_token_share': float(share[source_of == 0].sum()),
            }
        )

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain data."""
        return {'tokens': self.tokens, 'layers': self.layers}


def shown_graphs(
    model: PreTrainedModel, input_ids: Tensor, num_layers: int
) -> ShownGraphs:
    """Runs a model once on the first tokens of a sequence ``[N]``."""
    ids = input_ids[:SHOWN_TOKENS]
    found = ShownGraphs(len(ids), num_layers, token_ids=ids.tolist())
    capture(model, ids, device='cpu', on_layer=found.add)
    return found


def _strongest(graph: Data, keep: int) -> tuple[Tensor, Tensor]:
    """Weights uint8 and sources of the strongest keys ``[H, N, keep]``."""
    size, edges = int(graph.num_nodes or 0), graph.edge_attr
    weights, sources = [], []
    for head in range(edges.size(1)):
        dense = torch.zeros(size, size)
        dense[graph.edge_index[1], graph.edge_index[0]] = edges[:, head]
        weight, source = dense.topk(keep, dim=1)
        weights.append((weight.clamp(0, 1) * 255).round().to(torch.uint8))
        sources.append(source)
    return torch.stack(weights), torch.stack(sources)


def _text(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
