import functools
import multiprocessing
import threading
import time

import pytest
import torch

from gnnbridge.nn import AttentionConv, plan_attention
from gnnbridge.nn.kernels import csr_cpu, row_window_cpu, threads
from gnnbridge.nn.kernels.threads import run_parallel

NODES = 130
FUSED = ['row_window', 'csr_cpu']


@pytest.fixture(autouse=True)
def _threads(monkeypatch):
    """Threads for works of any size, as many as a test sets."""
    for kernel in (csr_cpu, row_window_cpu):
        monkeypatch.setattr(kernel, '_SMALL', 0)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


# One tensor for each window, so that its plan is built once: torch's own
# threads, which help to build it, do not survive a fork.
@functools.cache
def window_edges(window):
    i, j = torch.meshgrid(*[torch.arange(NODES)] * 2, indexing='ij')
    query, key = ((j <= i) & (i - j < window)).nonzero().t()
    return torch.stack([key, query])


def run(backend, seed=0, heads=4, kv_heads=2, window=9):
    """The output and the gradients of queries, keys and values."""
    generator = torch.Generator().manual_seed(seed)
    tensors = [
        torch.randn(NODES, h, 16, generator=generator).requires_grad_()
        for h in (heads, kv_heads, kv_heads)
    ]
    plan = plan_attention(window_edges(window), (NODES, NODES), backend=backend)
    out = AttentionConv()(*tensors, plan)
    return [out.detach(), *torch.autograd.grad(out.square().sum(), tensors)]


def equal(ours, others):
    return all(map(torch.equal, ours, others))


@pytest.mark.parametrize('count', [1, 2, 3])
def test_every_call_is_made_once(count):
    for calls in range(6):
        seen = []
        run_parallel(
            lambda *x, seen=seen: seen.append(x),
            [(n, -n) for n in range(calls)],
            count,
        )
        assert sorted(seen) == [(n, -n) for n in range(calls)]


@pytest.mark.parametrize('count', [1, 2, 3])
def test_as_many_run_at_a_time_as_there_are_threads(count):
    lock, running, most = threading.Lock(), set(), []

    def call(number):
        with lock:
            running.add(number)
            most.append(len(running))
        # Long enough for every other thread to come in.
        deadline = time.monotonic() + 10
        while max(most) < count and time.monotonic() < deadline:
            time.sleep(0.001)
        with lock:
            running.remove(number)

    run_parallel(call, [(n,) for n in range(3 * count)], count)
    assert max(most) == count


def test_one_call_alone_needs_no_other_thread():
    seen = []
    run_parallel(lambda: seen.append(threading.get_ident()), [()], 3)
    assert seen == [threading.get_ident()]


@pytest.mark.parametrize('count', [1, 2])
def test_the_first_exception_is_raised_again(count):
    def fail(number):
        if number > 1:
            raise KeyError(number)

    with pytest.raises(KeyError, match='2'):
        run_parallel(fail, [(n,) for n in range(5)], count)
    # The threads are there for the next call.
    seen = []
    run_parallel(seen.append, [(n,) for n in range(4)], count)
    assert sorted(seen) == [0, 1, 2, 3]


def test_pools_are_kept():
    run_parallel(lambda: None, [(), ()], 2)
    before = dict(threads._pools)
    run_parallel(lambda: None, [(), (), ()], 2)
    assert threads._pools == before


@pytest.mark.parametrize(('heads', 'kv_heads'), [(1, 1), (4, 1), (4, 2)])
def test_compressed_rows_do_not_depend_on_threads(heads, kv_heads):
    results = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        results.append(run('csr_cpu', heads=heads, kv_heads=kv_heads))
    assert equal(results[0], results[1])
    assert equal(results[0], results[2])


@pytest.mark.parametrize(('heads', 'kv_heads'), [(1, 1), (4, 1), (4, 4)])
def test_row_windows_hardly_depend_on_threads(heads, kv_heads):
    results = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        results.append(run('row_window', heads=heads, kv_heads=kv_heads))
    for other in results[1:]:
        assert equal(results[0][:2], other[:2])
        # With fewer key heads than threads, a key's gradients are sums of
        # several threads': some tens of terms, in another order.
        for ours, theirs in zip(results[0][2:], other[2:], strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
        assert kv_heads < 3 or equal(results[0], other)


@pytest.mark.parametrize('backend', FUSED)
def test_small_works_need_no_other_thread(backend, monkeypatch):
    torch.set_num_threads(3)
    expected = run(backend)
    pools = {}
    monkeypatch.setattr(threads, '_pools', pools)
    for kernel in (csr_cpu, row_window_cpu):
        monkeypatch.setattr(kernel, '_SMALL', 1 << 20)
    for ours, theirs in zip(run(backend), expected, strict=True):
        # Sums of some tens of terms, in another order.
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert pools == {}
    monkeypatch.setattr(row_window_cpu, '_SMALL', 1 << 10)
    monkeypatch.setattr(csr_cpu, '_SMALL', 1 << 10)
    run(backend)
    assert pools != {}


@pytest.mark.parametrize('backend', FUSED)
def test_two_threads_may_call_at_once(backend):
    torch.set_num_threads(2)
    expected = [run(backend, seed, window=4 + seed) for seed in range(3)]
    wrong = []

    def work(seed):
        for _ in range(8):
            if not equal(run(backend, seed, window=4 + seed), expected[seed]):
                wrong.append(seed)

    workers = [threading.Thread(target=work, args=(n,)) for n in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []


def _send(backend, pipe):
    pipe.send([x.numpy() for x in run(backend)])


# A child with threads is what this is about; Python 3.12 warns of any.
@pytest.mark.filterwarnings('ignore:.*multi-threaded.*:DeprecationWarning')
@pytest.mark.parametrize('backend', FUSED)
def test_a_forked_child_calls_after_its_parent_did(backend):
    if 'fork' not in multiprocessing.get_all_start_methods():
        pytest.skip('there is no fork on this system')
    torch.set_num_threads(2)
    expected = run(backend)
    assert threads._pools
    context = multiprocessing.get_context('fork')
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_send, args=(backend, theirs), daemon=True)
    child.start()
    theirs.close()
    # A child that waits for threads of its parent would never answer.
    answered = ours.poll(60)
    result = ours.recv() if answered else []
    child.kill()
    child.join()
    assert answered
    assert equal(map(torch.from_numpy, result), expected)
