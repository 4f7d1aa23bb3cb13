"""Putting changes on attention modules, and taking them off again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from gnnbridge.models.convert import convert, is_converted, restore
from gnnbridge.models.modified.entering import enter, leave
from gnnbridge.models.modified.ledger import ledger_of
from gnnbridge.models.modified.modification import (
    NAME,
    Changes,
    Modification,
    changes_of,
)
from gnnbridge.models.modified.sites import Site, find_sites
from gnnbridge.models.support import run_once, trace_inputs


def add_changes(
    model: PreTrainedModel,
    name: str,
    make: Callable[[Site], Modification],
    layers: Sequence[int] | None = None,
) -> PreTrainedModel:
    """Changes the attention of a model, which is converted if it is not.

    The changed model is run once; if that fails, it is as it was.

    Args:
        model: A causal language model.
        name: Name of the change, a valid attribute.
        make: Makes the change of one attention module.
        layers: The layers to change, all by default.

    Raises:
        TypeError: As :func:`gnnbridge.convert`.
        ValueError: If a layer does not exist.
        NotImplementedError: If the model cannot be converted, is not causal
            or does what the change cannot be combined with.
    """
    here = not is_converted(model)
    convert(model)
    try:
        for site in find_sites(model, layers):
            change = make(site).to(device=site.device)
            _put(site.module, name, change)
        run_once(model, trace_inputs(model))
    except BaseException:
        take_changes(model, name)
        if here:
            restore(model)
        raise
    if here:
        ledger_of(model).converted = True
    return model


def take_changes(model: PreTrainedModel, name: str) -> None:
    """Takes a change off all attention modules of a model."""
    for module in list(model.modules()):
        changes = changes_of(module)
        if name in changes:
            del changes[name]
            if len(changes) == 0:
                del module._modules[NAME]
                _unhook(module)


def restore_if_unchanged(model: PreTrainedModel) -> None:
    """Restores a model that was converted for changes, once none is left."""
    ledger = ledger_of(model)
    changed = any(changes_of(module) for module in model.modules())
    if ledger.converted and not changed:
        ledger.converted = False
        if is_converted(model):
            restore(model)


def changes_named(model: nn.Module, name: str) -> dict[str, Any]:
    """The changes of one name, by the name of their attention module."""
    found = {}
    for path, module in model.named_modules():
        changes = changes_of(module)
        if name in changes:
            found[path] = changes[name]
    return found


def _put(module: nn.Module, name: str, change: Modification) -> None:
    changes = changes_of(module)
    if not changes:
        changes = Changes().train(module.training)
        module.add_module(NAME, changes)
        module.register_forward_pre_hook(enter, with_kwargs=True)
        module.register_forward_hook(leave, always_call=True)
    changes[name] = change.train(module.training)


def _unhook(module: nn.Module) -> None:
    # Handles would not survive a copy of the model; functions do.
    for hooks, flags, hook in (
        (
            module._forward_pre_hooks,
            (module._forward_pre_hooks_with_kwargs,),
            enter,
        ),
        (
            module._forward_hooks,
            (
                module._forward_hooks_with_kwargs,
                module._forward_hooks_always_called,
            ),
            leave,
        ),
    ):
        for number in [n for n, found in hooks.items() if found is hook]:
            del hooks[number]
            for flag in flags:
                flag.pop(number, None)
