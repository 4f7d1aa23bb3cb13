"""How much memory there is, and how much a process has used."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

_CGROUP = Path('/sys/fs/cgroup')


def free_memory(device: torch.device) -> int | None:
    """Bytes that can still be taken where a model runs; ``None`` if unknown.

    On the CPU what the system calls available, or what its control group
    leaves if that is less.
    """
    if device.type == 'cuda':
        return int(torch.cuda.mem_get_info(device)[0])
    found = [
        value for value in (_available(), _left_in_group()) if value is not None
    ]
    return min(found, default=None)


def held_memory(device: torch.device) -> int | None:
    """Bytes that this process holds now; ``None`` if unknown.

    On a GPU those that torch holds there.
    """
    if device.type == 'cuda':
        return int(torch.cuda.memory_allocated(device))
    return _from_proc('self/status', 'VmRSS:')


def peak_memory(device: torch.device) -> int | None:
    """The most bytes that this process has held; ``None`` if unknown.

    On a GPU the most that torch has held there.
    """
    if device.type == 'cuda':
        return int(torch.cuda.max_memory_allocated(device))
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == 'darwin' else 1024 * peak


def in_words(size: float) -> str:
    """Bytes as people write them."""
    for unit in ('B', 'KiB', 'MiB'):
        if size < 1024:
            return f'{size:.3g} {unit}'
        size /= 1024
    return f'{size:,.1f} GiB'


def _available() -> int | None:
    return _from_proc('meminfo', 'MemAvailable:')


def _from_proc(name: str, entry: str) -> int | None:
    """A number of bytes that Linux tells."""
    try:
        lines = (Path('/proc') / name).read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith(entry):
            return 1024 * int(line.split()[1])
    return None


def _left_in_group() -> int | None:
    try:
        most = (_CGROUP / 'memory.max').read_text().strip()
        used = (_CGROUP / 'memory.current').read_text().strip()
    except OSError:
        return None
    return None if most == 'max' else max(int(most) - int(used), 0)
