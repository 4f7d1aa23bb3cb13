"""A trial: one model, trained once on one task with one rewiring."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from typing import Any, NamedTuple

import torch

from gnnbridge.bench.cells import Cell as Cell
from gnnbridge.bench.cells import Effort as Effort
from gnnbridge.bench.cells import Job as Job
from gnnbridge.bench.cells import Settings as Settings
from gnnbridge.bench.materials import Materials
from gnnbridge.bench.training import Schedule, fit

# To look it up takes longer than all the rest of a key.
_VERSION = version('gnnbridge')
# Characters of a key; enough for some billions of trials.
_KEY = 20


class Missing(NamedTuple):
    """What came of a job whose task could not be loaded.

    Attributes:
        reason: One line on what is missing, and how to get it.
    """

    reason: str


@dataclass(frozen=True)
class Trial:
    """What a trial came to; values are by the metric of the task.

    Attributes:
        job: What was run.
        key: A hash of everything that decides the result.
        val: The best on the validation split.
        test: On the test split at that step.
        train: On the training split at that step.
        best_step: After how many steps that was.
        steps: How many steps there were: fewer than allowed if nothing better
            could come.
        seconds: CPU seconds of this process for building, training and
            evaluating; loading and rewiring, which trials share, aside.
        parameters: Of the model, frozen ones included.
        trained: Of these, those that are trained.
        relations: Kinds of edges that the model tells apart.
        answers: How many answers the test split asks for.
        failed: Why there is no result. The values are then what guessing
            reaches, and the counts zero.
    """

    job: Job
    key: str
    val: float
    test: float
    train: float
    best_step: int = 0
    steps: int = 0
    seconds: float = 0.0
    parameters: int = 0
    trained: int = 0
    relations: int = 1
    answers: int = 0
    failed: str | None = None

    def to_record(self) -> dict[str, Any]:
        """The trial as one flat dictionary for JSON."""
        job = self.job
        own = {f.name: getattr(self, f.name) for f in fields(self)}
        del own['job'], own['key']
        return {
            'key': self.key,
            **asdict(job.cell),
            'stage': job.stage,
            'seed': job.seed,
            'settings': asdict(job.settings),
            'effort': asdict(job.effort),
            **own,
        }


def of_record(job: Job, record: dict[str, Any]) -> Trial:
    """The trial that :meth:`Trial.to_record` was of.

    Args:
        job: What was run; a record with its key is of it.
        record: The record.
    """
    names = [f.name for f in fields(Trial) if f.name != 'job']
    return Trial(job=job, **{name: record[name] for name in names})


def run_trial(
    cell: Cell,
    settings: Settings,
    seed: int,
    effort: Effort,
    *,
    materials: Materials | None = None,
) -> Trial:
    """Trains one model and measures it, as :func:`run_job` does.

    Args:
        cell: What is trained on what.
        settings: With which settings.
        seed: Of the data, the weights and the order.
        effort: For how long.
        materials: Where tasks, models and rewirings come from; the library's
            own by default.
    """
    job = Job(cell, settings, seed, effort, 'final')
    return run_job(job, Materials() if materials is None else materials)


def run_job(job: Job, materials: Materials) -> Trial:
    """Trains one model and measures it.

    The same job gives the same trial, ``seconds`` aside: it runs on one
    thread, with a random state of its own.

    Args:
        job: What to run.
        materials: Where tasks, models and rewirings come from. To be kept for
            trials that share data.

    Returns:
        The trial; a failed one if anything went wrong after loading: a
        training that diverged, a rewiring that does not suit the task.

    Raises:
        FileNotFoundError: If a stored task is not on this machine.
        ImportError: If a package is missing that a stored task needs.
        ValueError: If there is no task of that name.
    """
    materials.splits(job.cell.task, job.seed)
    try:
        with _alone(job.seed, materials.device):
            return _run(job, materials)
    except Exception as error:
        # One cell that cannot run must not end all others.
        return failed_trial(job, error_line(error), materials)


def attempt(job: Job, materials: Materials) -> Trial | Missing:
    """Runs a job, or says why its task is missing.

    Args:
        job: What to run.
        materials: Where tasks, models and rewirings come from.
    """
    try:
        return run_job(job, materials)
    except (FileNotFoundError, ImportError) as error:
        return Missing(' '.join(str(error).split()))
    except Exception as error:  # the data is there, but cannot be read
        return Missing(error_line(error))


def failed_trial(job: Job, reason: str, materials: Materials) -> Trial:
    """The record of a trial that came to nothing.

    Args:
        job: What was run.
        reason: One line on why.
        materials: Where tasks come from.
    """
    guess = materials.guess(job.cell.task, job.seed)
    key = trial_key(job, materials)
    return Trial(job, key, val=guess, test=guess, train=guess, failed=reason)


def trial_key(job: Job, materials: Materials) -> str:
    """A hash of everything that decides what a trial comes to.

    How many draws and seeds there are decides which trials are run, but none
    of them.

    Args:
        job: What is run.
        materials: Where tasks come from.
    """
    decides = asdict(job)
    del decides['effort']['draws'], decides['effort']['seeds']
    decides['task'] = materials.describe(job.cell.task)
    decides['device'] = materials.device
    decides['version'] = _VERSION
    text = json.dumps(decides, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_KEY]


def _run(job: Job, materials: Materials) -> Trial:
    cell, settings, effort = job.cell, job.settings, job.effort
    task = materials.task(cell.task)
    batches, relations = materials.batches(
        (cell.task, job.seed),
        (cell.rewiring, settings.strength),
        nodes=effort.batch_nodes,
    )
    if not materials.parts.is_relational(cell.model):
        relations = 1  # all edges alike
    start = time.process_time()
    model = materials.parts.build_model(
        cell.model,
        task,
        budget=effort.budget,
        relations=relations,
        dropout=settings.dropout,
        seed=job.seed,
    ).to(materials.device)
    schedule = Schedule(
        effort.steps, effort.evaluations, settings.learning_rate, job.seed
    )
    fitted = fit(model, batches, task, schedule)
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return Trial(
        job,
        trial_key(job, materials),
        **fitted._asdict(),
        seconds=round(time.process_time() - start, 3),
        parameters=sum(size for size, _ in sizes),
        trained=sum(size for size, is_trained in sizes if is_trained),
        relations=relations,
        answers=sum(len(batch.y) for batch in batches.test),
    )


@contextmanager
def _alone(seed: int, device: str) -> Iterator[None]:
    """One thread, and a random state that leaves the caller's as it was."""
    threads = torch.get_num_threads()
    devices = [] if device == 'cpu' else [torch.device(device)]
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def error_line(error: Exception) -> str:
    """An error in one line.

    Args:
        error: The error.
    """
    lines = str(error).strip().splitlines()
    return ': '.join([type(error).__name__, *lines[:1]])
