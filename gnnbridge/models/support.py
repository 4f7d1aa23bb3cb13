"""Which modules of a model are attention, found by running it once."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from gnnbridge.models.slots import (
    Call,
    Shared,
    Slot,
    get_slot,
    remove_slot,
    set_slot,
)
from gnnbridge.models.tokens.module import needed_length

# Attention modules with these words in their class name mix tokens by other
# means; hybrid models have them beside the softmax attention that we run.
_OTHER_MIXERS = (
    'Linear', 'Lightning', 'Delta', 'Mamba', 'Recurrent', 'Rwkv',
    # Over the outputs of layers, not over tokens.
    'AttentionResidual',
)  # fmt: skip
# A keyword with another sequence's states makes a call cross-attention.
_CROSS_KEYWORDS = ('key_value_states', 'encoder_hidden_states')


@dataclass
class Trace:
    """What one forward pass showed.

    Attributes:
        routed: Attention modules that reached the backend, in call order,
            each with whether it was cross-attention.
        executed: Every module that ran.
        output: The model's first output.
    """

    routed: dict[nn.Module, bool] = field(default_factory=dict)
    executed: dict[nn.Module, None] = field(default_factory=dict)
    output: Tensor | None = None


def trace_inputs(model: PreTrainedModel) -> dict[str, Tensor]:
    """A tiny input that reaches the attention of a model.

    Raises:
        NotImplementedError: If the model takes neither tokens nor pixels.
    """
    device = model.device if model.device.type != 'meta' else 'cpu'
    config = model.config
    if model.main_input_name == 'pixel_values':
        size = config.image_size
        height, width = size if isinstance(size, (list, tuple)) else [size] * 2
        pixels = torch.linspace(-1, 1, height * width, device=device)
        pixels = pixels.to(model.dtype).view(1, 1, height, width)
        return {'pixel_values': pixels.repeat(1, config.num_channels, 1, 1)}
    if model.main_input_name != 'input_ids':
        raise NotImplementedError(
            f'Expected a model of tokens or pixels (got '
            f"'{type(model).__name__}', which takes '{model.main_input_name}')."
            f" Pass its inputs as 'example_inputs'."
        )
    length = max(8, needed_length(model))
    tokens = (torch.arange(length, device=device) * 7 + 3).unsqueeze(0)
    # A model of characters has no vocabulary.
    text = config.get_text_config(decoder=True)
    tokens = tokens % getattr(text, 'vocab_size', 64)
    inputs = {'input_ids': tokens, 'attention_mask': torch.ones_like(tokens)}
    accepted = inspect.signature(model.forward).parameters
    if config.is_encoder_decoder and 'decoder_input_ids' in accepted:
        inputs['decoder_input_ids'] = tokens[:, :5]
    return inputs


def run_once(model: PreTrainedModel, inputs: dict[str, Tensor]) -> Tensor:
    """First output of a model in evaluation mode, without gradients."""
    with evaluation_mode(model), torch.no_grad():
        return model(**inputs, return_dict=False)[0]


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Switches training off, and back on where it was on."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def trace_attention(
    model: PreTrainedModel, inputs: dict[str, Tensor], backend: str
) -> Trace:
    """Runs a model that is set to the backend and notes which modules reach it.

    A flag in the model's class cannot be trusted for this: some that deny
    support have it, and some that claim it never call the backend.
    """
    trace, shared, handles = Trace(), Shared(type(model).__name__, backend), []
    crossing: dict[nn.Module, bool] = {}
    outer = {module: get_slot(module) for module in model.modules()}

    def entered(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        trace.executed[module] = None
        crossing[module] = is_cross_attention(kwargs)

    for name, module in model.named_modules():

        def routed(call: Call, module: Any = module) -> None:
            # Without a cache, other keys than queries are other nodes.
            cross = crossing[module] or call.shape[2] != call.shape[3]
            trace.routed.setdefault(module, cross)

        set_slot(module, Slot(name, -1, shared, observer=routed))
        handles.append(
            module.register_forward_pre_hook(entered, with_kwargs=True)
        )
    try:
        trace.output = run_once(model, inputs)
    finally:
        for handle in handles:
            handle.remove()
        for module, slot in outer.items():
            remove_slot(module)
            if slot is not None:
                set_slot(module, slot)
    return trace


def is_cross_attention(kwargs: dict[str, Any]) -> bool:
    """Whether an attention module was given the states of another sequence."""
    return any(kwargs.get(name) is not None for name in _CROSS_KEYWORDS)


def refuse_unrouted(
    model: PreTrainedModel, trace: Trace, what: str, advice: str
) -> None:
    """Refuses a model whose attention was not found, or not wholly.

    Args:
        model: The model.
        trace: What its run showed.
        what: What attention was looked for by.
        advice: What else can be done.

    Raises:
        NotImplementedError: Naming the modules that keep their own attention.
    """
    architecture = type(model).__name__
    names = {module: name for name, module in model.named_modules()}
    routed = [names[module] for module in trace.routed]
    unrouted = [
        names[module]
        for module in trace.executed
        if 'Attention' in type(module).__name__
        and not any(word in type(module).__name__ for word in _OTHER_MIXERS)
        and not any(_nested(names[module], name) for name in routed)
    ]
    if not trace.routed and not unrouted:
        raise NotImplementedError(
            f"Expected a model with attention (got '{architecture}', in which "
            f'no attention runs). {advice}'
        )
    if unrouted:
        raise NotImplementedError(
            f"Expected all attention of '{architecture}' to use {what} (got "
            f'{len(unrouted)} modules that do not, the first '
            f"'{unrouted[0]}'). {advice}"
        )


def _nested(one: str, other: str) -> bool:
    """Whether one of two module names lies within the other."""
    return f'{one}.'.startswith(f'{other}.') or f'{other}.'.startswith(
        f'{one}.'
    )
