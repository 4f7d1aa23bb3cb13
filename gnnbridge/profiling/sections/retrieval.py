"""Retrieval: what is found by where it stands, what is copied and counted."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from gnnbridge.profiling.sampling import Samples, Subject, Tally, Task
from gnnbridge.profiling.sections.digits import (
    CANDIDATES,
    copying_tasks,
    counting_tasks,
    found_copies,
    found_counts,
)
from gnnbridge.profiling.sections.key_values import (
    found_pairs,
    key_value_tasks,
)
from gnnbridge.profiling.sections.needles import found_needles, needle_tasks
from gnnbridge.profiling.settings import ProfileSettings

_PLANS: dict[str, Callable[[Subject], list[Task]]] = {
    'key_value': key_value_tasks,
    'needle': needle_tasks,
    'copying': copying_tasks,
    'counting': counting_tasks,
}
_NOT_CAUSAL = (
    'Expected a causal model, which is asked by what it predicts next (got '
    'one in which tokens attend to later ones).'
)


class Retrieval:
    """Key-value pairs, needles, copies and counts, by place and length.

    An answer is the likeliest of several candidates: nothing hangs on whether
    the model follows instructions. Where that of the embedded decoder is
    known, keys and values are the tokens that it was trained on, and the
    answer is the likeliest of all tokens.
    """

    name = 'retrieval'
    meaning = (
        'What a text says is of use only if it is found wherever it stands. '
        'Accuracy by place shows where it is lost; how often a place is named '
        'for a key that is not there shows how much of it is a habit.'
    )

    def sampler(self, settings: ProfileSettings) -> None:
        """Nothing: the texts of the tasks are their own."""
        return None

    def tasks(self, subject: Subject) -> list[Task]:
        """Some questions each: a depth, a length, a part of the pairs."""
        if not subject.causal:
            raise NotImplementedError(_NOT_CAUSAL)
        if not hasattr(subject.tokenizer, 'get_vocab'):
            kind = type(subject.tokenizer).__name__
            raise NotImplementedError(
                f"Expected the model's tokenizer, to ask it in its own tokens "
                f"(got '{kind}')."
            )
        tasks: list[Task] = []
        for name, plan in _PLANS.items():
            try:
                tasks += plan(subject)
            except NotImplementedError as refusal:
                run = partial(_refuse, str(refusal))
                tasks.append(Task(f'retrieval/{name}', run, 0.0, 0))
        return tasks

    def model(self, tally: Tally, subject: Subject) -> dict[str, Any] | None:
        """The curves by place, and accuracy by length."""
        own = tally.under('retrieval/')
        if not own.moments:
            return None
        return {
            'key_value': found_pairs(own, subject),
            'needle': found_needles(own),
            'copying': found_copies(own, subject),
            'counting': found_counts(own, subject),
        }

    def null(self, tally: Tally, subject: Subject) -> dict[str, Any]:
        """What guessing gives."""
        found = self.model(tally, subject) or {}
        null: dict[str, Any] = {
            task: {'chance': part['chance']}
            for task, part in found.items()
            if part is not None
        }
        if 'counting' in null:
            # Two places drawn evenly from c are (c^2 - 1) / 3c apart.
            apart = (CANDIDATES**2 - 1) / (3 * CANDIDATES)
            null['counting']['mean_error'] = apart
        return null


def _refuse(reason: str, subject: Subject) -> Samples:
    raise NotImplementedError(reason)
