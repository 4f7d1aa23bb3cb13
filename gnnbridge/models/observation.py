"""One block of a model, watched while the model runs once."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from gnnbridge.models.blocks import first_of, first_states
from gnnbridge.models.slots import Call, Slot
from gnnbridge.models.stem import Arguments
from gnnbridge.models.support import run_once, trace_inputs


class Observation:
    """What one run of a model shows of a block, or of an attention module.

    Attributes:
        states: What it was given ``[1, T, d]``.
        arguments: Its other arguments.
        output: What it returned first.
        tuple_length: How much it returned, 0 if that was no tuple.
        edge_index: The graph of its layer.
        heads: Heads of its layer.
        scale: Factor of its scores.
    """

    def __init__(
        self, model: PreTrainedModel, block: nn.Module, slot: Slot
    ) -> None:
        self.states = self.output = torch.empty(0)
        self.arguments: Arguments = ((), {})
        self.tuple_length = 0
        self.heads, self.scale = 0, 1.0
        self.edge_index = torch.empty(0)

        def enter(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
            self.states = first_states(args, kwargs)
            rest = {k: v for k, v in kwargs.items() if k != 'hidden_states'}
            self.arguments = args[1:], rest

        def leave(module: Any, args: Any, output: Any) -> None:
            several = isinstance(output, (tuple, list))
            self.tuple_length = len(output) if several else 0
            self.output = first_of(output)

        def observe(call: Call) -> None:
            self.edge_index = call.own.plan.edge_index
            self.heads, self.scale = call.shape[1], call.scale

        handles = [
            block.register_forward_pre_hook(enter, with_kwargs=True),
            block.register_forward_hook(leave),
        ]
        slot.observer = observe
        try:
            run_once(model, trace_inputs(model))
        finally:
            slot.observer = None
            for handle in handles:
                handle.remove()

    def error_of(self, layer: nn.Module) -> float:
        """Relative error of a layer on the states that the block was given."""
        with torch.no_grad():
            out = layer.eval()(self.states[0], self.edge_index)
        scale = self.output.abs().max().clamp_min(1e-12)
        return float((out - self.output[0]).abs().max() / scale)
