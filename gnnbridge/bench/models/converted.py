"""A block of the embedded trained decoder as the layer of a GNN."""

from __future__ import annotations

import copy
from functools import lru_cache

import torch
from torch import Tensor, nn

from gnnbridge.bench.models.size import Form
from gnnbridge.bench.models.wiring import Graph
from gnnbridge.nn.transformer_layer import GraphTransformerLayer

# The middle one of three: the first reads bytes, the last predicts them.
LAYER = 1
WIDTH = 64


class ConvertedBlock(nn.Module):
    """A trained block on the edges of a graph, the same one at every depth.

    In its model a token attends to itself, so that nodes without a self-loop
    get one here. Nodes have the ``position`` that the graph gives them; where
    it gives none, all have the same, and their order says nothing.

    Args:
        form: What is asked of all layers. Dropout drops what the block adds
            to the states.
        trained: Whether its weights are trained further.
    """

    def __init__(self, form: Form, *, trained: bool) -> None:
        super().__init__()
        self.block = copy.deepcopy(_trained_block()).requires_grad_(trained)
        self.dropout = nn.Dropout(form.dropout)

    def forward(self, x: Tensor, graph: Graph) -> Tensor:
        """New states ``[N, 64]``."""
        plan, weight = graph.relations[0].planned_with_loops
        position = graph.position
        if position is None:
            position = torch.zeros_like(x[:, 0], dtype=torch.int64)
        out: Tensor = self.block(x, plan, position, weight)
        return x + self.dropout(out - x) if self.dropout.p > 0 else out


@lru_cache(maxsize=1)
def _trained_block() -> GraphTransformerLayer:
    # Other models start without what these need.
    from gnnbridge.models.embedded import load_embedded
    from gnnbridge.models.layer import convert_layer

    # Neither is the chance of what follows moved, nor is a block without
    # memory made where parameters are merely counted.
    with torch.random.fork_rng(devices=[]), torch.device('cpu'):
        return convert_layer(load_embedded()[0], LAYER)
