"""One block of a trained model as a PyG layer that runs on any graph."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.typing import OptTensor
from transformers import PreTrainedModel

from gnnbridge.models.backend import MASKLESS, UNMASKED
from gnnbridge.models.blocks import find_block, first_of
from gnnbridge.models.convert import converted
from gnnbridge.models.observation import Observation
from gnnbridge.models.slots import (
    Call,
    Pairs,
    Rows,
    self_attention_slots,
    slots_of,
)
from gnnbridge.models.stem import Stem
from gnnbridge.nn.edge_weight import log_edge_weight
from gnnbridge.nn.plan import AttentionPlan, plan_attention
from gnnbridge.nn.transformer_layer import GraphTransformerLayer

# Relative error of the layer against the block in the model, in float32.
_TOLERANCE = 1e-3


def convert_layer(model: PreTrainedModel, layer: int) -> GraphTransformerLayer:
    """A transformer block of a trained model as a PyG module.

    The block is copied with its weights: training the layer leaves the model
    alone. On the causal graph, or whatever graph the model's mask describes,
    it gives what the block gives in the model; on another graph, what the
    block would give if its tokens were connected so.

    Args:
        model: A model of ``transformers``; it is not changed.
        layer: Number of the layer; negative numbers count from the end.

    Returns:
        A :class:`gnnbridge.nn.GraphTransformerLayer` with
        ``layer(x, edge_index, position=None, edge_weight=None)``.

    Raises:
        ValueError: If there is no such layer.
        NotImplementedError: If the model cannot be converted, or the block
            needs more than states, positions and a graph (cross-attention, a
            bias computed in another layer).
    """
    with converted(model):
        slot = next(iter(self_attention_slots(model, [layer]).values()))
        name, block = find_block(model, slot.name)
        if block is None:
            raise NotImplementedError(
                f"Expected attention in a transformer block (got '{name}' of "
                f"'{type(model).__name__}'). Use gnnbridge.rewire on the whole "
                f'model.'
            )
        seen = Observation(model, block, slot)
        result, problem = _stand_alone(model, name, block, seen)
    if result is None:
        raise NotImplementedError(
            f"Expected block '{name}' of '{type(model).__name__}' to depend on "
            f'states [N, F], positions and graph alone (got {problem} when run '
            f'so). Use gnnbridge.rewire on the whole model.'
        )
    return result.train(model.training)


def _stand_alone(
    model: PreTrainedModel, name: str, block: nn.Module, seen: Observation
) -> tuple[ConvertedLayer | None, str]:
    """The layer, or None and what went wrong."""
    if seen.states.dim() != 3:
        return None, f'states {list(seen.states.shape)}'
    problem = ''
    for masks in (MASKLESS, UNMASKED):
        try:
            stem = Stem(
                model, name, block, seen.arguments, seen.states.size(-1),
                seen.tuple_length, masks,
            )  # fmt: skip
            result = ConvertedLayer(block, stem, heads=seen.heads)
            error = seen.error_of(result)
        except Exception as missing:  # whatever a block misses
            problem = f'{type(missing).__name__}: {missing}'
            continue
        if error <= _TOLERANCE:
            return result, ''
        problem = f'a relative error of {error:.1e}'
    return None, problem


class ConvertedLayer(GraphTransformerLayer):
    """A block of a trained model in the form of a graph transformer layer.

    Built by :func:`gnnbridge.convert_layer`.

    Attributes:
        block: The block of the model.
        conv: The message-passing layer inside it.
    """

    def __init__(self, block: nn.Module, stem: Stem, *, heads: int) -> None:
        nn.Module.__init__(self)
        self.block = copy.deepcopy(block)
        self.heads = heads
        self.channels = stem.channels
        # Kept out of the submodules: it has no weights of the layer.
        self.__dict__['_stem'] = stem
        for slot in slots_of(self.block).values():
            self.conv = slot.shared.conv

    def reset_parameters(self) -> None:
        """Trained weights are not drawn anew.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError(
            'Expected no reset of a trained block (got one). Convert a layer '
            'of a freshly initialised model instead.'
        )

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor | AttentionPlan,
        position: OptTensor = None,
        edge_weight: OptTensor = None,
        *,
        return_attention_weights: bool = False,
    ) -> Any:
        """Runs the block on a graph.

        Args:
            x: States :obj:`[N, F]` entering the block.
            edge_index: Edges :obj:`[2, E]`, key to query, or a plan. They are
                the whole truth: neither causality nor a window is added.
            position: Positions :obj:`[N]`, :obj:`0..N-1` by default. A block
                of a model whose positions enter at the embedding is the same
                at every position.
            edge_weight: Prior weight of each edge :obj:`[E]`, non-negative:
                attention is multiplied by it and normalised again.
            return_attention_weights: Also return ``(edge_index, alpha)``.

        Raises:
            ValueError: If shapes do not fit or a weight is negative.
        """
        if x.dim() != 2 or x.size(1) != self.channels:
            raise ValueError(
                f"Expected 'x' of shape [N, {self.channels}] (got "
                f'{list(x.shape)}).'
            )
        num_nodes = x.size(0)
        plan = edge_index
        if not isinstance(plan, AttentionPlan):
            plan = plan_attention(plan, (num_nodes, num_nodes))
        if position is None:
            position = torch.arange(num_nodes, device=x.device)
        shape = (1, self.heads, num_nodes, num_nodes)
        pairs = Pairs(plan, shape, bias=log_edge_weight(edge_weight))
        weights: list[Tensor] = []

        def record(call: Call, rows: Iterable[Rows]) -> None:
            weights.extend(some.alpha for some in rows)

        slots = slots_of(self.block).values()
        for slot in slots:
            slot.exact = pairs
            slot.recorder = record if return_attention_weights else None
        try:
            stem: Stem = self.__dict__['_stem']
            args, kwargs = stem.arguments(x, position)
            out = self.block(x.unsqueeze(0), *args, **kwargs)
        finally:
            for slot in slots:
                slot.exact = slot.recorder = None
        out = first_of(out).squeeze(0)
        if return_attention_weights:
            return out, (plan.edge_index, weights[0])
        return out
