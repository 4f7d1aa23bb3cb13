"""Training on a mixture of streams, by the ``Trainer`` of transformers.

A stream is a function of the step and of a generator, and the generator is
seeded by the run, the stream and the step. A run that was killed therefore
goes on from its last checkpoint as if nothing had happened: the same batches,
and the same weights in the end.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor
from torch.utils.data import IterableDataset
from transformers import (
    PreTrainedModel,
    Trainer,
    TrainingArguments,
)
from transformers.trainer_utils import (
    PREFIX_CHECKPOINT_DIR,
    get_last_checkpoint,
)

from gnnbridge.models.tokens.module import tokens_of
from gnnbridge.models.tokens.saving import load_tokens

Inputs = Mapping[str, Tensor]


@dataclass(frozen=True)
class Stream:
    """One source of batches.

    Args:
        name: What the stream is called.
        draw: Takes the step (from 0) and a generator, returns the arguments
            of the model's forward, ``labels`` among them.
        weight: The weight of this stream's mean loss in the loss of a step.
        start: The first step at which the stream is drawn.
    """

    name: str
    draw: Callable[[int, Generator], Inputs]
    weight: float = 1.0
    start: int = 0


class StreamMixture(IterableDataset):
    """Endless steps, each with one batch of every stream that has started.

    Args:
        streams: The streams; at least one of them starts at step 0.
        seed: Seed of the run.

    Raises:
        ValueError: If there would be nothing to train on at first, or two
            streams have one name.
    """

    def __init__(self, streams: Sequence[Stream], seed: int) -> None:
        if not any(stream.start == 0 for stream in streams):
            raise ValueError(
                'Expected a stream that starts at step 0 (got starts '
                f'{[stream.start for stream in streams]}).'
            )
        names = [stream.name for stream in streams]
        if len(set(names)) < len(names):
            raise ValueError(f'Expected distinct stream names (got {names}).')
        self.streams = tuple(streams)
        self.seed = seed

    def __iter__(self) -> Iterator[dict[str, Inputs]]:
        return map(self.step, itertools.count())

    def step(self, step: int) -> dict[str, Inputs]:
        """Returns the batches of one step by the names of their streams."""
        return {
            stream.name: stream.draw(step, self._generator(place, step))
            for place, stream in enumerate(self.streams)
            if step >= stream.start
        }

    def _generator(self, place: int, step: int) -> Generator:
        seed = (self.seed * len(self.streams) + place) * 10**9 + step
        return torch.Generator().manual_seed(seed)


class MixtureTrainer(Trainer):
    """A ``Trainer`` whose loss is the weighted sum of the streams' losses."""

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Returns the loss of one step of a :class:`StreamMixture`."""
        weights = {s.name: s.weight for s in self.train_dataset.streams}
        outputs = {name: model(**batch) for name, batch in inputs.items()}
        loss = sum(weights[name] * out.loss for name, out in outputs.items())
        return (loss, outputs) if return_outputs else loss

    def _load_from_checkpoint(
        self, resume_from_checkpoint: str, model: Any = None
    ) -> None:
        # The trainer's own would drop the head of such an architecture.
        _load_weights(self.model, Path(resume_from_checkpoint))


def _load_weights(model: PreTrainedModel, directory: Path) -> None:
    """Load what was saved, in place.

    Some architectures save weights under other names than their modules have
    (the head of GPT-NeoX), which ``from_pretrained`` knows.
    """
    saved = type(model).from_pretrained(directory, dtype=model.dtype)
    if tokens_of(model) is not None:
        load_tokens(saved, directory)
    model.load_state_dict(saved.state_dict())


def train(
    model: PreTrainedModel,
    mixture: StreamMixture,
    directory: str | Path,
    *,
    steps: int,
    **settings: Any,
) -> PreTrainedModel:
    """Trains a model in place, going on from a checkpoint if there is one.

    Args:
        model: The model, initialised.
        mixture: What to train it on; its seed is the seed of the run.
        directory: Where checkpoints go and are looked for.
        steps: The number of steps at the end of the whole run.
        **settings: Further ``TrainingArguments``, such as ``learning_rate``,
            ``save_steps`` or ``disable_tqdm``.

    Returns:
        ``model``, in evaluation mode.
    """
    arguments = {
        'adam_beta2': 0.98,
        'logging_steps': 50,
        'lr_scheduler_type': 'cosine',
        'report_to': 'none',
        'save_steps': 200,
        'save_total_limit': 1,
        'use_cpu': not torch.cuda.is_available(),
        **settings,
    }
    trainer = MixtureTrainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(directory),
            max_steps=steps,
            per_device_train_batch_size=1,
            remove_unused_columns=False,
            seed=mixture.seed,
            dataloader_pin_memory=False,
            **arguments,
        ),
        train_dataset=mixture,
        # A step of the mixture is a whole batch already.
        data_collator=lambda steps: steps[0],
    )
    Path(directory).mkdir(parents=True, exist_ok=True)
    finished = Path(directory) / f'{PREFIX_CHECKPOINT_DIR}-{steps}'
    if finished.is_dir():
        # The trainer would take a step more than it was asked for.
        _load_weights(model, finished)
    else:
        last = get_last_checkpoint(str(directory))
        trainer.train(resume_from_checkpoint=last)
    return model.eval()
