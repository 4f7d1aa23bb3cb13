"""Tensors as the CPU kernels see them: a flat array and its strides."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from gnnbridge.nn.kernels.emitter import lanes_of


class Strided(NamedTuple):
    """A tensor ``[nodes, heads, width]`` without a copy of it.

    Attributes:
        data: The numbers, from the first of the tensor on.
        node: Distance between neighbouring nodes.
        head: Distance between neighbouring heads.
    """

    data: np.ndarray
    node: int
    head: int


def strided(x: Tensor) -> Strided:  # x: [N, H, D], or [N, H]
    """A tensor whose rows are contiguous, as the kernels take it."""
    if x.numel() == 0:
        return Strided(np.zeros(1, dtype=NUMPY[x.dtype]), 0, 0)
    span = 1 + sum(
        (size - 1) * stride
        for size, stride in zip(x.shape, x.stride(), strict=True)
    )
    flat = x.detach().as_strided((span,), (1,), x.storage_offset())
    return Strided(flat.numpy(), x.stride(0), x.stride(1))


def whole_vectors(x: Tensor) -> Tensor:
    """The tensor in a form whose rows are contiguous and full vectors.

    Half precision becomes float32. Rows are filled up with zeros, which
    change no dot product.
    """
    if x.dtype not in NUMPY:
        x = x.float()
    missing = -x.size(-1) % lanes_of(x.element_size())
    if missing:
        return F.pad(x, (0, missing))
    return x if x.stride(-1) == 1 else x.contiguous()


NUMPY = {torch.float32: np.float32, torch.float64: np.float64}
