"""Remedies in the files of a model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from gnnbridge.models.modified.ledger import BUFFER, read


def saved_remedies(directory: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The settings of the remedies that were saved with a model.

    Raises:
        ValueError: If there are none.
    """
    found = saved_tensors(directory, BUFFER)
    if not found:
        raise ValueError(
            f'Expected a directory that a model with remedies was saved to '
            f"(got '{os.fspath(directory)}', whose safetensors weights have "
            f'none). Load it with from_pretrained.'
        )
    return read(next(iter(found.values())))


def saved_tensors(
    directory: str | os.PathLike[str], part: str
) -> dict[str, Tensor]:
    """The saved tensors of a model in whose name a word occurs."""
    found = {}
    path = Path(os.fspath(directory)).expanduser()
    for file in sorted(path.glob('*.safetensors')):
        with safe_open(str(file), framework='pt') as opened:
            names = opened.keys()
            for name in names:
                if part in name:
                    found[name] = opened.get_tensor(name)
    return found


@torch.no_grad()
def load_tensors(
    model: nn.Module, directory: str | os.PathLike[str], part: str
) -> None:
    """Fills the parameters and buffers in whose name a word occurs.

    Some architectures save weights under another prefix than their modules
    have: names may differ in what comes before the last common part.

    Raises:
        ValueError: If one was not saved, or has another shape.
    """
    saved = saved_tensors(directory, part)
    for name, own in model.state_dict(keep_vars=True).items():
        if part not in name:
            continue
        value = saved.get(name)
        if value is None:
            matching = [k for k in saved if _same_end(k, name)]
            value = saved[matching[0]] if len(matching) == 1 else None
        if value is None or value.shape != own.shape:
            got = 'none' if value is None else list(value.shape)
            raise ValueError(
                f"Expected a saved tensor '{name}' of shape "
                f"{list(own.shape)} in '{os.fspath(directory)}' (got {got}). "
                f'Load the model that was saved with it.'
            )
        own.copy_(value)


def _same_end(one: str, other: str) -> bool:
    return f'.{one}'.endswith(f'.{other}') or f'.{other}'.endswith(f'.{one}')
