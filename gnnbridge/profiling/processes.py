"""Several processes that share a piece of work, as torchrun starts them."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import distributed

# A process may be far ahead of the slowest; if that one dies, torchrun ends
# all of them.
_PATIENCE = timedelta(days=7)
# Seconds between two looks.
_PAUSE = 0.05


@dataclass(frozen=True)
class Processes:
    """The group that this process belongs to.

    Attributes:
        rank: Its number.
        size: How many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this one speaks and writes for all."""
        return self.rank == 0

    def owns(self, number: int) -> bool:
        """Whether this one does a piece of work."""
        return number % self.size == self.rank

    def gather(self, value: Any) -> list[Any]:
        """The value of each process, to all of them, in their order."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        distributed.all_gather_object(found, value)
        return found


@contextmanager
def processes(device: torch.device | str = 'cpu') -> Iterator[Processes]:
    """The processes that torchrun started, or this one alone.

    A group that is there is used and left as it is; otherwise one is made,
    gloo for the CPU and nccl for GPUs, and closed at the end.

    Args:
        device: Where the model is.
    """
    if not distributed.is_available():
        yield Processes()
        return
    if distributed.is_initialized():
        yield Processes(distributed.get_rank(), distributed.get_world_size())
        return
    if not distributed.is_torchelastic_launched():
        yield Processes()
        return
    device = torch.device(device)
    on_gpu = device.type == 'cuda'
    if on_gpu:
        # Objects are gathered through the memory of the current device.
        torch.cuda.set_device(device)
    store, rank, size = next(distributed.rendezvous('env://'))
    distributed.init_process_group(
        'nccl' if on_gpu else 'gloo',
        timeout=_PATIENCE,
        store=distributed.PrefixStore(_meeting(store, rank, size), store),
        rank=rank,
        world_size=size,
    )
    try:
        yield Processes(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()


def _meeting(store: Any, rank: int, size: int) -> str:
    """A name that the processes of this start have in common.

    torchrun keeps its store when it starts processes again (torch 2.13), and
    with it the addresses of those that died: a group has to look for its
    members under a name that no earlier one had.
    """
    me = uuid.uuid4().hex
    if rank == 0:
        store.set('meeting', me)
        places = [f'{me}/{other}' for other in range(1, size)]
        store.wait(places, _PATIENCE)
        for place in places:
            store.set(f'{place}/seen', store.get(place))
        return me
    while True:
        # Until the first process of this start has come, the name is an old
        # one, under which nobody has seen this process.
        meeting = store.get('meeting').decode()
        place = f'{meeting}/{rank}'
        store.set(place, me)
        seen = f'{place}/seen'
        if store.check([seen]) and store.get(seen).decode() == me:
            return meeting
        time.sleep(_PAUSE)


def local_device(device: str) -> str:
    """The device of this process, of those of its machine.

    ``'cuda'`` is the GPU with the local number that torchrun gave.
    """
    local = os.environ.get('LOCAL_RANK')
    return f'cuda:{local}' if device == 'cuda' and local else device


def local_processes() -> int:
    """How many processes torchrun started on this machine."""
    return int(os.environ.get('LOCAL_WORLD_SIZE', '1'))
