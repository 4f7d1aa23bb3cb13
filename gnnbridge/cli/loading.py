"""The model that a command is about."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def load(
    name: str | None, device: str, device_map: str | None = None
) -> tuple[Any, Any]:
    """The named model and its tokenizer, or those of the package.

    Args:
        name: A directory or a name on the hub.
        device: Where to put the model.
        device_map: How to spread it over several devices instead.
    """
    from gnnbridge.models.embedded import load_embedded
    from gnnbridge.models.loading import load_pretrained
    from gnnbridge.models.modified.files import saved_tensors
    from gnnbridge.models.modified.ledger import BUFFER
    from gnnbridge.remedies.registry import load as load_remedies

    check_device(device)
    if name is None:
        if device_map is not None:
            raise ValueError(
                "Expected '--device-map' with a model of several devices' size "
                '(got the embedded one). Name a model.'
            )
        model, tokenizer = load_embedded()
        return model.to(device), tokenizer
    model, tokenizer = load_pretrained(
        name, device=device, device_map=device_map, without_remedies=True
    )
    if tokenizer is None:
        raise ValueError(
            f"Expected a tokenizer with the model '{name}' (got none). Save "
            'it into the same directory.'
        )
    if Path(name).is_dir() and saved_tensors(name, BUFFER):
        # Saved with remedies, which are code and not weights alone.
        model = load_remedies(model)
    return model, tokenizer


def check_device(device: str) -> None:
    """Raises a ValueError that says so if a device is not there."""
    import torch

    try:
        torch.empty(0, device=device)
    # A build without a backend asserts, one without the device raises.
    except (AssertionError, ImportError, RuntimeError):
        raise ValueError(
            "Expected '--device' to name a device that is there "
            f"(got '{device}')."
        ) from None
