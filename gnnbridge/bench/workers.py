"""Jobs in this process or in several others, whatever happens to them."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Generic, NamedTuple, TypeVar, cast

# A fork of a process with threads, as torch has them, may hang.
_CONTEXT = multiprocessing.get_context('spawn')
# How often a job is begun whose process dies.
_CHANCES = 2
# Seconds that a process has to end by itself.
_PATIENCE = 10.0
# Instead of a job.
_END = ()
_THREADS = (
    'OMP_NUM_THREADS',
    'MKL_NUM_THREADS',
    'OPENBLAS_NUM_THREADS',
    'NUMBA_NUM_THREADS',
)

Job = TypeVar('Job')
Result = TypeVar('Result')


class Died(NamedTuple):
    """What came of a job that took its process with it.

    Attributes:
        reason: One line on how.
    """

    reason: str


@contextmanager
def workers(
    count: int, work: Callable[[Job], Result]
) -> Iterator[Here[Job, Result] | Processes[Job, Result]]:
    """This process for a count of one, and so many others for more.

    Args:
        count: How many jobs are done at once.
        work: What is done with a job. For other processes it must be
            picklable, as jobs and results must be.

    Raises:
        ValueError: If the count is not positive.
    """
    if count < 1:
        raise ValueError(
            f"Expected 'count' to be at least 1 (got {count}). Give a number "
            f'of processes.'
        )
    if count == 1:
        yield Here(work)
        return
    processes = Processes(count, work)
    try:
        yield processes
    finally:
        processes.close()


class Here(Generic[Job, Result]):
    """Runs one job after the other in this process.

    Args:
        work: What is done with a job.
    """

    def __init__(self, work: Callable[[Job], Result]) -> None:
        self.work = work
        self.waiting: list[Job] = []

    @property
    def is_free(self) -> bool:
        """Whether another job can be started."""
        return not self.waiting

    @property
    def is_busy(self) -> bool:
        """Whether there is a job to wait for."""
        return bool(self.waiting)

    def start(self, job: Job) -> None:
        """Takes a job."""
        self.waiting.append(job)

    def finish(self) -> tuple[Job, Result | Died]:
        """Does the job: which it was, and what came of it."""
        job = self.waiting.pop()
        return job, self.work(job)


class _Worker(NamedTuple):
    process: BaseProcess
    connection: Connection


class Processes(Generic[Job, Result]):
    """Runs jobs in other processes, each on one thread.

    A job whose process dies, such as one that the system kills for its
    memory, is begun once more in a new one, and then given up.

    Args:
        count: How many processes.
        work: What is done with a job.
    """

    def __init__(self, count: int, work: Callable[[Job], Result]) -> None:
        self.count = count
        self.work = work
        self.idle: list[_Worker] = []
        self.busy: dict[Connection, tuple[_Worker, Job]] = {}
        self.deaths: dict[Job, int] = {}

    @property
    def is_free(self) -> bool:
        """Whether another job can be started."""
        return len(self.busy) < self.count

    @property
    def is_busy(self) -> bool:
        """Whether there is a job to wait for."""
        return bool(self.busy)

    def start(self, job: Job) -> None:
        """Gives a job to a process."""
        while True:
            worker = self.idle.pop() if self.idle else _spawn(self.work)
            try:
                worker.connection.send((job,))
            except BrokenPipeError:  # it died while it had nothing to do
                _bury(worker)
                continue
            self.busy[worker.connection] = worker, job
            return

    def finish(self) -> tuple[Job, Result | Died]:
        """Waits for a job: which it was, and what came of it."""
        while True:
            connection = cast(Connection, wait(list(self.busy))[0])
            worker, job = self.busy.pop(connection)
            try:
                result: Result = connection.recv()
            except (EOFError, ConnectionResetError):
                code = _bury(worker)
                self.deaths[job] = self.deaths.get(job, 0) + 1
                if self.deaths[job] == _CHANCES:
                    times = f'its process died {_CHANCES} times'
                    return job, Died(f'{times} ({_cause(code)})')
                self.start(job)
                continue
            self.idle.append(worker)
            return job, result

    def close(self) -> None:
        """Ends all processes, whatever they are at."""
        for worker, _ in self.busy.values():
            worker.process.kill()
        for worker in self.idle:
            # It goes by itself, and takes with it what it has of the system.
            with suppress(BrokenPipeError):
                worker.connection.send(_END)
        for worker in self.idle:
            worker.process.join(_PATIENCE)
            worker.process.kill()
        for worker in [*self.idle, *(w for w, _ in self.busy.values())]:
            _bury(worker)
        self.idle.clear()
        self.busy.clear()


def _spawn(work: Callable[[Any], Any]) -> _Worker:
    ours, theirs = _CONTEXT.Pipe()
    process = _CONTEXT.Process(target=_serve, args=(theirs, work), daemon=True)
    with _one_thread():
        process.start()
    # Held by the process alone, so that its death closes the pipe.
    theirs.close()
    return _Worker(process, ours)


def _serve(connection: Connection, work: Callable[[Any], Any]) -> None:
    # An interrupt from the keyboard reaches all processes; this one is ended
    # by the first.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        try:
            message = connection.recv()
            if message == _END:
                return
            connection.send(work(*message))
        except (EOFError, BrokenPipeError):  # the first process is gone
            return


@contextmanager
def _one_thread() -> Iterator[None]:
    """The environment of a process that is to compute on one thread."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, '1'))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _bury(worker: _Worker) -> int | None:
    worker.connection.close()
    worker.process.join()
    return worker.process.exitcode


def _cause(code: int | None) -> str:
    if code is not None and code < 0:
        return f'signal {signal.Signals(-code).name}'
    return f'exit code {code}'
