"""What a section of the report is made of, and how it writes numbers."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

ProfileDict = Mapping[str, Any]
Numbers = Sequence[float | None]


@dataclass(frozen=True)
class Panel:
    """One picture with the text that stands in for it and under it."""

    image: str
    alt: str
    caption: str


@dataclass(frozen=True)
class Table:
    """A small table; cells are ready to print."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str


@dataclass(frozen=True)
class Section:
    """One heading of the page.

    Args:
        anchor: The name of the link to the section.
        title: The heading.
        seen: What the figures show here, in numbers.
        meaning: One sentence on what that says about the model.
        null: What the figures would show if nothing had been learned.
        panels: The pictures.
        tables: The tables under them.
    """

    anchor: str
    title: str
    seen: str
    meaning: str
    null: str
    panels: Sequence[Panel] = field(default_factory=tuple)
    tables: Sequence[Table] = field(default_factory=tuple)


SectionBuilder = Callable[[ProfileDict], Section | None]


def number(value: float | None, digits: int = 3) -> str:
    """Writes a number with ``digits`` significant digits, ``None`` as a dash.

    Args:
        value: The number; ``None`` and non-finite values mean "not defined".
        digits: The number of significant digits.

    Returns:
        Text without an exponent between ``1e-3`` and ``1e5``.
    """
    if value is None or not math.isfinite(value):
        return '–'
    if value == 0:
        return '0'
    if not 1e-3 <= abs(value) < 1e5:
        mantissa, exponent = f'{value:.{max(digits - 2, 0)}e}'.split('e')
        return f'{mantissa}e{int(exponent)}'
    decimals = max(digits - 1 - math.floor(math.log10(abs(value))), 0)
    return f'{value:,.{decimals}f}'


def percent(value: float | None) -> str:
    """Writes a share as a whole percentage, ``None`` as a dash.

    The space before the sign does not break.
    """
    return '–' if value is None else f'{100 * value:.0f}\u00a0%'


def mean(values: Numbers) -> float | None:
    """The mean of the defined values, ``None`` when there are none."""
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None


def median(values: Numbers) -> float | None:
    """The median of the defined values, ``None`` when there are none."""
    defined = [value for value in values if value is not None]
    return statistics.median(defined) if defined else None


def largest(values: Numbers) -> int | None:
    """The place of the largest defined value, ``None`` when there is none."""
    defined = [(v, i) for i, v in enumerate(values) if v is not None]
    return max(defined, key=lambda pair: pair[0])[1] if defined else None
