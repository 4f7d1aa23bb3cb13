"""What the small decoders of all experiments are trained on.

Three tasks: Bigram-Backcopy, on which attention sinks form in a minute;
key-value retrieval; and the prose that ships with Python, byte by byte.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

from torch import Generator, Tensor

from gnnbridge.datasets.batches import (
    Draw,
    backcopy_batches,
    retrieval_batches,
    text_batches,
)
from gnnbridge.datasets.copying import (
    BigramBackcopy,
    bigram_table,
    most_frequent_letters,
)
from gnnbridge.datasets.text import python_corpus
from gnnbridge.datasets.vocabulary import StreamVocabulary
from gnnbridge.models.embedded.tokenizer import NUM_SYMBOLS, SPECIAL_TOKENS
from gnnbridge.models.training import Stream

_IDS = {token: 256 + place for place, token in enumerate(SPECIAL_TOKENS)}
VOCABULARY = StreamVocabulary(
    bos=_IDS['<bos>'],
    query=_IDS['<q>'],
    first_key=_IDS['<k0>'],
    first_value=_IDS['<v0>'],
    num_symbols=NUM_SYMBOLS,
)
# Fewer keys and values, so that decoders of all shapes learn them.
FEW_SYMBOLS = replace(VOCABULARY, num_symbols=16)
VOCABULARY_SIZE = 256 + len(SPECIAL_TOKENS)
BACKCOPY_TOKENS, TEXT_TOKENS, PAIRS, FEW_PAIRS = 32, 96, 16, 8


@dataclass(frozen=True)
class Task:
    """What to train on, and how.

    Attributes:
        name: What it is called.
        streams: The streams of a run of so many steps.
        steps: The usual number of steps.
        learning_rate: Of AdamW.
        initial_scale: Standard deviation of the initial weights at width 64.
        symbols: Whether the embeddings of queries, keys and values start at
            unit scale, so that they outweigh what attention adds to them:
            retrieval forms sooner.
    """

    name: str
    streams: Callable[[int], list[Stream]]
    steps: int
    learning_rate: float
    initial_scale: float = 0.02
    symbols: bool = False


@lru_cache
def backcopy_source() -> BigramBackcopy:
    """Bigram-Backcopy on the topics of Python's help."""
    text = python_corpus().topics
    return BigramBackcopy(
        bigram_table(text), most_frequent_letters(text), VOCABULARY.bos
    )


def without_first(draw: Draw) -> Draw:
    """The same batches without their first token, which is always the same."""

    def drawn(step: int, generator: Generator) -> dict[str, Tensor]:
        return {k: v[:, 1:] for k, v in draw(step, generator).items()}

    return drawn


def _backcopy(steps: int) -> list[Stream]:
    draw = backcopy_batches(backcopy_source(), 64, BACKCOPY_TOKENS)
    return [Stream('backcopy', draw)]


def _backcopy_without_first(steps: int) -> list[Stream]:
    return [
        Stream(stream.name, without_first(stream.draw))
        for stream in _backcopy(steps)
    ]


def _retrieval(
    steps: int, pairs: int = PAIRS, vocabulary: StreamVocabulary = VOCABULARY
) -> list[Stream]:
    """All keys asked for one after another, and one key alone at the end."""
    given = {'curriculum_steps': round(0.7 * steps)}
    every = retrieval_batches(32, pairs, vocabulary, **given)
    one = retrieval_batches(32, pairs, vocabulary, queries=1, **given)
    return [Stream('every', every, 0.7), Stream('one', one, 0.3)]


def _few_retrieval(steps: int) -> list[Stream]:
    """Half as many bindings of a quarter of the symbols."""
    return _retrieval(steps, FEW_PAIRS, FEW_SYMBOLS)


def _full_retrieval(steps: int) -> list[Stream]:
    """As many bindings as at the end of training, from the first step."""
    every = retrieval_batches(32, PAIRS, VOCABULARY)
    one = retrieval_batches(32, PAIRS, VOCABULARY, queries=1)
    return [Stream('every', every, 0.5), Stream('one', one, 0.5)]


def _text(steps: int) -> list[Stream]:
    draw = text_batches(
        python_corpus().text, 24, TEXT_TOKENS, bos=VOCABULARY.bos
    )
    return [Stream('text', draw)]


BACKCOPY = Task('backcopy', _backcopy, 1000, 6e-3)
BACKCOPY_WITHOUT_FIRST = Task(
    'backcopy-without-first', _backcopy_without_first, 1000, 6e-3
)
RETRIEVAL = Task(
    'retrieval', _retrieval, 700, 3e-3, initial_scale=0.08, symbols=True
)
FEW_RETRIEVAL = Task(
    'few-retrieval', _few_retrieval, 700, 3e-3, initial_scale=0.08, symbols=True
)
# What follows one of these: all weights at a lower rate, or tokens alone.
CONTINUED_RETRIEVAL = Task('continued-retrieval', _full_retrieval, 300, 1e-3)
FROZEN_RETRIEVAL = Task('frozen-retrieval', _full_retrieval, 300, 1e-2)
FROZEN_BACKCOPY = Task('frozen-backcopy', _backcopy_without_first, 300, 1e-2)
TEXT = Task('text', _text, 500, 4e-3)
