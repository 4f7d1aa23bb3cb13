"""Runs a suite: every cell with the same effort, whatever comes between."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from gnnbridge.bench.cells import Cell, Job, Suite
from gnnbridge.bench.materials import Materials
from gnnbridge.bench.records import RecordFile
from gnnbridge.bench.schedule import Schedule
from gnnbridge.bench.trial import Missing, Trial, attempt, failed_trial
from gnnbridge.bench.workers import Died, workers


class Run(NamedTuple):
    """What came of a suite.

    Attributes:
        trials: Cell by cell, those of the search first.
        skipped: By the names of tasks that could not be loaded, one line on
            why.
    """

    trials: list[Trial]
    skipped: dict[str, str]


def run_suite(
    suite: Suite,
    path: Path,
    *,
    jobs: int = 1,
    materials: Materials | None = None,
    progress: bool = True,
) -> Run:
    """Runs the trials of a suite that are not in a file yet.

    Each trial is on disk as soon as it is done: a run that ends early, by
    Ctrl-C or by a kill, goes on from there, and comes to the same trials. A
    file may hold trials of other suites and settings, which stay as they are.

    Args:
        suite: The cells and their effort.
        path: The file of JSON lines. Two runs must not share it at once.
        jobs: With one, trials run in this process; with more, in as many
            others, each on one thread. There a trial whose process dies is
            run again once, and then counts as failed.
        materials: Where tasks, models and rewirings come from; the library's
            own by default.
        progress: Whether to show a bar, and what is skipped.

    Returns:
        The trials and what was skipped.

    Raises:
        ValueError: If a name or a number is wrong.
    """
    if materials is None:
        materials = Materials()
    file = RecordFile(path)
    suite, skipped = _present(suite, materials)
    for task, reason in skipped.items():
        _tell(task, reason, progress)
    schedule = Schedule(suite, materials, file.records)
    work = partial(attempt, materials=materials)
    last: Job | None = None
    with workers(jobs, work) as team, _bar(schedule, progress) as bar:
        while True:
            while team.is_free and (job := schedule.next(last)) is not None:
                bar.set_postfix_str(_label(job.cell))
                team.start(job)
                last = None  # others have other data
            if not team.is_busy:
                break
            job, outcome = team.finish()
            last = job
            if isinstance(outcome, Died):
                outcome = failed_trial(job, outcome.reason, materials)
            if isinstance(outcome, Missing):
                if job.cell.task not in skipped:
                    skipped[job.cell.task] = outcome.reason
                    _tell(job.cell.task, outcome.reason, progress)
                schedule.drop(job.cell.task)
            else:
                file.add(outcome.to_record())
                schedule.add(outcome)
            bar.total, bar.n = schedule.total, schedule.known
            bar.refresh()
    return Run(schedule.in_order(), skipped)


def _present(
    suite: Suite, materials: Materials
) -> tuple[Suite, dict[str, str]]:
    """The suite without tasks that cannot even be described."""
    skipped = {}
    for task in dict.fromkeys(cell.task for cell in suite.cells):
        try:
            materials.task(task)
        except (FileNotFoundError, ImportError) as error:
            skipped[task] = ' '.join(str(error).split())
    cells = tuple(cell for cell in suite.cells if cell.task not in skipped)
    return replace(suite, cells=cells), skipped


def _bar(schedule: Schedule, progress: bool) -> tqdm:
    return tqdm(
        total=schedule.total,
        initial=schedule.known,
        unit='trial',
        disable=not progress,
        dynamic_ncols=True,
    )


def _label(cell: Cell) -> str:
    rewired = '' if cell.rewiring == 'none' else f' + {cell.rewiring}'
    return f'{cell.task}: {cell.model}{rewired}'


def _tell(task: str, reason: str, progress: bool) -> None:
    if progress:
        tqdm.write(f"'{task}' is skipped: {reason}", file=sys.stderr)
