"""What a changed attention module was called with, noted at its door."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import Cache

from gnnbridge.models.modified.modification import changes_of
from gnnbridge.models.slots import get_slot
from gnnbridge.models.tokens.module import this_thread


def enter(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """Forward pre-hook: notes the states and the cache of a call.

    Raises:
        RuntimeError: If the model was restored: its changes would be ignored.
    """
    changes = changes_of(module)
    if not changes:
        return
    slot = get_slot(module)
    if slot is None:
        raise RuntimeError(
            f'Expected a converted model, whose attention runs the remedies '
            f'{list(changes)} (got one that was restored). Take them away '
            f'with their remove(model); it restores the model as well.'
        )
    given = (*kwargs.values(), *args)
    cache = next((x for x in given if isinstance(x, Cache)), None)
    cache = getattr(cache, 'self_attention_cache', cache)
    states = kwargs.get('hidden_states', args[0] if args else None)
    changes.entered[this_thread()] = states, cache, slot.frame


def leave(module: nn.Module, args: Any, output: Any) -> None:
    """Forward hook: forgets the call."""
    changes = changes_of(module)
    if changes:
        changes.entered.pop(this_thread(), None)
