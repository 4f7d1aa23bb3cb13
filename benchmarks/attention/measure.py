"""Times side by side, bounds of the machine, memory of a fresh process."""

from __future__ import annotations

import gc
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


class Clock:
    """Times functions side by side on one device."""

    def __init__(self, device: str) -> None:
        self.device = device

    def once(self, function: Callable[[], Any]) -> float:
        """Seconds of one call."""
        self.wait()
        start = time.perf_counter()
        function()
        self.wait()
        return time.perf_counter() - start

    def wait(self) -> None:
        """Lets the device finish."""
        if self.device == 'cuda':
            torch.cuda.synchronize()

    def pair(
        self,
        ours: Callable[[], Any],
        peer: Callable[[], Any],
        seconds: float = 12.0,
    ) -> dict[str, Any]:
        """Alternates two functions; medians, and the spread of their ratio."""
        first = self.once(ours), self.once(peer)
        rounds = int(min(max(seconds / sum(first), 3), 40))
        times = [(self.once(ours), self.once(peer)) for _ in range(rounds)]
        ratios = sorted(other / own for own, other in times)
        return {
            'ours_s': statistics.median(own for own, _ in times),
            'peer_s': statistics.median(other for _, other in times),
            'speedup': statistics.median(ratios),
            'speedup_min_max': [ratios[0], ratios[-1]],
            'rounds': rounds,
        }


def bounds(device: str, dtype: torch.dtype) -> dict[str, float]:
    """Rates of matrix products and of memory, measured here and now."""
    clock, size = Clock(device), 2048 if device == 'cpu' else 8192
    a = torch.randn(size, size, device=device, dtype=dtype)
    source = torch.randn(1 << 26, device=device)
    target = torch.empty_like(source)
    product = min(clock.once(lambda: a @ a) for _ in range(8))
    copy = min(clock.once(lambda: target.copy_(source)) for _ in range(8))
    return {
        'flops_per_s': 2 * size**3 / product,
        'bytes_per_s': 2 * source.numel() * 4 / copy,
    }


def bound(
    rates: dict[str, float], edges: int, nodes: int, heads: int, width: int,
    itemsize: int, backward: bool,
) -> float:  # fmt: skip
    """Seconds below which no exact kernel on this machine can be.

    Two products per edge forward, five more backward; queries, keys, values
    and outputs are moved once, and again with their gradients.
    """
    flops = 4 * edges * heads * width * (3.5 if backward else 1)
    moved = 4 * nodes * heads * width * itemsize * (3 if backward else 1)
    moved += edges * 4 * (3 if backward else 1)
    return max(flops / rates['flops_per_s'], moved / rates['bytes_per_s'])


def inputs(
    nodes: int, heads: int, width: int, device: str, dtype: torch.dtype
) -> list[Tensor]:
    """Queries, keys and values ``[N, H, D]``."""
    torch.manual_seed(0)
    return [
        torch.randn(nodes, heads, width, device=device, dtype=dtype)
        for _ in range(3)
    ]


def trained(
    function: Callable[..., Tensor], tensors: list[Tensor]
) -> Callable[[], Any]:
    """Forward and backward of a function of some tensors."""
    leaves = [x.detach().clone().requires_grad_() for x in tensors]
    grad = torch.ones_like(function(*leaves))
    return lambda: torch.autograd.grad(function(*leaves), leaves, grad)


def peak_memory(script: Path, *arguments: str) -> int:
    """Bytes that a fresh run of a script needed in `measure_growth`."""
    command = [sys.executable, str(script), *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(json.loads(done.stdout.splitlines()[-1]))


def measure_growth(function: Callable[[], Any]) -> int:
    """Bytes by which the largest size of this process grows in a call.

    The largest size is a high-water mark, so the process must be fresh and
    must have been warmed up on something small.
    """
    gc.collect()
    before = _resident()
    # The mark can be set back to the present on Linux.
    Path('/proc/self/clear_refs').write_text('5')
    function()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return max(_high_water() or peak, before) - before


def _resident() -> int:
    return _status('VmRSS') or 0


def _high_water() -> int | None:
    return _status('VmHWM')


def _status(name: str) -> int | None:
    for line in Path('/proc/self/status').read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    return None
