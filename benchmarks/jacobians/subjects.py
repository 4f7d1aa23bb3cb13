"""The models that are measured, and on which texts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Generator, Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from gnnbridge.datasets.text import python_corpus, sample_text

from . import models

SEEDS = (0, 1, 2)
TEXTS, MANY_TEXTS = 4, 40
# Of a corpus, for the tokenizer of a model given by its directory.
_CHARACTERS = 200_000


@dataclass(frozen=True)
class Subject:
    """A model of a group and what is measured on it.

    Attributes:
        group: Models that differ in their seed alone.
        seed: The seed.
        load: Returns the model.
        parts: What is measured.
        kind: 'trained', 'new' or 'peaky'.
        directory: Where it was loaded from, for its tokenizer.
    """

    group: str
    seed: int
    load: Callable[[], PreTrainedModel]
    parts: tuple[str, ...]
    kind: str
    directory: Path | None = None

    @property
    def name(self) -> str:
        """Of the files about it."""
        return f'{self.group}-{self.seed}'.replace(' ', '_')


EVERYTHING = ('jacobian', 'knockout', 'collapse', 'sources')
_NEW = ('jacobian', 'knockout', 'collapse')


def subjects(runs: Path, directories: list[Path]) -> list[Subject]:
    """All models: the embedded one, trained ones, new ones, given ones."""
    shipped = Subject('embedded', 0, models.embedded, EVERYTHING, 'trained')
    found = [shipped, *_given(directories)]
    configs = {'embedded': models.embedded().config}
    for name, recipe in models.RECIPES.items():
        configs[name] = recipe.config
        for seed in SEEDS:
            load = partial(models.trained, name, seed, runs)
            found.append(Subject(name, seed, load, EVERYTHING, 'trained'))
    for name, config in configs.items():
        for seed in SEEDS:
            new = partial(models.initialised, config, seed)
            found.append(Subject(f'{name} new', seed, new, _NEW, 'new'))
            sharp = partial(_peaky, new)
            peaky = Subject(
                f'{name} peaky', seed, sharp, ('jacobian',), 'peaky'
            )
            found.append(peaky)
    for name, config in models.SIZES.items():
        load = partial(models.initialised, config, 0)
        found.append(Subject(f'{name} new', 0, load, ('jacobian',), 'new'))
    return found


def is_trained(subject: Subject, runs: Path) -> bool:
    """Whether nothing is left to train."""
    if subject.group not in models.RECIPES or subject.directory is not None:
        return True
    return _finished(subject.group, subject.seed, runs).is_dir()


def texts_of(subject: Subject, count: int) -> Tensor:
    """Held-out windows ``[count, N]`` in the tokens of a model."""
    tokenizer = _tokenizer(subject)
    if tokenizer is None:
        return models.texts(count)
    generator = Generator().manual_seed(3)
    corpus = python_corpus('held_out').text[:_CHARACTERS].decode()
    first = tokenizer.bos_token_id
    start = [] if first is None else [first]
    length, rows = models.TOKENS - len(start), []
    for text, number in ((sample_text(), count // 2), (corpus, -(-count // 2))):
        ids = tokenizer(text, add_special_tokens=False).input_ids
        places = torch.randint(
            len(ids) - length, (number,), generator=generator
        )
        rows += [start + ids[place : place + length] for place in places]
    return torch.tensor(rows)


@torch.no_grad()
def loss_of(subject: Subject, model: PreTrainedModel) -> float | None:
    """Nats per token on held-out text, of models that were trained."""
    if subject.kind != 'trained':
        return None
    if _tokenizer(subject) is None:
        return models.held_out_loss(model)
    ids = texts_of(subject, MANY_TEXTS)
    return float(model(ids, labels=ids).loss)


def _given(directories: list[Path]) -> list[Subject]:
    return [
        Subject(
            directory.name, 0, partial(_load, directory), EVERYTHING,
            'trained', directory,
        )
        for directory in directories
    ]  # fmt: skip


def _finished(name: str, seed: int, runs: Path) -> Path:
    steps = models.RECIPES[name].steps
    return runs / f'{name}-{seed}' / f'checkpoint-{steps}'


def _load(directory: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32
    ).eval()


def _peaky(load: Callable[[], PreTrainedModel]) -> PreTrainedModel:
    return models.peaky(load())


def _tokenizer(subject: Subject) -> PreTrainedTokenizerBase | None:
    """That of a model given by its directory; bytes if it has none."""
    directory = subject.directory
    if directory is None or not any(directory.glob('*token*')):
        return None
    return AutoTokenizer.from_pretrained(directory)
