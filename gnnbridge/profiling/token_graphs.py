"""The token graph that all layers of a model make together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch_geometric.data import Data

from gnnbridge.graph.dense import edges_to_dense, from_attention
from gnnbridge.graph.schema import is_causal
from gnnbridge.models.capture import capture
from gnnbridge.models.pairs import check_heads

if TYPE_CHECKING:
    from gnnbridge.models.capture import PreTrainedModel


@dataclass(frozen=True)
class ShownEdges:
    """The edges of one layer and head.

    Attributes:
        layer: The layer.
        head: The head.
        edge_index: Its edges, ``[2, E]``.
        num_tokens: The number of tokens.
    """

    layer: int
    head: int
    edge_index: Tensor
    num_tokens: int

    def to_dict(self) -> dict[str, Any]:
        """Each token's ``rows``: ranges of the tokens it attends to."""
        size = self.num_tokens
        present = torch.zeros(size, size + 2, dtype=torch.int8)
        source, target = self.edge_index
        present[target, source + 1] = 1
        rows: list[list[list[int]]] = [[] for _ in range(size)]
        begins = (present.diff(dim=1) == 1).nonzero().tolist()
        ends = (present.diff(dim=1) == -1).nonzero().tolist()
        for (token, first), (_, end) in zip(begins, ends, strict=True):
            rows[token].append([first, end])
        return {'layer': self.layer, 'head': self.head, 'rows': rows}


@dataclass(frozen=True)
class ModelGraph:
    """The mean of the token graphs of all layers and heads.

    Attributes:
        attention: The graph of the edges of any layer, with the attention on
            them.
        even: The same edges, with attention that is even over those of each
            token in each head.
        num_edges: The edges of each layer, the mean over its heads; an edge
            counts in the heads that attend to it at all.
        mixing: The mean mixing of each layer; ``None`` if not measured.
        causal: Whether no token attends to a later one.
        shown: The edges of one layer and head.
    """

    attention: Data
    even: Data
    num_edges: list[float]
    mixing: list[float] | None
    causal: bool
    shown: ShownEdges

    @property
    def edges(self) -> float:
        """Edges of a layer, the mean over the layers."""
        return sum(self.num_edges) / len(self.num_edges)


def model_graph(
    model: PreTrainedModel,
    input_ids: Tensor,
    *,
    show: tuple[int, int] = (0, 0),
    mixing: bool = False,
) -> ModelGraph:
    """Runs a model once and adds up the attention of its layers.

    Layers are read one after the other: no more than one is held at a time.

    Args:
        model: A model, rewired or not.
        input_ids: The tokens ``[1, N]``.
        show: The layer and the head whose edges are kept apart.
        mixing: Whether to measure the mixing of the layers too.
    """
    found = _Sum(input_ids.size(1), show)
    capture(
        model,
        input_ids,
        hidden_states=mixing,
        device='cpu',
        on_layer=found.add,
    )
    return found.result()


class _Sum:
    """Adds up the layers as they come."""

    def __init__(self, size: int, show: tuple[int, int]) -> None:
        self.attention = torch.zeros(size, size, dtype=torch.float64)
        self.even = torch.zeros_like(self.attention)
        self.present = torch.zeros(size, size, dtype=torch.bool)
        self.num_edges: list[float] = []
        self.mixing: list[float | None] = []
        self.causal = True
        none = torch.empty(2, 0, dtype=torch.int64)
        self.shown = ShownEdges(*show, none, size)

    def add(self, graph: Data) -> None:
        """Takes the graph of the next layer."""
        size = len(self.present)
        source, target = graph.edge_index
        used = graph.edge_attr != 0
        if int(graph.layer) == self.shown.layer:
            [head] = check_heads([self.shown.head], used.size(1))
            edges = graph.edge_index[:, used[:, head]]
            self.shown = replace(self.shown, head=head, edge_index=edges)
        self.present[target, source] = True
        self.num_edges.append(float(used.double().sum(0).mean()))
        degree = torch.zeros(size, used.size(1), dtype=torch.float64)
        degree.index_add_(0, target, used.double())
        even = (used / degree[target].clamp(min=1)).mean(1)
        for total, weight in (
            (self.attention, graph.edge_weight.double()),
            (self.even, even),
        ):
            total += edges_to_dense(graph.edge_index, weight, size)
        mixing = graph.get('mixing')
        self.mixing.append(None if mixing is None else float(mixing.mean()))
        self.causal = self.causal and is_causal(graph)

    def result(self) -> ModelGraph:
        """The mean over the layers."""
        layers = len(self.num_edges)
        known = [value for value in self.mixing if value is not None]
        return ModelGraph(
            attention=from_attention(
                self.attention / layers, mask=self.present
            ),
            even=from_attention(self.even / layers, mask=self.present),
            num_edges=self.num_edges,
            mixing=known if len(known) == layers else None,
            causal=self.causal,
            shown=self.shown,
        )
