"""From what was counted to the sections of a profile."""

from __future__ import annotations

import textwrap
from typing import Any

from gnnbridge.profiling.plain import plain
from gnnbridge.profiling.sampling import SectionModule, Subject, Tally


def assemble(
    section: SectionModule,
    tally: Tally,
    subject: Subject,
    baseline: Subject | None,
) -> dict[str, Any]:
    """One section of a profile, as plain data.

    Args:
        section: The diagnostic.
        tally: What was counted of all subjects.
        subject: The model.
        baseline: The re-initialised model, if it was measured.
    """
    reasons = _reasons(tally.under('model/'), section.name)
    found = _found(section, tally.under('model/'), subject, reasons)
    again = None
    if baseline is not None:
        again = _found(section, tally.under('baseline/'), baseline, [])
    status = 'measured' if not reasons else 'partly'
    return plain(
        {
            'status': 'refused' if found is None else status,
            'reasons': reasons,
            'meaning': section.meaning,
            'model': found,
            'baseline': again,
            'null': {}
            if found is None
            else section.null(tally.under('model/'), subject),
        }
    )


def _found(
    section: SectionModule, tally: Tally, subject: Subject, reasons: list[str]
) -> dict[str, Any] | None:
    """What a section says of a subject, with the spread of what it sampled."""
    try:
        found = section.model(tally, subject)
    except NotImplementedError as refusal:
        reasons.append(str(refusal))
        return None
    if found is None:
        return None
    own = tally.under(f'{section.name}/')
    sampled = [name for name in own.moments if name in found]
    return {
        **found,
        'spread': {name: own.deviation(name) for name in sampled},
        'count': max(
            (own.count(name).max() for name in own.moments), default=0
        ),
    }


def _reasons(tally: Tally, section: str) -> list[str]:
    """Why parts of a section are missing, each reason once."""
    own = {
        key: reason
        for key, reason in tally.reasons.items()
        if key.startswith(f'{section}/')
    }
    return [
        textwrap.shorten(reason, 400)
        for reason in dict.fromkeys(own[key] for key in sorted(own))
    ]
