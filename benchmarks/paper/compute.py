"""What training costs: CPU time of a step, and operations of a whole run."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from arms import Arm
from torch import Generator
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

# How far through training steps are looked at, as sequences grow.
_SHARES = (0.1, 0.4, 0.7, 0.95)


def step_over(
    base: Arm, arm: Arm, model: PreTrainedModel, rounds: int = 3
) -> float:
    """CPU time of a training step of an arm over that of another.

    Forward and backward pass on batches from all of training. The least of
    several each, taken in turn, so that whatever else the machine does meets
    both.

    Args:
        base: The other, as it is before training, at the size of the model.
        arm: The arm.
        model: A decoder of it, whose gradients are cleared.
        rounds: How many times each is run.
    """
    plain = _first(base, model)
    model.train()
    plain.train()
    totals = [0.0, 0.0]
    for share in _SHARES:
        for odd in (True, False):
            both = [
                (model, _batches(arm, share, odd)),
                (plain, _batches(base, share, odd)),
            ]
            rows = [[_seconds(*one) for one in both] for _ in range(rounds)]
            for place, column in enumerate(zip(*rows, strict=True)):
                totals[place] += min(column)
    model.zero_grad()
    model.eval()
    return totals[0] / totals[1]


def _seconds(model: PreTrainedModel, batches: list[dict[str, Any]]) -> float:
    """CPU time of a step."""
    start = time.process_time()
    for batch in batches:
        model(**batch, use_cache=False).loss.backward()
    return time.process_time() - start


def steps_over_usual(arm: Arm) -> float:
    """How many times the usual steps an arm is trained for."""
    return (arm.steps or arm.task.steps) / arm.task.steps


def operations(arm: Arm, model: PreTrainedModel) -> float:
    """Floating point operations of a training step: products of matrices.

    The mean over training, at the most bindings of the time; those of
    attention for all pairs of tokens.

    Args:
        arm: The arm.
        model: A decoder of it, of which the size is taken.
    """
    model = _first(arm, model).train()
    model.set_attn_implementation('eager')  # the counter knows its products
    counted = 0
    for share in _SHARES:
        with FlopCounterMode(display=False) as counter:
            for batch in _batches(arm, share):
                model(**batch, use_cache=False).loss.backward()
        counted += counter.get_total_flops()
    return counted / len(_SHARES)


def _first(arm: Arm, like: PreTrainedModel) -> PreTrainedModel:
    """A new decoder of an arm, of the size of another."""
    sized = replace(
        arm,
        start=None,
        layers=like.config.num_hidden_layers,
        width=like.config.hidden_size,
        heads=like.config.num_attention_heads,
    )
    return sized.first(0, Path())


def _batches(arm: Arm, share: float, odd: bool = True) -> list[dict[str, Any]]:
    """A step's batches, so far through training.

    At even steps retrieval draws the number of bindings, at odd ones it is the
    most of the time.
    """
    step = 2 * int(share * (arm.steps or arm.task.steps) / 2) + odd
    generator = Generator().manual_seed(0)
    return [stream.draw(step, generator) for stream in arm.streams()]
