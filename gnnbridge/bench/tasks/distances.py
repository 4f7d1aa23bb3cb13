"""Tasks on distances in random connected graphs."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Literal

from gnnbridge.bench.task import Task
from gnnbridge.bench.tasks.draws import (
    Counts,
    commonest_share,
    drawn,
    median_error,
)
from gnnbridge.datasets.graphs.distances import eccentricities, shortest_paths

_PAPERS = 'Corso et al. 2020, Miglior et al. 2025'


def shortest_path_task(
    *,
    size: int = 24,
    max_distance: int = 8,
    extra_edges: int = 2,
    graphs: Counts = (100, 100, 200),
) -> Task:
    """The distance of each node from a marked one.

    Args:
        size: The number of nodes.
        max_distance: The class that stands for all larger distances too.
        extra_edges: The number of edges beyond those of a tree.
        graphs: How many to train on, to choose by, and to report.
    """
    draw = partial(
        shortest_paths,
        size=size,
        max_distance=max_distance,
        extra_edges=extra_edges,
    )
    task = Task(
        name='shortest_path',
        about=(
            f'How far is each node from the marked one, up to {max_distance}? '
            f'({_PAPERS})'
        ),
        level='node',
        metric='accuracy',
        outputs=max_distance,
        features=2,
        layers=max_distance,
        load=drawn(draw, graphs),
    )
    return replace(task, chance=commonest_share(task.load(0)))


def eccentricity_task(
    *,
    size: int = 12,
    level: Literal['node', 'graph'] = 'graph',
    extra_edges: int = 2,
    layers: int = 6,
    graphs: Counts = (250, 100, 200),
) -> Task:
    """The distance of the node that is farthest from a marked one.

    Args:
        size: The number of nodes.
        level: Whether the graph is asked; or every node for the distance of
            the node that is farthest from it, as in the papers.
        extra_edges: The number of edges beyond those of a tree.
        layers: The depth of the models. The largest distances may be longer.
        graphs: How many to train on, to choose by, and to report.
    """
    draw = partial(
        eccentricities, size=size, level=level, extra_edges=extra_edges
    )
    which = 'the marked node' if level == 'graph' else 'each node'
    task = Task(
        name='eccentricity',
        about=f'How far is it to the farthest node from {which}? ({_PAPERS})',
        level=level,
        metric='mean_absolute_error',
        outputs=1,
        features=2,
        layers=layers,
        load=drawn(draw, graphs),
    )
    return replace(task, chance=median_error(task.load(0)))
