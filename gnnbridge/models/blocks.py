"""Transformer blocks around attention, and what attention adds in them."""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

# Blocks whose states are [T, B, d].
TOKENS_FIRST = ('XLNetLayer',)


def find_block(
    model: PreTrainedModel, name: str
) -> tuple[str, nn.Module | None]:
    """The transformer block that an attention module belongs to.

    It is the nearest ancestor that transformers marks as a layer, else the
    outermost ancestor that is an item of a module list. None if there is none.
    """
    parts = name.split('.')
    above = ['.'.join(parts[:end]) for end in range(len(parts) - 1, 0, -1)]
    for candidate in above:
        block = model.get_submodule(candidate)
        if isinstance(block, GradientCheckpointingLayer):
            return candidate, block
    for candidate in reversed(above):
        parent = candidate.rpartition('.')[0]
        if isinstance(model.get_submodule(parent), nn.ModuleList):
            return candidate, model.get_submodule(candidate)
    return name, None


def first_states(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """The hidden states that a block was called with."""
    return kwargs['hidden_states'] if 'hidden_states' in kwargs else args[0]


def first_of(output: Any) -> Any:
    """What a module returns first."""
    return output[0] if isinstance(output, (tuple, list)) else output


class BlockWatch:
    """Follows the hidden states through a block during a forward pass.

    It records the states that enter the block, and the share of attention in
    the residual stream. The vector that attention adds is not always the
    attention module's output: a dense map, a norm or a dropout may follow.
    Whatever module is given exactly the vector found so far yields the next
    one; what comes after the addition gets another tensor and ends the chain.

    Attributes:
        states: Hidden states that entered the block last ``[B, T, d]``.
        mixing: :math:`||a|| / (||x|| + ||a||)` per token ``[B, T]``, with
            ``x`` the states and ``a`` what attention added to them.
    """

    def __init__(self, block: nn.Module, attention: nn.Module) -> None:
        self.states: Tensor | None = None
        self.mixing: Tensor | None = None
        self._added: Tensor | None = None
        self._thread = threading.get_ident()
        self._handles: list[RemovableHandle] = [
            block.register_forward_pre_hook(self._enter, with_kwargs=True),
            block.register_forward_hook(self._leave),
        ]
        inside = set(attention.modules()) - {attention}
        for module in block.modules():
            if module is attention:
                hook = module.register_forward_hook(self._attended)
            elif module is not block and module not in inside:
                hook = module.register_forward_hook(self._followed)
            else:
                continue
            self._handles.append(hook)

    def remove(self) -> None:
        """Takes the hooks off the block."""
        for handle in self._handles:
            handle.remove()

    def _is_elsewhere(self) -> bool:
        """Whether this is the run of another thread, which is not watched."""
        return self._thread != threading.get_ident()

    def _enter(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        if self._is_elsewhere():
            return
        self.states = first_states(args, kwargs)
        if type(module).__name__ in TOKENS_FIRST:
            self.states = self.states.transpose(0, 1)

    def _attended(self, module: nn.Module, args: Any, output: Any) -> None:
        if self._added is None and not self._is_elsewhere():
            self._added = first_of(output)

    def _followed(self, module: nn.Module, args: Any, output: Any) -> None:
        given = args[0] if args else None
        if self._added is None or given is not self._added:
            return
        if isinstance(output, Tensor) and output.shape == given.shape:
            self._added = output

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        if self.states is None or self._added is None or self._is_elsewhere():
            return
        stream = self.states.float().norm(dim=-1)
        added = self._added.float().norm(dim=-1)
        if type(module).__name__ in TOKENS_FIRST:
            added = added.transpose(0, 1)
        self._added = None
        if stream.shape != added.shape:
            # A token has several vectors, to which attention adds one.
            return
        total = stream + added
        self.mixing = added / total.where(total > 0, torch.ones_like(total))
