"""What a conversion puts on the modules of a model."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from gnnbridge.models.backend import BACKEND
from gnnbridge.models.slots import (
    Shared,
    Slot,
    get_slot,
    set_frame,
    set_slot,
    slots_of,
)
from gnnbridge.models.support import Trace


def install_frames(model: nn.Module) -> list[RemovableHandle]:
    """Lets attention modules read the offsets of their KV cache."""
    return [
        module.register_forward_pre_hook(set_frame, with_kwargs=True)
        for module in slots_of(model)
    ]


def install_guards(model: nn.Module) -> list[RemovableHandle]:
    """Lets attention modules refuse to leave their graph and remedies out."""
    return [
        module.register_forward_pre_hook(_refuse_other_attention)
        for module in slots_of(model)
    ]


def install_slots(model: PreTrainedModel, trace: Trace, backend: str) -> None:
    """Gives the attention modules that a trace found their slots."""
    names = {module: name for name, module in model.named_modules()}
    shared = Shared(type(model).__name__, backend)
    for layer, (module, cross) in enumerate(trace.routed.items()):
        set_slot(module, Slot(names[module], layer, shared, cross=cross))
    own = [m for m, cross in trace.routed.items() if not cross]
    indices = [getattr(module, 'layer_idx', None) for module in own]
    numbered = all(isinstance(i, int) and i >= 0 for i in indices)
    if not numbered or len(set(indices)) < len(indices):
        # Encoders, and models that call one module for several layers, have
        # no index of their own: they are numbered in the order of calls.
        indices = list(range(len(own)))
    for module, index in zip(own, indices, strict=True):
        get_slot(module).layer = index


def install_weight_requests(model: PreTrainedModel) -> list[RemovableHandle]:
    """Notices requests for attention weights at the door of the model.

    Several architectures do not pass the request on to the attention function,
    and an answer without weights would be an empty tuple and no error.
    """
    handles = []
    for part in model.modules():
        if isinstance(part, PreTrainedModel):
            handles += [
                part.register_forward_pre_hook(
                    _request_weights, with_kwargs=True
                ),
                part.register_forward_hook(_end_request, always_call=True),
            ]
    return handles


def _refuse_other_attention(module: Any, args: tuple[Any, ...]) -> None:
    config = getattr(module, 'config', None)
    now = getattr(config, '_attn_implementation', None)
    if isinstance(now, str) and not now.startswith(BACKEND):
        raise RuntimeError(
            f'Expected the attention of a converted model to run on its graph '
            f"(got '{now}' from set_attn_implementation). Set it before the "
            f'model is converted or has remedies, or restore the model first.'
        )


def _request_weights(
    module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    shared = shared_of(module)
    wanted = kwargs.get('output_attentions')
    if wanted is None:
        wanted = getattr(module.config, 'output_attentions', False)
    if shared is not None and shared.weights_for is None and wanted:
        shared.weights_for = module


def _end_request(module: Any, args: Any, output: Any) -> None:
    shared = shared_of(module)
    if shared is not None and shared.weights_for is module:
        shared.weights_for = None


def shared_of(model: nn.Module) -> Shared | None:
    """What all slots of a model share, or None if it has none."""
    slots = (get_slot(module) for module in model.modules())
    return next((slot.shared for slot in slots if slot is not None), None)
