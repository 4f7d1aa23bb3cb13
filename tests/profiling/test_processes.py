import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import distributed

from gnnbridge.profiling.processes import (
    Processes,
    _meeting,
    local_device,
    local_processes,
    processes,
)


def test_without_torchrun_there_is_one_process() -> None:
    with processes() as group:
        assert (group.rank, group.size, group.is_first) == (0, 1, True)
        assert group.gather('x') == ['x']
        assert group.owns(7)
    assert not distributed.is_initialized()


@pytest.mark.parametrize('size', [1, 2, 3, 7])
def test_every_piece_of_work_has_one_owner(size: int) -> None:
    for number in range(20):
        owners = [r for r in range(size) if Processes(r, size).owns(number)]
        assert len(owners) == 1


def test_a_group_that_is_there_is_used_and_left() -> None:
    store = distributed.HashStore()
    distributed.init_process_group('gloo', store=store, rank=0, world_size=1)
    try:
        with processes(torch.device('cpu')) as group:
            assert (group.rank, group.size) == (0, 1)
        assert distributed.is_initialized()
    finally:
        distributed.destroy_process_group()


def test_processes_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv('LOCAL_WORLD_SIZE', raising=False)
    assert local_processes() == 1
    monkeypatch.setenv('LOCAL_WORLD_SIZE', '4')
    assert local_processes() == 4


def test_each_process_has_its_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv('LOCAL_RANK', raising=False)
    assert local_device('cuda') == 'cuda'
    monkeypatch.setenv('LOCAL_RANK', '3')
    assert local_device('cuda') == 'cuda:3'
    assert local_device('cuda:0') == 'cuda:0'
    assert local_device('cpu') == 'cpu'


def test_processes_that_start_again_meet_under_a_new_name() -> None:
    # Those of an earlier start have died; the store has all that they wrote.
    store = distributed.HashStore()
    names = []
    for _ in range(2):
        with ThreadPoolExecutor(3) as pool:
            # The first comes last: the others find the old name.
            late = [pool.submit(_meeting, store, rank, 3) for rank in (2, 1)]
            time.sleep(0.2)
            first = pool.submit(_meeting, store, 0, 3)
            found = {job.result(timeout=30) for job in (*late, first)}
        assert len(found) == 1
        names += found
    assert names[0] != names[1]
