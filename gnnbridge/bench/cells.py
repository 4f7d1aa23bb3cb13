"""What is compared, with what effort: plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Literal

Stage = Literal['search', 'final']


@dataclass(frozen=True)
class Cell:
    """What is compared: a model on a task with a rewiring.

    Attributes:
        task: The name of the task.
        model: The name of the model.
        rewiring: That of the rewiring; ``'none'`` leaves graphs as they are.
    """

    task: str
    model: str
    rewiring: str = 'none'


@dataclass(frozen=True)
class Settings:
    """What the search draws for a cell.

    Attributes:
        learning_rate: The largest learning rate.
        dropout: The share of activations that a training step leaves out.
        strength: How much the rewiring changes, in its own unit.
    """

    learning_rate: float
    dropout: float
    strength: float


@dataclass(frozen=True)
class Effort:
    """What every cell may use, the same for all.

    Attributes:
        steps: Training steps of a trial.
        budget: Parameters of a model, at most.
        draws: Settings that the search tries. With one there is nothing to
            choose, and no search.
        seeds: Trials with the settings that were chosen.
        evaluations: How often a trial looks at the validation split.
        batch_nodes: Nodes of a batch, at most. Training parts with no more
            are one batch.
    """

    steps: int
    budget: int = 64_000
    draws: int = 4
    seeds: int = 5
    evaluations: int = 10
    batch_nodes: int = 4000

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value < 1:
                raise ValueError(
                    f"Expected '{name}' to be at least 1 (got {value}). "
                    f'Give a larger number.'
                )


@dataclass(frozen=True)
class Job:
    """All that decides a trial, but what the names mean.

    Attributes:
        cell: What is trained on what.
        settings: With which settings.
        seed: Of the data, the weights and the order.
        effort: For how long.
        stage: Whether it is one of the search or one that is reported.
    """

    cell: Cell
    settings: Settings
    seed: int
    effort: Effort
    stage: Stage


@dataclass(frozen=True)
class Suite:
    """Cells that are compared with the same effort.

    Attributes:
        name: What it is called.
        cells: The cells, each once.
        effort: What each may use.
        steps: By the names of tasks, training steps where a task takes more
            or fewer than ``effort`` says.
    """

    name: str
    cells: tuple[Cell, ...]
    effort: Effort
    steps: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        twice = len(self.cells) - len(set(self.cells))
        if twice:
            raise ValueError(
                f"Expected 'cells' to be different (got {twice} twice). Give "
                f'each once.'
            )

    def effort_of(self, task: str) -> Effort:
        """What a cell of a task may use.

        Args:
            task: Its name.
        """
        if task not in self.steps:
            return self.effort
        return replace(self.effort, steps=self.steps[task])
