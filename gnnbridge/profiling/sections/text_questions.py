"""Asking a model in text: what fits, what is read, and what is answered."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator

from gnnbridge.datasets.digits import copy_digits
from gnnbridge.datasets.prompts import (
    Haystack,
    Prompt,
    json_retrieval,
    needle_prompts,
)
from gnnbridge.models.answering import (
    MOST_LOGITS,
    MOST_TOKENS,
    CandidateScores,
    encode_question,
    leading_tokens,
    score_questions,
)
from gnnbridge.profiling.reading import known_tokens, reading_limit
from gnnbridge.profiling.sampling import Subject

# Not told by all configs; heads of most models have about this width.
_HEAD_WIDTH = 64


def score(subject: Subject, prompts: Sequence[Prompt]) -> CandidateScores:
    """How likely the candidates of prompts are ``[B, C]``.

    Raises:
        NotImplementedError: If a prompt is longer than the model's context.
    """
    leading = leading_tokens(subject.tokenizer)
    questions = [
        encode_question(subject.tokenizer, p.text, p.candidates, leading)
        for p in prompts
    ]
    longest = max(question.longest for question in questions)
    limit = reading_limit(subject.model, longest)
    if longest > limit:
        raise NotImplementedError(
            f'Expected prompts of at most {limit} tokens, the context of the '
            f'model (got {longest}).'
        )
    return score_questions(subject.model, questions)


def prompt_lengths(tokenizer: Any, prompts: Sequence[Prompt]) -> list[int]:
    """Tokens of each prompt and its longest candidate."""
    leading = leading_tokens(tokenizer)
    return [
        encode_question(tokenizer, p.text, p.candidates, leading).longest
        for p in prompts
    ]


def prompt_limit(subject: Subject) -> int:
    """Tokens of a prompt with its answer at most."""
    return reading_limit(subject.model, subject.settings.needle_tokens)


def questions_per(subject: Subject, parts: int) -> int:
    """Questions of each part, an even number."""
    return max(2, subject.settings.questions // (2 * parts) * 2)


def seeded(subject: Subject, name: str) -> Generator:
    """Chance of its own for each task, whoever does it."""
    seed = zlib.crc32(f'{subject.settings.seed} {name}'.encode())
    return torch.Generator().manual_seed(seed)


def require_text(subject: Subject) -> None:
    """Refuses a model that cannot be asked in text."""
    reason = unreadable(subject)
    if reason is not None:
        raise NotImplementedError(reason)


def unreadable(subject: Subject) -> str | None:
    """Why a model cannot be asked in text, if so."""
    generator = torch.Generator().manual_seed(0)
    haystack = Haystack((0.0, 1.0), 200, others=1)
    prompts = [
        *json_retrieval(1, 2, generator=generator),
        *needle_prompts(1, 0, haystack, generator=generator),
        *copy_digits(1, 8, generator=generator).prompts(),
    ]
    texts = [prompt.text for prompt in prompts]
    try:
        ids = [
            i for text in texts for i in subject.tokenizer(text)['input_ids']
        ]
    except Exception as error:  # whatever a tokenizer raises
        return (
            'Expected a tokenizer that reads text (got '
            f'{type(error).__name__}: {error}).'
        )
    known = known_tokens(subject.model)
    if not ids or (known is not None and max(ids) >= known):
        return (
            f'Expected a tokenizer whose tokens the model knows, below {known} '
            f'(got {max(ids, default=None)}).'
        )
    if getattr(subject.tokenizer, 'unk_token_id', None) in ids:
        return (
            'Expected a tokenizer that knows letters, digits and brackets (got '
            'its unknown token for some).'
        )
    return None


def pass_memory(subject: Subject, tokens: int) -> int:
    """Bytes of what runs together: states, attention, cache and logits."""
    config = subject.model.config.get_text_config()
    width, vocabulary = (
        size if isinstance(size, int) else 1
        for size in (
            getattr(config, name, 1) for name in ('hidden_size', 'vocab_size')
        )
    )
    rows, heads = max(tokens, MOST_TOKENS), 1 + width // _HEAD_WIDTH
    each = width * (16 + 2 * subject.num_layers) + 2 * heads * tokens
    logits = max(tokens * vocabulary, min(MOST_LOGITS, rows * vocabulary))
    return 4 * rows * each + 12 * logits
