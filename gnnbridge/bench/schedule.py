"""The trials of a suite in an order in which each finds what it needs."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from typing import Any, TypeAlias

from gnnbridge.bench.cells import Cell, Job, Suite
from gnnbridge.bench.materials import Materials
from gnnbridge.bench.search import choose, draw, final_jobs, search_jobs
from gnnbridge.bench.trial import Trial, of_record, trial_key

# Task and rewiring, then stage, draw or seed, and model.
_Place: TypeAlias = tuple[int, int, int, int]
# What trials on the same data have in common.
_Shared: TypeAlias = tuple[str, str, float, int]


class Schedule:
    """What is to be run, what is known, and what can be run next.

    The search of a cell comes first; when all of it is known, the trials that
    are reported follow. Trials on the same data are neighbours.

    Args:
        suite: The cells.
        materials: Where tasks come from.
        records: What is known already, by keys.
    """

    def __init__(
        self,
        suite: Suite,
        materials: Materials,
        records: Mapping[str, dict[str, Any]],
    ) -> None:
        self.suite = suite
        self.materials = materials
        self.records = records
        self.trials: dict[Job, Trial] = {}
        self.dropped: set[str] = set()
        self._ready: dict[_Shared, list[tuple[_Place, Job]]] = {}
        self._running: set[Job] = set()
        self._searches: dict[Cell, list[Job]] = {}
        self._finals: dict[Cell, list[Job]] = {}
        pairs = dict.fromkeys((c.task, c.rewiring) for c in suite.cells)
        self._group = {pair: place for place, pair in enumerate(pairs)}
        self._number = {cell: n for n, cell in enumerate(suite.cells)}
        for cell in suite.cells:
            effort = suite.effort_of(cell.task)
            strengths = materials.parts.strengths(cell.rewiring)
            found = search_jobs(cell, effort, strengths)
            self._searches[cell] = found
            self._offer(cell, found)
            if not found:
                self._choose(cell)

    @property
    def total(self) -> int:
        """The number of trials, known or not."""
        return sum(
            effort.seeds + (effort.draws if effort.draws > 1 else 0)
            for cell in self.suite.cells
            if cell.task not in self.dropped
            for effort in [self.suite.effort_of(cell.task)]
        )

    @property
    def known(self) -> int:
        """How many of them are known."""
        return len(self.in_order())

    def next(self, near: Job | None = None) -> Job | None:
        """The next job; None if there is none as long as others run.

        Rewiring can take longer than training. So of several processes each
        is given trials on data that it has, or else on data that none has.

        Args:
            near: The last job of the process that asks.
        """
        chosen = None if near is None else _shared(near)
        if chosen not in self._ready:
            held = {_shared(job) for job in self._running}
            free = [data for data in self._ready if data not in held]
            chosen = min(
                free or self._ready,
                key=lambda data: self._ready[data][0],
                default=None,
            )
        if chosen is None:
            return None
        _, job = heapq.heappop(self._ready[chosen])
        if not self._ready[chosen]:
            del self._ready[chosen]
        self._running.add(job)
        return job

    def add(self, trial: Trial) -> None:
        """Takes in what came of a job.

        Args:
            trial: The trial.
        """
        job = trial.job
        self._running.discard(job)
        self.trials[job] = trial
        searches = self._searches[job.cell]
        is_last = all(one in self.trials for one in searches)
        if job.stage == 'search' and is_last:
            self._choose(job.cell)

    def drop(self, task: str) -> None:
        """Leaves out all trials of a task.

        Args:
            task: Its name.
        """
        self.dropped.add(task)
        for data in [data for data in self._ready if data[0] == task]:
            del self._ready[data]

    def in_order(self) -> list[Trial]:
        """All trials that are known, cell by cell, searches first."""
        return [
            self.trials[job]
            for cell in self.suite.cells
            if cell.task not in self.dropped
            for job in [*self._searches[cell], *self._finals.get(cell, [])]
            if job in self.trials
        ]

    def _choose(self, cell: Cell) -> None:
        task = self.materials.task(cell.task)
        settings = choose(
            [self.trials[job] for job in self._searches[cell]],
            higher_is_better=task.higher_is_better,
        )
        if settings is None:
            strengths = self.materials.parts.strengths(cell.rewiring)
            settings = draw(0, strengths)
        effort = self.suite.effort_of(cell.task)
        self._finals[cell] = final_jobs(cell, settings, effort)
        self._offer(cell, self._finals[cell])

    def _offer(self, cell: Cell, jobs: list[Job]) -> None:
        """Makes jobs ready, or takes from the records what came of them."""
        if cell.task in self.dropped:
            return
        group = self._group[cell.task, cell.rewiring]
        for number, job in enumerate(jobs):
            record = self.records.get(trial_key(job, self.materials))
            if record is not None:
                self.add(of_record(job, record))
                continue
            stage = int(job.stage == 'final')
            place = (group, stage, number, self._number[cell])
            heap = self._ready.setdefault(_shared(job), [])
            heapq.heappush(heap, (place, job))


def _shared(job: Job) -> _Shared:
    cell = job.cell
    return cell.task, cell.rewiring, job.settings.strength, job.seed
