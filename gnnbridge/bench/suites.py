"""Which cells are compared, and with what effort."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from gnnbridge.bench.cells import Cell, Effort
from gnnbridge.bench.cells import Suite as Suite
from gnnbridge.bench.models.registry import MODELS
from gnnbridge.bench.rewirings import REWIRINGS
from gnnbridge.bench.tasks.registry import TASKS
from gnnbridge.bench.tasks.stored import STORED_TASKS

#: Tasks that are drawn and need no files.
SYNTHETIC = tuple(name for name in TASKS if name not in STORED_TASKS)
#: Rewirings of the default suite beside 'none', the control of each. The
#: second kind of random edges is for who asks for it: an hour is full.
REWIRED = tuple(
    name for name in REWIRINGS if name not in ('none', 'random_relation')
)


def _cells(
    tasks: Iterable[str],
    models: Iterable[str] = MODELS,
    rewirings: Iterable[str] = ('none',),
) -> tuple[Cell, ...]:
    return tuple(
        Cell(task, model, rewiring)
        for task in tasks
        for rewiring in rewirings
        for model in models
    )


# Small batches: within the same time, many steps teach more than few on all
# graphs at once.
_BATCH = 256
#: ``quick`` shows that everything runs, within minutes; its figures say
#: little. ``default`` takes no files. ``full`` rewires every task, and takes
#: the stored ones that are there.
SUITES: Mapping[str, Suite] = {
    'quick': Suite(
        'quick',
        _cells(('ring_transfer', 'csbm', 'key_value'))
        + _cells(
            ('ring_transfer',), ('gcn', 'gatv2'), ('fosr', 'virtual_node')
        ),
        Effort(steps=80, draws=1, seeds=2, evaluations=4, batch_nodes=_BATCH),
    ),
    'default': Suite(
        'default',
        _cells(SYNTHETIC)
        + _cells(('ring_transfer', 'csbm'), rewirings=REWIRED),
        Effort(steps=200, draws=2, seeds=5, evaluations=8, batch_nodes=_BATCH),
        # Rewired by every method: what is learned here is learned by then. The
        # directed ones take longer.
        steps={
            'ring_transfer': 100,
            'csbm': 40,
            'directed_path': 300,
            'causal_copy': 300,
        },
    ),
    'full': Suite(
        'full',
        _cells(TASKS, rewirings=REWIRINGS),
        Effort(steps=300, draws=3, seeds=5, batch_nodes=_BATCH),
    ),
}


def select(
    suite: Suite,
    *,
    tasks: Sequence[str] | None = None,
    models: Sequence[str] | None = None,
    rewirings: Sequence[str] | None = None,
) -> Suite:
    """The cells of a suite that are asked for, and those that are not in it.

    Rewirings that are named are run with every model on every task, and the
    control without rewiring with them. If none are named, tasks keep those
    that the suite has for them; tasks that are not in the suite are run
    without.

    Args:
        suite: The suite.
        tasks: Names of tasks; those of the suite by default.
        models: Names of models; those of the suite by default.
        rewirings: Names of rewirings.

    Raises:
        ValueError: If a name is unknown, or no cell is left.
    """
    tasks = _named('task', tasks, TASKS, [c.task for c in suite.cells])
    models = _named('model', models, MODELS, [c.model for c in suite.cells])
    if rewirings is not None:
        rewirings = _named('rewiring', rewirings, REWIRINGS, [])
        cells = _cells(tasks, models, dict.fromkeys(['none', *rewirings]))
        return replace(suite, cells=cells)
    own = [c for c in suite.cells if c.task in tasks and c.model in models]
    cells = tuple(dict.fromkeys([*_cells(tasks, models), *own]))
    return replace(suite, cells=cells)


def with_effort(suite: Suite, **changes: Any) -> Suite:
    """The suite with another effort.

    Args:
        suite: The suite.
        changes: Fields of :class:`Effort`, as ``steps=200``; those that are
            None stay. Steps hold for every task.

    Raises:
        ValueError: If a number is out of range.
    """
    given = {
        name: value for name, value in changes.items() if value is not None
    }
    steps = {} if 'steps' in given else suite.steps
    return replace(suite, effort=replace(suite.effort, **given), steps=steps)


def _named(
    what: str,
    names: Sequence[str] | None,
    known: Iterable[str],
    default: Iterable[str],
) -> list[str]:
    if names is None:
        return list(dict.fromkeys(default))
    known = list(known)
    for name in names:
        if name not in known:
            raise ValueError(
                f'Expected a {what} to be one of {", ".join(known)} (got '
                f"'{name}'). Choose one of these."
            )
    return list(dict.fromkeys(names))
