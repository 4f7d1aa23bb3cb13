"""What a rule finds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gnnbridge.report.reading import Part

#: From the worst to what is only worth knowing.
SEVERITIES = ('high', 'medium', 'info')


@dataclass(frozen=True)
class Finding:
    """One sentence on a model, with its place.

    Attributes:
        severity: One of :data:`SEVERITIES`.
        diagnostic: The name of the diagnostic.
        title: What is found, in a few words.
        text: The numbers, beside the null and the baseline.
        where: Layers, positions or lengths.
    """

    severity: str
    diagnostic: str
    title: str
    text: str
    where: str = ''


Rule = Callable[[Part], list[Finding]]


def beside(baseline: str | None, null: str | None) -> str:
    """What stands beside a number.

    Args:
        baseline: The baseline's number, ready to print.
        null: The null's number, with its name.
    """
    parts = [] if null is None else [null]
    if baseline is None:
        parts.append('no re-initialised weights were measured beside it')
    else:
        parts.append(f're-initialised weights: {baseline}')
    text = '; '.join(parts)
    return f'{text[0].upper()}{text[1:]}.'
