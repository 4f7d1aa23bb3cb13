"""What a benchmark task is: graphs in three parts, and how answers count."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from torch_geometric.data import Data

Level = Literal['node', 'graph']
Metric = Literal[
    'accuracy', 'mean_absolute_error', 'average_precision', 'roc_auc'
]


class Splits(NamedTuple):
    """The graphs of a task.

    A graph holds ``x``, ``edge_index``, optionally ``edge_attr`` and
    ``position``, and the answers ``y``. Tasks on nodes have ``target_mask
    [N]``, which tells the nodes that are asked, and ``y`` has a row for each
    of them, in their order; of tasks on graphs ``y`` has one row. Classes are
    ``[n]`` int64; several targets at once ``[n, outputs]`` float32, where NaN
    is an answer that nobody knows.

    Attributes:
        train: The graphs to train on.
        val: Those that settings are chosen by.
        test: Those that are reported.
    """

    train: list[Data]
    val: list[Data]
    test: list[Data]


@dataclass(frozen=True)
class Task:
    """A task that every model of the benchmark can run.

    Attributes:
        name: What it is called, as ``'ring_transfer'``.
        about: One sentence on what is asked, and its source.
        level: Whether nodes or graphs are asked.
        metric: ``'accuracy'`` over classes, trained by cross-entropy;
            ``'mean_absolute_error'``, trained by itself; or the mean
            ``'average_precision'`` or ``'roc_auc'`` over targets that are 0
            or 1.
        outputs: The number of classes or of targets.
        features: The width of a float ``x [N, F]``, or the number of
            categories of each column of an int64 ``x [N, C]``.
        edge_features: The same for ``edge_attr``; None if edges have none.
        layers: How many steps of message passing the answers need, and so
            the depth of the models.
        chance: What guessing reaches by the metric, if that is known.
        directed: Whether edges go one way.
        load: The graphs for a seed. The same seed gives the same graphs.
    """

    name: str
    about: str
    level: Level
    metric: Metric
    outputs: int
    features: int | tuple[int, ...]
    layers: int
    load: Callable[[int], Splits]
    edge_features: int | tuple[int, ...] | None = None
    chance: float | None = None
    directed: bool = False

    @property
    def higher_is_better(self) -> bool:
        """Whether more is better by the metric."""
        return self.metric != 'mean_absolute_error'
