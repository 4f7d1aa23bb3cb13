"""Which remedies a model has, what they froze, and how files know of them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

# A buffer of the model, by which files know of its remedies.
BUFFER = 'gnnbridge_remedies_json'
_ATTRIBUTE = '_gnnbridge_ledger'


@dataclass
class Ledger:
    """What was done to a model.

    Attributes:
        entries: Its remedies by name, in the order in which they came, each
            with what it needs to be undone.
        frozen: Names of the parameters that were frozen for them.
        converted: Whether the model was converted for them.
    """

    entries: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    frozen: list[str] = field(default_factory=list)
    converted: bool = False


def ledger_of(model: nn.Module) -> Ledger:
    """The ledger of a model, an empty one at first."""
    ledger: Ledger = model.__dict__.setdefault(_ATTRIBUTE, Ledger())
    return ledger


def write(model: nn.Module, settings: list[dict[str, Any]]) -> None:
    """Lets the files of a model say which remedies it has."""
    model._buffers.pop(BUFFER, None)
    if settings:
        text = json.dumps(settings, sort_keys=True).encode()
        saved = torch.tensor(list(text), dtype=torch.uint8)
        device = next(model.parameters()).device
        # Where weights are elsewhere, theirs would forget it.
        device = torch.device('cpu') if device.type == 'meta' else device
        model.register_buffer(BUFFER, saved.to(device))


def read(saved: Tensor) -> list[dict[str, Any]]:
    """The inverse of :func:`write`, from the buffer."""
    found: list[dict[str, Any]] = json.loads(bytes(saved.tolist()).decode())
    return found


def freeze(model: nn.Module, added: Iterable[str]) -> None:
    """Freezes all parameters of a model but some; notes which."""
    kept, ledger = set(added), ledger_of(model)
    for name, parameter in model.named_parameters():
        if name not in kept and parameter.requires_grad:
            parameter.requires_grad_(False)
            ledger.frozen.append(name)


def thaw(model: nn.Module) -> None:
    """Lets all parameters train that were frozen."""
    ledger = ledger_of(model)
    names, ledger.frozen = set(ledger.frozen), []
    for name, parameter in model.named_parameters():
        if name in names:
            parameter.requires_grad_(True)
