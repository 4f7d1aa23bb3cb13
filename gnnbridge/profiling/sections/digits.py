"""Copying and counting digits, by how many there are."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gnnbridge.datasets.digits import DigitBatch, copy_digits, count_digits
from gnnbridge.profiling.retrieval import in_columns
from gnnbridge.profiling.sampling import Samples, Subject, Tally, Task
from gnnbridge.profiling.sections.text_questions import (
    pass_memory,
    prompt_lengths,
    prompt_limit,
    questions_per,
    require_text,
    score,
    seeded,
)

CANDIDATES = 9
_SHORTEST = 8
# Prompts that are looked at to see how long they are.
_LOOKED_AT = 4


def copying_tasks(subject: Subject) -> list[Task]:
    """One task for each length; both ends are asked for."""
    return _digit_tasks(subject, 'copying', _copy, 2)


def counting_tasks(subject: Subject) -> list[Task]:
    """One task for each length."""
    return _digit_tasks(subject, 'counting', _count, 1)


def _digit_tasks(
    subject: Subject,
    name: str,
    run: Callable[[list[int], int, Subject], Samples],
    prompts: int,
) -> list[Task]:
    require_text(subject)
    lengths = _lengths(subject)
    if not lengths:
        raise NotImplementedError(
            f'Expected room for {_SHORTEST} digits and a question in '
            f'{prompt_limit(subject)} tokens (got less). Use more '
            'needle_tokens, or a model with a longer context.'
        )
    each = prompts * questions_per(subject, len(lengths))
    return [
        Task(
            f'retrieval/{name} {length}',
            partial(run, [*lengths], length),
            float(each * tokens),
            pass_memory(subject, tokens),
        )
        for length, tokens in lengths.items()
    ]


def _lengths(subject: Subject) -> dict[int, int]:
    """Numbers of digits that fit, and the tokens of their prompts."""
    found: dict[int, int] = {}
    length, limit = _SHORTEST, prompt_limit(subject)
    while True:
        generator = seeded(subject, f'lengths {length}')
        batches = [
            copy_digits(_LOOKED_AT, length, which='first', generator=generator),
            copy_digits(_LOOKED_AT, length, which='last', generator=generator),
            count_digits(_LOOKED_AT, length, generator=generator),
        ]
        prompts = [prompt for batch in batches for prompt in batch.prompts()]
        tokens = max(prompt_lengths(subject.tokenizer, prompts))
        if tokens > limit:
            return found
        found[length] = tokens
        length *= 2


def _copy(lengths: list[int], length: int, subject: Subject) -> Samples:
    count, found = questions_per(subject, len(lengths)), {}
    for which in ('first', 'last'):
        generator = seeded(subject, f'copying {which} {length}')
        batch = copy_digits(count, length, which=which, generator=generator)
        right, _ = _digits_answered(subject, batch)
        found[f'retrieval/copying/{which}'] = _in_column(right, lengths, length)
    return found


def _count(lengths: list[int], length: int, subject: Subject) -> Samples:
    count = questions_per(subject, len(lengths))
    generator = seeded(subject, f'counting {length}')
    batch = count_digits(
        count, length, num_candidates=CANDIDATES, generator=generator
    )
    right, off = _digits_answered(subject, batch)
    return {
        'retrieval/counting/accuracy': _in_column(right, lengths, length),
        'retrieval/counting/mean_error': _in_column(off, lengths, length),
    }


def _in_column(values: Tensor, lengths: list[int], length: int) -> np.ndarray:
    """Values in the column of their length, NaN elsewhere ``[S, K]``."""
    column = torch.full((len(values),), lengths.index(length))
    return in_columns(values, column, len(lengths))


def _digits_answered(
    subject: Subject, batch: DigitBatch
) -> tuple[Tensor, Tensor]:
    """Whether answers are right, and how far they are off ``[B]``."""
    picked = score(subject, batch.prompts()).picked
    at = batch.right.unsqueeze(1)
    off = (batch.candidates - batch.candidates.gather(1, at)).abs()
    return picked.gather(1, at).squeeze(1), (picked * off).sum(1)


def found_copies(own: Tally, subject: Subject) -> dict[str, Any] | None:
    """How often each end is copied rightly, by length."""
    if 'copying/last' not in own:
        return None
    return {
        'lengths': [*_lengths(subject)],
        'first': own.mean('copying/first'),
        'last': own.mean('copying/last'),
        'chance': 0.5,
        'questions': own.count('copying/last'),
    }


def found_counts(own: Tally, subject: Subject) -> dict[str, Any] | None:
    """How often, and how nearly, ones are counted, by length."""
    if 'counting/accuracy' not in own:
        return None
    return {
        'lengths': [*_lengths(subject)],
        'accuracy': own.mean('counting/accuracy'),
        'mean_error': own.mean('counting/mean_error'),
        'chance': 1 / CANDIDATES,
        'questions': own.count('counting/accuracy'),
    }
