"""What a run says, in plain data for JSON, tables and pages."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
import torch_geometric

from gnnbridge.bench.cells import Cell, Suite
from gnnbridge.bench.materials import Materials
from gnnbridge.bench.runner import Run
from gnnbridge.bench.statistics import LEVEL, holm, interval, paired
from gnnbridge.bench.trial import Trial

_TOLD = (
    'about', 'level', 'metric', 'chance', 'layers', 'higher_is_better',
    'directed',
)  # fmt: skip


def summarize(run: Run, suite: Suite, materials: Materials) -> dict[str, Any]:
    """Puts trials together by cells.

    Values are those of the test split, one for each seed. A trial that failed
    counts as a guess. A cell with rewiring is compared with the one of the
    same task and model without, over the same seeds, by a paired t-test; the
    p values of a task are adjusted together (:func:`holm`). A cell of which
    every trial failed measures nothing, and is compared with nothing.

    Args:
        run: The trials.
        suite: What was run.
        materials: Where tasks come from.

    Returns:
        ``suite``, ``version``, ``machine``, ``seeds``, ``effort``; ``tasks``
        with what they ask, their steps, how many answers are asked for, and the
        ``resolution`` of their metric (see :func:`paired`);
        ``skipped``; and ``cells`` with ``mean``, ``half_width`` (of the 95 %
        t-interval; None with one seed), ``values``, ``val_mean``,
        ``train_mean``, ``parameters``, ``trained``, ``relations``,
        ``seconds`` (mean CPU seconds of a trial), ``settings``, ``failed``
        (None, or for each seed None or why) and ``control`` (None where there
        is nothing to compare).
    """
    finals: dict[Cell, list[Trial]] = {}
    # Stable: cells stay in their order.
    for trial in sorted(run.trials, key=lambda trial: trial.job.seed):
        if trial.job.stage == 'final':
            finals.setdefault(trial.job.cell, []).append(trial)
    cells = {cell: _cell(cell, trials) for cell, trials in finals.items()}
    tasks = {
        name: _task(name, finals, suite, materials)
        for name in dict.fromkeys(cell.task for cell in finals)
    }
    for name, task in tasks.items():
        family = {c: of for c, of in finals.items() if c.task == name}
        for cell, control in _controls(family, task['resolution']).items():
            cells[cell]['control'] = control
    return {
        'suite': suite.name,
        'version': version('gnnbridge'),
        'machine': machine(materials.device),
        'seeds': list(range(suite.effort.seeds)),
        'effort': asdict(suite.effort),
        'tasks': tasks,
        'skipped': run.skipped,
        'cells': list(cells.values()),
    }


def machine(device: str) -> dict[str, Any]:
    """Where a run took place.

    Args:
        device: Where models were trained.
    """
    return {
        'processor': platform.processor() or platform.machine(),
        'cores': os.cpu_count(),
        'device': device,
        'system': platform.system(),
        'python': platform.python_version(),
        'torch': torch.__version__,
        'torch_geometric': torch_geometric.__version__,
    }


def _task(
    name: str,
    finals: dict[Cell, list[Trial]],
    suite: Suite,
    materials: Materials,
) -> dict[str, Any]:
    task = materials.task(name)
    told = {field: getattr(task, field) for field in _TOLD}
    told['steps'] = suite.effort_of(name).steps
    answers = max(
        trial.answers
        for cell, trials in finals.items()
        if cell.task == name
        for trial in trials
    )
    told['answers'] = answers
    counted = task.metric == 'accuracy' and answers > 0
    told['resolution'] = 1 / answers if counted else 0.0
    return told


def _cell(cell: Cell, trials: Sequence[Trial]) -> dict[str, Any]:
    values = _tests(trials)
    mean, half_width = interval(values)
    done = [trial for trial in trials if trial.failed is None] or trials
    reasons = [trial.failed for trial in trials]
    return {
        **asdict(cell),
        'mean': mean,
        'half_width': half_width,
        'values': values,
        'val_mean': float(np.mean([trial.val for trial in trials])),
        'train_mean': float(np.mean([trial.train for trial in trials])),
        'parameters': done[0].parameters,
        'trained': done[0].trained,
        'relations': done[0].relations,
        'seconds': round(float(np.mean([trial.seconds for trial in done])), 3),
        'settings': asdict(trials[0].job.settings),
        'failed': reasons if any(reasons) else None,
        'control': None,
    }


def _controls(
    family: dict[Cell, list[Trial]], resolution: float
) -> dict[Cell, dict[str, Any]]:
    """The differences from no rewiring of all cells of a task."""
    found = {
        cell: paired(
            _tests(trials),
            _tests(family[control]),
            resolution=resolution,
        )
        for cell, trials in family.items()
        if (control := Cell(cell.task, cell.model)) in family
        and control != cell
        and not _is_lost(trials)
        and not _is_lost(family[control])
    }
    tested = [cell for cell, one in found.items() if one.p is not None]
    p_values = [one.p for one in found.values() if one.p is not None]
    adjusted = dict(zip(tested, holm(p_values), strict=True))
    return {
        cell: {
            **one._asdict(),
            'p_adjusted': adjusted.get(cell),
            'significant': adjusted.get(cell, 1.0) < LEVEL,
        }
        for cell, one in found.items()
    }


def _tests(trials: Sequence[Trial]) -> list[float]:
    return [trial.test for trial in trials]


def _is_lost(trials: Sequence[Trial]) -> bool:
    return all(trial.failed is not None for trial in trials)
