"""The decoders that are compared, and how each of them is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tasks import VOCABULARY, VOCABULARY_SIZE, Task
from torch import nn
from transformers import LlamaConfig, PreTrainedModel

from gnnbridge.models.convert import is_converted
from gnnbridge.models.modified.fresh import fresh_causal_lm
from gnnbridge.models.training import (
    Stream,
    StreamMixture,
    loss_history,
    train,
)
from gnnbridge.remedies.base import Remedy

# Nats. Runs that have learned a task end some thousandths apart, and which of
# them comes first is another on another machine.
_TIE = 0.01


@dataclass(frozen=True)
class Arm:
    """One kind of decoder on one task.

    Attributes:
        name: What it is called.
        task: What it is trained on.
        remedy: What is changed of it, from the start.
        layers: The number of layers.
        width: The width of the states.
        heads: The number of heads; keys have half as many.
        prompt: How many tokens of a sequence are the prompt that the places
            of inserted tokens refer to; those before the first answer if None.
        steps: The number of steps; that of the task if None.
        start: The arm whose trained decoders it starts from; new weights if
            None.
        learning_rate: That of the task if None.
        rates: Learning rates to choose from, by the loss at the end of a run
            with seed 0: see :func:`chosen`.
    """

    name: str
    task: Task
    remedy: Remedy | None = None
    layers: int = 3
    width: int = 64
    heads: int = 4
    prompt: int | None = None
    steps: int | None = None
    start: Arm | None = None
    learning_rate: float | None = None
    rates: tuple[float, ...] = ()

    def config(self) -> LlamaConfig:
        """The architecture before it is changed."""
        return LlamaConfig(
            vocab_size=VOCABULARY_SIZE,
            hidden_size=self.width,
            intermediate_size=8 * self.width // 3,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=max(self.heads // 2, 1),
            # That of a map of states falls with the root of their width.
            initializer_range=self.task.initial_scale
            * (64 / self.width) ** 0.5,
            max_position_embeddings=2048,
            bos_token_id=VOCABULARY.bos,
            eos_token_id=None,
            pad_token_id=None,
        )

    def first(self, seed: int, runs: Path) -> PreTrainedModel:
        """The decoder before it is trained.

        The weights that two arms have in common are the same at one seed.
        """
        if self.start is not None:
            model = self.start.trained(seed, runs)
            return model if self.remedy is None else self.remedy.apply(model)
        if self.remedy is None:
            model = fresh_causal_lm(self.config(), seed)
        else:
            model = self.remedy.build(self.config(), seed)
        if self.task.symbols:
            _widen_symbols(model, seed)
        if not is_converted(model):
            model.set_attn_implementation('sdpa')
        return model

    def trained(self, seed: int, runs: Path) -> PreTrainedModel:
        """The trained decoder, from its last checkpoint if there is one."""
        if self.rates:
            return self.at(chosen(self.losses(runs))).trained(seed, runs)
        steps = self.steps or self.task.steps
        return train(
            self.first(seed, runs).train(),
            StreamMixture(self.streams(), seed),
            self.directory(seed, runs),
            steps=steps,
            learning_rate=self.learning_rate or self.task.learning_rate,
            warmup_steps=min(100, steps // 5),
            lr_scheduler_type='warmup_stable_decay',
            lr_scheduler_kwargs={'num_decay_steps': steps // 4},
            weight_decay=0.05,
            save_steps=250,
            logging_steps=min(50, steps),
        )

    def streams(self) -> list[Stream]:
        """What it is trained on."""
        streams = self.task.streams(self.steps or self.task.steps)
        if self.prompt is None:
            return streams
        return [_with_prompt(one, self.prompt) for one in streams]

    def at(self, rate: float) -> Arm:
        """The arm at one of its learning rates."""
        return replace(self, learning_rate=rate, rates=())

    def losses(self, runs: Path) -> dict[float, float]:
        """The loss of the last steps at each rate, with seed 0."""
        found = {}
        for rate in self.rates:
            arm = self.at(rate)
            arm.trained(0, runs)
            last = [loss for _, loss in loss_history(arm.directory(0, runs))]
            found[rate] = sum(last[-2:]) / len(last[-2:])
        return found

    def directory(self, seed: int, runs: Path) -> Path:
        """Where the checkpoints of a run are."""
        rate = '' if self.learning_rate is None else f'-{self.learning_rate:g}'
        return runs / self.task.name / f'{self.name}{rate}' / str(seed)


@torch.no_grad()
def _widen_symbols(model: PreTrainedModel, seed: int) -> None:
    weight: nn.Parameter = model.get_input_embeddings().weight
    generator = torch.Generator().manual_seed(seed)
    symbols = weight[VOCABULARY.query :]
    symbols.copy_(torch.randn(symbols.shape, generator=generator))


def _with_prompt(stream: Stream, prompt: int) -> Stream:
    def draw(step: int, generator: torch.Generator) -> dict[str, Any]:
        return {**stream.draw(step, generator), 'prompt_length': prompt}

    return replace(stream, draw=draw)


def chosen(losses: Mapping[float, float]) -> float:
    """The lowest learning rate whose loss is the least, up to 0.01 nats."""
    least = min(losses.values())
    return min(rate for rate, loss in losses.items() if loss <= least + _TIE)


def baseline(task: Task) -> Arm:
    """The decoder as it is."""
    return Arm('baseline', task)


def remedied(
    task: Task, remedy: Remedy, name: str | None = None, **settings: Any
) -> Arm:
    """The decoder with one remedy from the start."""
    return Arm(name or remedy.name, task, remedy, **settings)


def small(arm: Arm) -> Arm:
    """As it is: minutes on one core."""
    return arm


def tiny(arm: Arm) -> Arm:
    """A few steps of hardly anything, to see that a command works."""
    start = None if arm.start is None else tiny(arm.start)
    return replace(
        arm,
        start=start,
        layers=min(arm.layers, 2),
        width=16,
        heads=min(arm.heads, 4),
        steps=4,
    )


def large(arm: Arm) -> Arm:
    """Some thirty million parameters and ten times the steps, for a GPU."""
    start = None if arm.start is None else large(arm.start)
    return replace(
        arm,
        start=start,
        layers=3 * arm.layers,
        width=8 * arm.width,
        heads=2 * arm.heads,
        steps=10 * (arm.steps or arm.task.steps),
        # The rate that suits falls about with the width.
        learning_rate=(arm.learning_rate or arm.task.learning_rate) / 8,
        rates=tuple(rate / 8 for rate in arm.rates),
    )


SIZES: dict[str, Callable[[Arm], Arm]] = {
    'tiny': tiny,
    'small': small,
    'large': large,
}
