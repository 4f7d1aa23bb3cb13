"""Needles in a text: found or not, by their depth."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import numpy as np
import torch

from gnnbridge.datasets.prompts import Haystack, Prompt, needle_prompts
from gnnbridge.profiling.retrieval import curve_by_place, in_columns
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

DEPTHS = tuple(place / 8 for place in range(9))
# Needles beside the one that is asked for, fewer where there is little room:
# they and the question may take two thirds of it.
_OTHERS = (3, 2, 1)
_MOST_NEEDLES = 2 / 3
# Prompts that are looked at to see how long they are.
_LOOKED_AT = 4


def needle_tasks(subject: Subject) -> list[Task]:
    """One task for each depth, with its control."""
    require_text(subject)
    haystack, tokens = _haystack(subject), prompt_limit(subject)
    passes = 2.0 * questions_per(subject, len(DEPTHS)) * tokens
    memory = pass_memory(subject, tokens)
    return [
        Task(
            f'retrieval/needle {depth:g}',
            partial(_find_needles, place, haystack),
            passes,
            memory,
        )
        for place, depth in enumerate(DEPTHS)
    ]


def _haystack(subject: Subject) -> Haystack:
    """The largest that fits.

    Raises:
        NotImplementedError: If there is no room for text around needles.
    """
    limit, needed = prompt_limit(subject), 0

    def length(haystack: Haystack) -> int:
        middle = len(DEPTHS) // 2
        generator = torch.Generator().manual_seed(subject.settings.seed)
        prompts = needle_prompts(
            _LOOKED_AT, middle, haystack, generator=generator
        )
        return max(prompt_lengths(subject.tokenizer, prompts))

    for others in _OTHERS:
        empty = Haystack(DEPTHS, 0, others)
        needed = length(empty)
        if needed > _MOST_NEEDLES * limit:
            continue
        low, high = 0, limit
        while length(dataclasses.replace(empty, characters=high)) <= limit:
            low, high = high, 2 * high
        while high - low > 1:
            half = (low + high) // 2
            fits = length(dataclasses.replace(empty, characters=half)) <= limit
            low, high = (half, high) if fits else (low, half)
        return dataclasses.replace(empty, characters=low)
    raise NotImplementedError(
        f'Expected room for text around needles in {limit} tokens (got '
        f'needles and a question of {needed}). Use more needle_tokens, or a '
        'model with a longer context.'
    )


def _find_needles(place: int, haystack: Haystack, subject: Subject) -> Samples:
    """Asks for needles at one depth, and for some that are not there."""
    asked = _needles(subject, place, haystack, bound=True)
    control = _needles(subject, place, haystack, bound=False)
    scores, named = score(subject, asked), score(subject, control)
    first = torch.zeros(len(asked), dtype=torch.int64)
    chance = 1 / len(asked[0].candidates)
    lengths = prompt_lengths(subject.tokenizer, asked)
    columns = {
        'accuracy': scores.picked[:, 0],
        'absent': named.picked[:, 0],
        'margin': scores.margin(first),
        'chance': torch.full((len(asked),), chance, dtype=torch.float64),
        'tokens': torch.tensor(lengths, dtype=torch.float64),
    }
    return {
        f'retrieval/needle/{name}': in_columns(
            values, first + place, len(DEPTHS)
        )
        for name, values in columns.items()
    }


def _needles(
    subject: Subject, place: int, haystack: Haystack, *, bound: bool
) -> list[Prompt]:
    """Prompts that are all short enough."""
    limit = prompt_limit(subject)
    while True:
        prompts = needle_prompts(
            questions_per(subject, len(DEPTHS)),
            place,
            haystack,
            bound=bound,
            generator=seeded(subject, f'needle {place} {bound}'),
        )
        over = max(prompt_lengths(subject.tokenizer, prompts)) - limit
        if over <= 0 or not haystack.characters:
            return prompts
        # The longest of many is longer than that of the few looked at.
        fewer = max(0, haystack.characters - over)
        haystack = dataclasses.replace(haystack, characters=fewer)


def found_needles(own: Tally) -> dict[str, Any] | None:
    """Accuracy and lead of the right answer by depth."""
    if 'needle/accuracy' not in own:
        return None
    chance = float(np.nanmean(own.mean('needle/chance')))
    return {
        'depths': list(DEPTHS),
        **curve_by_place(own, 'needle', chance),
        'margin': own.mean('needle/margin'),
        'margin_spread': own.deviation('needle/margin'),
        'tokens': float(np.nanmean(own.mean('needle/tokens'))),
    }
