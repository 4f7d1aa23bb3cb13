"""What trials are made of: tasks, models, rewirings, and data in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from gnnbridge.bench.batching import Batches, collate, to_device
from gnnbridge.bench.metrics import measure
from gnnbridge.bench.task import Splits, Task

# Trials of several models on the same data follow each other, and few
# strengths of a rewiring are in use at once.
_KEPT = 4

Drawn: TypeAlias = tuple[str, int]
Changed: TypeAlias = tuple[str, float]


class Parts(NamedTuple):
    """The functions that names are given to.

    Attributes:
        make_task: ``(name, *, root, **sizes) -> Task``.
        build_model: ``(name, task, *, budget, relations, dropout, seed)``.
        rewired: ``(name, splits, strength, seed)``, to splits and the number
            of relations.
        strengths: ``(name)``, to those of a rewiring that are tried.
        is_relational: ``(name)``, whether a model can have relations.
    """

    make_task: Callable[..., Task]
    build_model: Callable[..., Any]
    rewired: Callable[[str, Splits, float, int], tuple[Splits, int]]
    strengths: Callable[[str], tuple[float, ...]]
    is_relational: Callable[[str], bool]


def standard_parts() -> Parts:
    """The library's own tasks, models and rewirings."""
    from gnnbridge.bench.models.registry import build_model
    from gnnbridge.bench.rewirings import rewired, strengths
    from gnnbridge.bench.tasks import make_task

    return Parts(make_task, build_model, rewired, strengths, _is_relational)


def _is_relational(name: str) -> bool:
    from gnnbridge.bench.models.registry import MODELS

    # What is wrong with a name is said by whoever builds the model.
    return name not in MODELS or MODELS[name].relations


class Materials:
    """The parts of trials, with the data that was used last.

    Args:
        parts: Tasks, models and rewirings; the library's own by default.
        root: The directory of stored tasks.
        sizes: By the names of tasks, what they are made with.
        device: Where models are trained.
    """

    def __init__(
        self,
        parts: Parts | None = None,
        *,
        root: Path | None = None,
        sizes: Mapping[str, Mapping[str, Any]] | None = None,
        device: str = 'cpu',
    ) -> None:
        self.parts = standard_parts() if parts is None else parts
        self.root = root
        self.sizes = {name: dict(of) for name, of in (sizes or {}).items()}
        self.device = device
        # Held by the instance, so that the data goes when it goes.
        self.task = lru_cache(None)(self._task)
        self.splits = lru_cache(_KEPT)(self._splits)
        self.batches = lru_cache(_KEPT)(self._batches)

    def __reduce__(self) -> tuple[Any, ...]:
        """Without the data, for another process."""
        return _again, (self.parts, self.root, self.sizes, self.device)

    def describe(self, name: str) -> dict[str, Any]:
        """What tells a task from others of its name, for JSON.

        Where its files are is no part of it.

        Args:
            name: The task.
        """
        task = self.task(name)
        told = {f.name: _told(getattr(task, f.name)) for f in fields(task)}
        return {**told, 'sizes': self.sizes.get(name, {})}

    def guess(self, name: str, seed: int) -> float:
        """What a model that learns nothing reaches on the test split.

        Where the task does not say: zero, or the mean distance from the
        median of the training answers.

        Args:
            name: The task.
            seed: Of its graphs.
        """
        task = self.task(name)
        if task.chance is not None:
            return task.chance
        if task.higher_is_better:
            return 0.0
        splits = self.splits(name, seed)
        train, test = _answers(splits.train), _answers(splits.test)
        median = train.nanmedian(0).values.expand_as(test)
        return measure(task.metric, median, test)

    def _task(self, name: str) -> Task:
        sizes = self.sizes.get(name, {})
        return self.parts.make_task(name, root=self.root, **sizes)

    def _splits(self, name: str, seed: int) -> Splits:
        return self.task(name).load(seed)

    def _batches(
        self, drawn: Drawn, changed: Changed, *, nodes: int
    ) -> tuple[Batches, int]:
        """The batches of a task and a seed, rewired by a name and a strength.

        Returns:
            The batches, on the device, and the number of relations.
        """
        rewiring, strength = changed
        splits, relations = self.parts.rewired(
            rewiring, self.splits(*drawn), strength, drawn[1]
        )
        batches = collate(splits, nodes=nodes, seed=drawn[1])
        return to_device(batches, self.device), relations


def _again(
    parts: Parts, root: Path | None, sizes: dict[str, Any], device: str
) -> Materials:
    return Materials(parts, root=root, sizes=sizes, device=device)


def _answers(graphs: list[Any]) -> Tensor:
    return torch.cat([graph.y for graph in graphs])


def _told(value: Any) -> Any:
    """A value in words that are the same in every process."""
    if isinstance(value, partial):
        return [_told(value.func), _told(value.args), _told(value.keywords)]
    if isinstance(value, dict):
        return {str(name): _told(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_told(one) for one in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: _told(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, str | int | float | None):
        return value
    return getattr(value, '__qualname__', type(value).__qualname__)
