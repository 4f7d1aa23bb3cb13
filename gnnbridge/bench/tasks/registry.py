"""All tasks of the benchmark by their names."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gnnbridge.bench.task import Task
from gnnbridge.bench.tasks.blocks import csbm_task, sbm_cluster_task
from gnnbridge.bench.tasks.distances import (
    eccentricity_task,
    shortest_path_task,
)
from gnnbridge.bench.tasks.stored import STORED_TASKS
from gnnbridge.bench.tasks.tokens import causal_copy_task, key_value_task
from gnnbridge.bench.tasks.transfer import (
    clique_path_task,
    directed_path_task,
    lollipop_transfer_task,
    ring_transfer_task,
    tree_neighbors_task,
)

#: What makes each task. Those that are drawn take their sizes, those on data
#: sets the folder ``root`` that holds them.
TASKS: dict[str, Callable[..., Task]] = {
    'ring_transfer': ring_transfer_task,
    'lollipop_transfer': lollipop_transfer_task,
    'clique_path': clique_path_task,
    'tree_neighbors': tree_neighbors_task,
    'shortest_path': shortest_path_task,
    'eccentricity': eccentricity_task,
    'sbm_cluster': sbm_cluster_task,
    'csbm': csbm_task,
    'directed_path': directed_path_task,
    'causal_copy': causal_copy_task,
    'key_value': key_value_task,
    **STORED_TASKS,
}


def make_task(name: str, *, root: Path | None = None, **sizes: Any) -> Task:
    """Makes a task of the benchmark.

    Args:
        name: A name of :data:`TASKS`.
        root: The folder that holds the data sets; ``data`` if None. Tasks
            that are drawn need none.
        sizes: What to change of a task that is drawn, as ``size=20`` or
            ``graphs=(400, 100, 200)``.

    Raises:
        ValueError: If there is no such task, it has no such size, or a size
            is too small.
        FileNotFoundError: If a data set is not in ``root``; one line says
            what is missing and how to get it.
    """
    if name not in TASKS:
        raise ValueError(
            f'Expected a task among {", ".join(TASKS)} (got {name!r}).'
        )
    if name in STORED_TASKS:
        if sizes:
            raise ValueError(
                f"Expected no sizes for '{name}', which is a data set "
                f'(got {", ".join(sizes)}).'
            )
        return STORED_TASKS[name](root=root)
    known = list(inspect.signature(TASKS[name]).parameters)
    unknown = [size for size in sizes if size not in known]
    if unknown:
        raise ValueError(
            f"Expected the sizes of '{name}' to be among {', '.join(known)} "
            f'(got {unknown[0]!r}).'
        )
    return TASKS[name](**sizes)
