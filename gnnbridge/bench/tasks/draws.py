"""From a generator of graphs to the three parts of a task."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Generator
from torch_geometric.data import Data

from gnnbridge.bench.task import Splits
from gnnbridge.datasets.graphs.numbering import renumbered
from gnnbridge.graph.checks import check_size

Draw = Callable[..., list[Data]]
#: How many graphs to train on, to choose by, and to report.
Counts = tuple[int, int, int]
# Rounds that bring nothing new before all graphs are thought to be known.
_PATIENCE = 20


def drawn(
    draw: Draw,
    graphs: Counts,
    *,
    distinct: bool = True,
    renumber: bool = False,
) -> partial[Splits]:
    """Makes the ``load`` of a task whose graphs are drawn.

    Args:
        draw: Takes a number of graphs and ``generator``, and draws them.
        graphs: How many to train on, to choose by, and to report.
        distinct: Whether no graph may come twice, neither within a part nor
            in two of them.
        renumber: Whether nodes get random numbers, where their order would
            tell the answer to whoever breaks ties by it.

    Returns:
        A function of the seed, which can be sent to other processes.

    Raises:
        ValueError: If a part would be empty, or the draw refuses its sizes.
    """
    for count in graphs:
        check_size('graphs', count)
    # What is wrong shows now, and not in the middle of a run.
    draw(1, generator=Generator())
    return partial(
        draw_splits,
        draw=draw,
        graphs=graphs,
        distinct=distinct,
        renumber=renumber,
    )


def draw_splits(
    seed: int,
    *,
    draw: Draw,
    graphs: Counts,
    distinct: bool,
    renumber: bool = False,
) -> Splits:
    """Draws the graphs of a task.

    Args:
        seed: What decides all of them.
        draw: Takes a number of graphs and ``generator``, and draws them.
        graphs: How many to train on, to choose by, and to report.
        distinct: Whether no graph may come twice.
        renumber: Whether nodes get random numbers.

    Raises:
        ValueError: If there are not as many different graphs.
    """
    generator = Generator().manual_seed(seed)
    train, val, test = graphs
    found = (
        _distinct(draw, sum(graphs), generator)
        if distinct
        else draw(sum(graphs), generator=generator)
    )
    if renumber:
        found = renumbered(found, generator=generator)
    return Splits(
        found[:train],
        found[train : train + val],
        found[train + val : train + val + test],
    )


def _distinct(draw: Draw, count: int, generator: Generator) -> list[Data]:
    found: dict[tuple[bytes, bytes], Data] = {}
    stalled = 0
    while len(found) < count and stalled < _PATIENCE:
        before = len(found)
        for graph in draw(count, generator=generator):
            found.setdefault(_asked(graph), graph)
        stalled = 0 if len(found) > before else stalled + 1
    if len(found) < count:
        raise ValueError(
            f'Expected {count} different graphs for the three parts (there '
            f'are {len(found)}). Use fewer graphs or a larger size.'
        )
    return list(found.values())[:count]


def _asked(graph: Data) -> tuple[bytes, bytes]:
    """All that a model sees of a graph."""
    return (
        graph.x.numpy().tobytes(),
        graph.edge_index.contiguous().numpy().tobytes(),
    )


def commonest_share(splits: Splits) -> float:
    """The accuracy of answering with the commonest class of the training."""
    train = torch.cat([graph.y for graph in splits.train])
    test = torch.cat([graph.y for graph in splits.test])
    return float((test == train.mode().values).double().mean())


def median_error(splits: Splits) -> float:
    """The mean absolute error of answering with the training's median."""
    train = torch.cat([graph.y for graph in splits.train])
    test = torch.cat([graph.y for graph in splits.test])
    return float((test - train.median()).abs().double().mean())
