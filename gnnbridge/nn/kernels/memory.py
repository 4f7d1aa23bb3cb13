"""Memory for results and for work in progress of the CPU kernels."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gnnbridge.nn.kernels.strided import NUMPY

# Numbers on which rooms start: a vector that crosses a line of memory is read
# as two.
_ALIGNED = 64 // 4
# Bytes from which on numpy asks for huge pages.
_LARGE = 1 << 22

_local = threading.local()


def empty(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """A tensor that is about to be filled.

    Large ones are numpy's: it asks Linux for huge pages, of which a fresh
    array needs far fewer.
    """
    size = int(np.prod(shape))
    if size * dtype.itemsize < _LARGE or dtype not in NUMPY:
        return torch.empty(*shape, dtype=dtype)
    data = np.empty(size + _ALIGNED, NUMPY[dtype])
    start = -data.ctypes.data % 64 // data.itemsize
    return torch.from_numpy(data[start : start + size]).view(*shape)


def rooms(sizes: Sequence[int], dtype: torch.dtype) -> tuple[Any, ...]:
    """Arrays that a thread keeps: fresh memory is slow when first used."""
    ends = list(accumulate(-(-size // _ALIGNED) * _ALIGNED for size in sizes))
    kept = getattr(_local, 'kept', None)
    if kept is None or kept.dtype != NUMPY[dtype] or len(kept) < ends[-1]:
        kept = _local.kept = empty([ends[-1]], dtype).numpy()
    starts = (0, *ends)
    return tuple(
        kept[start : start + size]
        for start, size in zip(starts, sizes, strict=False)
    )
