"""The attention modules that can be changed, measured by one run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from gnnbridge.models.convert import conversion_mode
from gnnbridge.models.pairs import allows
from gnnbridge.models.slots import Call, get_slot, self_attention_slots
from gnnbridge.models.support import run_once, trace_inputs


@dataclass(frozen=True)
class Site:
    """One attention module and the sizes that it works with.

    Attributes:
        module: The module.
        name: Its name within the model.
        layer: Number of its layer.
        heads: Number of heads of its queries.
        width: Width of its values.
        hidden: Width of the states that it is given.
        device: Where it computes.
        dtype: What it computes in.
    """

    module: nn.Module
    name: str
    layer: int
    heads: int
    width: int
    hidden: int
    device: torch.device
    dtype: torch.dtype


def find_sites(
    model: PreTrainedModel, layers: Sequence[int] | None = None
) -> list[Site]:
    """The self-attention modules of a converted model, in order.

    Args:
        model: A causal language model, converted to messages.
        layers: The layers to choose, all by default.

    Raises:
        ValueError: If a layer does not exist.
        NotImplementedError: If the model runs its own dense attention, or is
            not causal.
    """
    if conversion_mode(model) != 'messages':
        raise NotImplementedError(
            f"Expected a model converted with mode 'messages' (got mode "
            f"'{conversion_mode(model)}'). Only attention that runs as "
            f'message passing can be changed.'
        )
    slots = self_attention_slots(model, layers)
    widths: dict[nn.Module, int] = {}
    calls: dict[nn.Module, Call] = {}

    def note(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        states: Any = kwargs.get('hidden_states', args[0] if args else None)
        widths[module] = states.size(-1)

    handles = []
    for module, slot in slots.items():
        slot.observer = _noting(calls, module)
        handles.append(module.register_forward_pre_hook(note, with_kwargs=True))
    try:
        run_once(model, trace_inputs(model))
    finally:
        for slot in slots.values():
            slot.observer = None
        for handle in handles:
            handle.remove()
    return [_site(m, calls[m], widths[m]) for m in slots]


def _noting(calls: dict[nn.Module, Call], module: nn.Module) -> Any:
    def observe(call: Call) -> None:
        calls[module] = call

    return observe


def _site(module: nn.Module, call: Call, hidden: int) -> Site:
    slot, vectors = get_slot(module), call.vectors
    assert vectors is not None  # messages have them
    zero = torch.zeros(1, dtype=torch.long, device=vectors.query.device)
    if bool(allows(call.own, zero, zero, zero + call.shape[3] - 1)):
        raise NotImplementedError(
            f'Expected a causal language model (got one whose layer '
            f"{slot.layer}, '{slot.name}', sees later tokens)."
        )
    return Site(
        module, slot.name, slot.layer, call.shape[1], vectors.value.size(-1),
        hidden, vectors.query.device, vectors.query.dtype,
    )  # fmt: skip
