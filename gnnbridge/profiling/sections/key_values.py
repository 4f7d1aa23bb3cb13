"""Key-value retrieval by the place of the pair."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from gnnbridge.datasets.prompts import Prompt, json_retrieval
from gnnbridge.profiling.reading import reading_limit
from gnnbridge.profiling.retrieval import (
    RetrievalTask,
    _stream_vocabulary,
    curve_by_place,
    in_columns,
    retrieval_task,
)
from gnnbridge.profiling.sampling import Samples, Subject, Tally, Task
from gnnbridge.profiling.sections.text_questions import (
    pass_memory,
    prompt_lengths,
    score,
    unreadable,
)

# Tokens of one task.
_TASK_TOKENS = 1 << 15
# Prompts that are looked at to see whether all of them fit, and how much
# longer others may be.
_LOOKED_AT = 8
_SPARE = 1.05


@dataclass(frozen=True)
class JsonTask:
    """JSON objects of random keys and values, in text.

    Attributes:
        asked: Questions for keys that are there.
        control: Questions for keys that are not.
        num_tokens: About how many tokens all of them have together.
    """

    asked: tuple[Prompt, ...]
    control: tuple[Prompt, ...]
    num_tokens: int

    name = 'a JSON object of random keys'

    def samples(
        self, subject: Subject, part: int, parts: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """See :meth:`RetrievalTask.samples`; the values are to choose from."""
        asked, control = self.asked[part::parts], self.control[part::parts]
        place = torch.tensor([prompt.place for prompt in asked])
        picked = score(subject, asked).picked
        right = picked.gather(1, place.unsqueeze(1)).squeeze(1)
        named = score(subject, control).picked
        return in_columns(right, place, named.size(1)), named.numpy()


def json_task(subject: Subject) -> JsonTask | None:
    """Key-value retrieval in text, for any tokenizer.

    Args:
        subject: The model that is asked.

    Returns:
        The task; ``None`` if the context has no room for all pairs.
    """
    settings = subject.settings
    generator = torch.Generator().manual_seed(settings.seed)
    asked, control = (
        json_retrieval(
            settings.questions, settings.pairs, bound=bound, generator=generator
        )
        for bound in (True, False)
    )
    lengths = prompt_lengths(subject.tokenizer, asked[:_LOOKED_AT])
    # Others may be somewhat longer than those.
    longest = round(_SPARE * max(lengths))
    if reading_limit(subject.model, longest) < longest:
        return None
    average = sum(lengths) / len(lengths)
    total = round(2 * settings.questions * average)
    return JsonTask(tuple(asked), tuple(control), total)


def key_value_tasks(subject: Subject) -> list[Task]:
    """Some of the questions each, with as many of the control."""
    task = _pairs(subject)
    parts = -(-task.num_tokens // _TASK_TOKENS)
    parts = min(parts, subject.settings.questions)
    # Of a question with its control; the stream asks several in one sequence.
    length = -(-task.num_tokens // subject.settings.questions)
    return [
        Task(
            f'retrieval/key_value {part}',
            partial(_answer_pairs, part, parts),
            task.num_tokens / parts,
            pass_memory(subject, length),
        )
        for part in range(parts)
    ]


def _pairs(subject: Subject) -> RetrievalTask | JsonTask:
    """Pairs in the stream of the embedded model, in JSON, or in any tokens."""
    settings, tokenizer = subject.settings, subject.tokenizer
    found: RetrievalTask | JsonTask | None = None
    if _stream_vocabulary(tokenizer) is None and unreadable(subject) is None:
        found = json_task(subject)
    if found is None:
        found = retrieval_task(
            subject.model,
            tokenizer,
            pairs=settings.pairs,
            questions=settings.questions,
            bos=subject.bos,
            seed=settings.seed,
        )
    if found is None:
        raise NotImplementedError(
            'Expected room for two key-value pairs in vocabulary and context '
            'of the model (got less).'
        )
    return found


def _answer_pairs(part: int, parts: int, subject: Subject) -> Samples:
    right, named = _pairs(subject).samples(subject, part, parts)
    return {
        'retrieval/key_value/accuracy': right,
        'retrieval/key_value/absent': named,
    }


def found_pairs(own: Tally, subject: Subject) -> dict[str, Any] | None:
    """Accuracy by the place of the pair."""
    if 'key_value/accuracy' not in own:
        return None
    size = own.count('key_value/accuracy').size
    return {
        'task': _pairs(subject).name,
        'places': list(range(size)),
        **curve_by_place(own, 'key_value', 1 / size),
    }
