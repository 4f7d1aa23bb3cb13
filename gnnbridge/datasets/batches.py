"""Batches to train decoders on, drawn anew at every step.

Each function here returns one that takes the step, from 0, and a generator,
and returns the arguments of a causal language model's forward: the ``draw`` of
a stream of :mod:`gnnbridge.models.training`. With a text file and any
tokenizer of ``transformers``::

    ids = tokenizer(open('text.txt').read())['input_ids']
    draw = token_batches(ids, 16, 128, bos=tokenizer.bos_token_id)
    mixture = StreamMixture([Stream('text', draw)], seed=0)
    train(model, mixture, 'run', steps=1000, learning_rate=1e-3)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Generator, Tensor

from gnnbridge.datasets.copying import BigramBackcopy
from gnnbridge.datasets.retrieval import curriculum, key_value_retrieval
from gnnbridge.datasets.vocabulary import StreamVocabulary

Draw: TypeAlias = Callable[[int, Generator], dict[str, Tensor]]


def text_batches(text: bytes, rows: int, tokens: int, *, bos: int) -> Draw:
    """Windows of a text as bytes, each behind the same first token.

    They are those of :func:`gnnbridge.datasets.byte_windows`.

    Args:
        text: The text, longer than a window.
        rows: The number of windows.
        tokens: Their length, ``bos`` included.
        bos: The first token.

    Raises:
        ValueError: If the text is too short, or a number out of range.
    """
    _check(rows=(rows, 1), tokens=(tokens, 2))
    if len(text) <= tokens:
        raise ValueError(
            f"Expected 'text' to have more than {tokens} bytes (got "
            f'{len(text)}). Give a longer text or shorter windows.'
        )
    codes = torch.frombuffer(bytearray(text), dtype=torch.uint8)
    return _windows(codes, rows, tokens, bos, len(codes) - tokens)


def token_batches(
    ids: Tensor | Sequence[int],
    rows: int,
    tokens: int,
    *,
    bos: int | None = None,
) -> Draw:
    """Windows of a text that a tokenizer has read.

    Args:
        ids: Token ids of the whole text ``[N]``.
        rows: The number of windows.
        tokens: Their length, ``bos`` included.
        bos: A first token for every window; none by default.

    Raises:
        TypeError: If these are no ids.
        ValueError: If the text is shorter than a window, or a number out of
            range.
    """
    ids = torch.as_tensor(ids)
    if ids.is_floating_point() and ids.numel() > 0:
        raise TypeError(
            f"Expected 'ids' to be integers (got {ids.dtype}). Give the "
            f"'input_ids' of a tokenizer."
        )
    _check(rows=(rows, 1), tokens=(tokens, 2))
    own = tokens - (bos is not None)
    if ids.dim() != 1 or ids.numel() < own:
        raise ValueError(
            f"Expected 'ids' to be a row of at least {own} tokens, which is "
            f'one window (got shape {list(ids.shape)}). Give a longer text, '
            f"or the first row of a tokenizer's tensor."
        )
    return _windows(ids, rows, tokens, bos, ids.numel() - own + 1)


def backcopy_batches(source: BigramBackcopy, rows: int, tokens: int) -> Draw:
    """Sequences of Bigram-Backcopy.

    Args:
        source: What draws them.
        rows: The number of sequences.
        tokens: Their length, the first token included.

    Raises:
        ValueError: If a number is out of range.
    """
    _check(rows=(rows, 1), tokens=(tokens, 2))

    def draw(step: int, generator: Generator) -> dict[str, Tensor]:
        ids = source.draw(rows, tokens, generator=generator)
        return {'input_ids': ids, 'labels': ids}

    return draw


def retrieval_batches(
    rows: int,
    pairs: int,
    vocabulary: StreamVocabulary,
    *,
    queries: int | None = None,
    first: int = 2,
    curriculum_steps: int = 0,
) -> Draw:
    """Key-value retrieval, with a curriculum over the number of bindings.

    At every other step, with a curriculum or without, the number is drawn
    between 2 and that of the step, so that what was learned on few is kept.

    Args:
        rows: The number of sequences.
        pairs: The number of bindings at the end of the curriculum.
        vocabulary: The token ids to write in.
        queries: How many keys are asked for, all by default and at most.
        first: The number of bindings at first.
        curriculum_steps: After how many steps the curriculum ends; by default
            there is none.

    Raises:
        ValueError: If a number is out of range, or there are fewer keys than
            bindings.
    """
    _check(
        rows=(rows, 1),
        pairs=(pairs, 2),
        queries=(1 if queries is None else queries, 1),
        curriculum_steps=(curriculum_steps, 0),
    )
    if pairs > vocabulary.num_symbols:
        raise ValueError(
            f"Expected 'pairs' to be at most {vocabulary.num_symbols}, the "
            f'number of keys (got {pairs}). Use a vocabulary with more.'
        )
    if curriculum_steps and not 2 <= first <= pairs:
        raise ValueError(
            f"Expected 'first' between 2 and 'pairs', which is {pairs} (got "
            f'{first}).'
        )

    def draw(step: int, generator: Generator) -> dict[str, Tensor]:
        count = pairs
        if curriculum_steps:
            count = curriculum(
                step, first=first, last=pairs, end=curriculum_steps
            )
        if step % 2 == 0:
            count = int(torch.randint(2, count + 1, (), generator=generator))
        batch = key_value_retrieval(
            rows, count, vocabulary, generator=generator
        )
        # The sequences end with the answer to the last query that is kept.
        end = int(batch.asked_at[:queries][-1]) + 2
        return {
            'input_ids': batch.input_ids[:, :end],
            'labels': batch.labels[:, :end],
        }

    return draw


def _windows(
    ids: Tensor, rows: int, tokens: int, bos: int | None, starts: int
) -> Draw:
    """Windows of ids that start at one of the first ``starts``."""
    within = torch.arange(tokens - (bos is not None))

    def draw(step: int, generator: Generator) -> dict[str, Tensor]:
        start = torch.randint(starts, (rows, 1), generator=generator)
        windows = ids[start + within].long()
        if bos is not None:
            windows = torch.nn.functional.pad(windows, (1, 0), value=bos)
        return {'input_ids': windows, 'labels': windows}

    return draw


def _check(**given: tuple[int, int]) -> None:
    """Checks numbers by name, each given with the smallest that it may be."""
    for name, (value, least) in given.items():
        if value < least:
            raise ValueError(
                f"Expected '{name}' to be at least {least} (got {value})."
            )
