"""Random choices that can be repeated."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import torch

Seed: TypeAlias = int | torch.Generator
"""A number, from which every call starts afresh, or a generator, which moves
on from call to call."""


def make_generator(seed: Seed) -> torch.Generator:
    """A generator on the CPU."""
    if isinstance(seed, torch.Generator):
        return seed
    return torch.Generator().manual_seed(seed)


def make_numpy_generator(seed: Seed) -> np.random.Generator:
    """The same for NumPy."""
    if isinstance(seed, int):
        return np.random.default_rng(seed)
    drawn = torch.randint(1 << 62, (1,), generator=seed, device=seed.device)
    return np.random.default_rng(int(drawn))
