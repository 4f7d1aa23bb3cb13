"""Blocks that are called again with what a run of the model called them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from gnnbridge.models.blocks import first_of, first_states

# Parts of composite models that see no tokens.
_NOT_TEXT = ('vision', 'visual', 'audio', 'speech', 'image')


@dataclass(frozen=True)
class Call:
    """One block, what it was called with, and what it made of it.

    Attributes:
        block: The block.
        args: Its positional arguments; the first may be the states.
        kwargs: Its keyword arguments.
        given: The states that entered ``[B, N, d]``.
        returned: The states that left.
    """

    block: nn.Module
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    given: Tensor
    returned: Tensor

    def again(self, states: Tensor) -> Tensor:
        """The block on other states, everything else as it was."""
        if 'hidden_states' in self.kwargs:
            kwargs = {**self.kwargs, 'hidden_states': states}
            return first_of(self.block(*self.args, **kwargs))
        return first_of(self.block(states, *self.args[1:], **self.kwargs))


class BlockMap:
    """States ``[N, d]`` that enter some blocks to those that leave them.

    Maps a batch ``[B, N, d]`` of states of the same tokens as well.

    Attributes:
        takes_batches: True.
    """

    takes_batches = True

    def __init__(self, model: PreTrainedModel, ids: Tensor, layers: range):
        self._model, self._ids, self._layers = model, ids, layers
        self._recorded: dict[int, list[Call]] = {}

    def calls(self, batch: int) -> list[Call]:
        """What the model does on so many copies of the sequence."""
        if batch not in self._recorded:
            # Masks and position biases have the size of the batch.
            ids = self._ids.expand(batch, -1)
            if len(self._recorded) > 2:
                self._recorded.popitem()
            self._recorded[batch] = record_calls(self._model, ids, self._layers)
        return self._recorded[batch]

    def __call__(self, states: Tensor) -> Tensor:
        """The states that leave the last of the blocks."""
        batch = states.dim() == 3
        # Some blocks add in place to what they are given.
        x = states.clone() if batch else states.unsqueeze(0).clone()
        for call in self.calls(x.size(0)):
            x = call.again(x)
        return x if batch else x.squeeze(0)


def find_blocks(model: PreTrainedModel) -> nn.ModuleList:
    """The list of blocks of a model: the longest one of those outermost.

    Raises:
        NotImplementedError: If it is an encoder-decoder or has no such list.
    """
    if model.config.is_encoder_decoder:
        raise NotImplementedError(
            f'Expected a model with one stack of blocks (got the '
            f"encoder-decoder '{type(model).__name__}')."
        )
    found: dict[str, nn.ModuleList] = {}
    for name, module in model.base_model.named_modules():
        other = any(name.startswith(f'{outer}.') for outer in found)
        other = other or any(word in name for word in _NOT_TEXT)
        if isinstance(module, nn.ModuleList) and len(module) and not other:
            found[name] = module
    layered = [
        blocks
        for blocks in found.values()
        if all(isinstance(x, GradientCheckpointingLayer) for x in blocks)
    ]
    lists = layered or list(found.values())
    if not lists:
        raise NotImplementedError(
            f'Expected a model with a list of blocks (got '
            f"'{type(model).__name__}')."
        )
    return max(lists, key=len)


def run_blocks(
    model: PreTrainedModel, ids: Tensor, attention_mask: Tensor | None = None
) -> None:
    """Runs a model on tokens ``[B, N]`` up to its last state."""
    base = model.base_model
    inputs: dict[str, Any] = {'input_ids': ids}
    mask = torch.ones_like(ids) if attention_mask is None else attention_mask
    inputs |= {'attention_mask': mask.to(ids.device), 'use_cache': False}
    accepted = inspect.signature(base.forward).parameters
    if not any(x.kind is x.VAR_KEYWORD for x in accepted.values()):
        inputs = {key: x for key, x in inputs.items() if key in accepted}
    base(**inputs)


@torch.no_grad()
def record_calls(
    model: PreTrainedModel,
    ids: Tensor,
    layers: range,
    attention_mask: Tensor | None = None,
) -> list[Call]:
    """What the blocks of a model are called with, and return."""
    blocks = find_blocks(model)
    given: list[Tensor] = []
    calls: list[Call] = []

    def enter(block: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        given.append(first_states(args, kwargs).clone())

    def leave(block: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        # The states are replaced in every call.
        kept = {**kwargs}
        if 'hidden_states' in kept:
            kept['hidden_states'] = None
        else:
            args = (None, *args[1:])
        states = first_of(output)
        calls.append(Call(block, args, kept, given[-1], states))

    handles = []
    for number in layers:
        block = blocks[number]
        handles += [
            block.register_forward_pre_hook(enter, with_kwargs=True),
            block.register_forward_hook(leave, with_kwargs=True),
        ]
    try:
        run_blocks(model, ids, attention_mask)
    finally:
        for handle in handles:
            handle.remove()
    _check_calls(model, ids, calls, [blocks[number] for number in layers])
    return calls


def _check_calls(
    model: PreTrainedModel,
    ids: Tensor,
    calls: list[Call],
    blocks: list[nn.Module],
) -> None:
    """Every block once, in order, from one state per token to another."""
    once = [call.block for call in calls] == blocks
    if once and all(
        isinstance(states, Tensor)
        and states.dim() == 3
        and states.shape == calls[0].given.shape
        and states.shape[:2] == ids.shape
        for call in calls
        for states in (call.given, call.returned)
    ):
        return
    raise NotImplementedError(
        f'Expected blocks that run once, one after the other, with one state '
        f"per token (got those of '{type(model).__name__}')."
    )
