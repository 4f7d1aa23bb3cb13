"""The states that leave the last block of a running model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from transformers import PreTrainedModel

from gnnbridge.models.blocks import TOKENS_FIRST, first_of
from gnnbridge.models.stack import find_blocks


@contextmanager
def outgoing_states(model: PreTrainedModel) -> Iterator[list[Tensor]]:
    """Collects what leaves the last block at each forward pass inside.

    Args:
        model: A converted model.

    Yields:
        A list to which each pass adds states ``[B, N, d]``; it stays empty
        where the blocks are no list.
    """
    found: list[Tensor] = []
    last = _last_block(model)

    def keep(module: nn.Module, args: object, output: object) -> None:
        states = first_of(output)
        if type(module).__name__ in TOKENS_FIRST:
            states = states.transpose(0, 1)
        if isinstance(states, Tensor) and states.dim() == 3:
            found.append(states.detach())

    handle = None if last is None else last.register_forward_hook(keep)
    try:
        yield found
    finally:
        if handle is not None:
            handle.remove()


def _last_block(model: PreTrainedModel) -> nn.Module | None:
    try:
        return find_blocks(model)[-1]
    except NotImplementedError:
        return None
