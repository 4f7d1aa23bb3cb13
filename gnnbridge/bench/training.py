"""One training of one model."""

from __future__ import annotations

import copy
import math
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    LinearLR,
    LRScheduler,
    SequentialLR,
)
from torch_geometric.data import Batch

from gnnbridge.bench.batching import Batches, order_of_batches
from gnnbridge.bench.metrics import loss, measure
from gnnbridge.bench.task import Task

_WEIGHT_DECAY = 1e-4
_LARGEST_GRADIENT = 1.0
# The share of the steps in which the learning rate rises.
_WARM_UP = 0.1


class Diverged(ArithmeticError):
    """A training whose loss or outputs are no longer finite."""


class Schedule(NamedTuple):
    """How long and how fast a model is trained.

    Attributes:
        steps: The number of steps.
        evaluations: How often the validation split is looked at.
        learning_rate: The largest learning rate.
        seed: Of the order of the batches.
    """

    steps: int
    evaluations: int
    learning_rate: float
    seed: int


class Fitted(NamedTuple):
    """What a training came to, by the metric of the task.

    Attributes:
        val: The best on the validation split.
        test: On the test split at that step.
        train: On the graphs to train on at that step.
        best_step: After how many steps that was.
        steps: How many there were.
    """

    val: float
    test: float
    train: float
    best_step: int
    steps: int


def fit(
    model: nn.Module, batches: Batches, task: Task, schedule: Schedule
) -> Fitted:
    """Trains a model, and measures it where it is best on validation data.

    AdamW with gradients clipped to norm 1; the learning rate rises linearly
    over a tenth of the steps and then falls as a cosine. Of equally good
    steps the first counts; so a training ends, with the same result, as soon
    as every answer of the validation split is right.

    Args:
        model: The model, which is left with the weights of the best step.
        batches: The data, on the device of the model.
        task: By what answers are counted.
        schedule: How long and how fast.

    Raises:
        Diverged: If the loss, a gradient or an output is not finite.
    """
    optimizer, scheduler = _optimizer(model, schedule)
    every = max(1, schedule.steps // schedule.evaluations)
    best: tuple[float, int, dict[str, Tensor]] | None = None
    step = 0
    order = order_of_batches(len(batches.train), seed=schedule.seed)
    for step, place in enumerate(islice(order, schedule.steps), 1):
        _step(model, optimizer, batches.train[place], task)
        scheduler.step()
        if step % every and step != schedule.steps:
            continue
        val = evaluate(model, batches.val, task)
        if best is None or _better(val, best[0], task):
            best = val, step, copy.deepcopy(model.state_dict())
        if task.higher_is_better and val >= 1:
            break
    if best is None:
        raise ValueError(
            f"Expected 'steps' to be positive (got {schedule.steps}). Train "
            f'for a step or more.'
        )
    val, best_step, weights = best
    model.load_state_dict(weights)
    test, train = (
        evaluate(model, part, task) for part in (batches.test, batches.train)
    )
    return Fitted(val, test, train, best_step, step)


@torch.no_grad()
def evaluate(model: nn.Module, batches: list[Batch], task: Task) -> float:
    """The quality of a model on a split, by the metric of the task.

    Args:
        model: The model, which is in evaluation mode afterwards.
        batches: The split.
        task: By what answers are counted.

    Raises:
        Diverged: If an output is not finite.
    """
    model.eval()
    output = torch.cat([model(batch) for batch in batches])
    if not output.isfinite().all():
        raise Diverged('an output is not finite')
    return measure(task.metric, output, torch.cat([b.y for b in batches]))


def _step(model: nn.Module, optimizer: AdamW, batch: Batch, task: Task) -> None:
    model.train()
    optimizer.zero_grad(set_to_none=True)
    objective = loss(task.metric, model(batch), batch.y)
    objective.backward()
    norm = clip_grad_norm_(model.parameters(), _LARGEST_GRADIENT)
    value = float(objective.detach())
    if not math.isfinite(value):
        raise Diverged(f'the loss is {value}')
    if not norm.isfinite():
        raise Diverged(f'the norm of the gradient is {float(norm)}')
    optimizer.step()


def _optimizer(
    model: nn.Module, schedule: Schedule
) -> tuple[AdamW, LRScheduler]:
    trained = [p for p in model.parameters() if p.requires_grad]
    # One kernel for all parameters: models here have many small ones.
    optimizer = AdamW(
        trained,
        lr=schedule.learning_rate,
        weight_decay=_WEIGHT_DECAY,
        fused=True,
    )
    rising = max(1, round(_WARM_UP * schedule.steps))
    warm_up = LinearLR(optimizer, 1 / (rising + 1), 1.0, total_iters=rising)
    falling = CosineAnnealingLR(optimizer, max(1, schedule.steps - rising))
    return optimizer, SequentialLR(optimizer, [warm_up, falling], [rising])


def _better(value: float, other: float, task: Task) -> bool:
    return value > other if task.higher_is_better else value < other
