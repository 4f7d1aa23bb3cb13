"""What a section of the report is made of, and how it writes numbers."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

Numbers = Sequence[float | None]


@dataclass(frozen=True)
class Key:
    """An entry of a legend.

    Args:
        label: What it says.
        color: The role of its colour.
        dash: Dashes as in SVG, none for a full line.
        filled: Whether it is a patch and not a line.
    """

    label: str
    color: str
    dash: str = ''
    filled: bool = False


@dataclass(frozen=True)
class Panel:
    """One picture with its title, its legend, and the text under it.

    Args:
        title: The title.
        unit: What its vertical axis counts, where the figure does not say.
        image: An SVG element, escaped.
        caption: What it shows, in numbers.
        legend: What its lines are.
    """

    title: str
    unit: str
    image: str
    caption: str
    legend: Sequence[Key] = ()


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
        meaning: What the diagnostic says about a model, in a sentence.
        seen: What the figures show here, in numbers.
        compare: What they would show if nothing had been learned.
        status: ``'measured'``, ``'partly'`` or ``'refused'``.
        reasons: What could not be measured, and why.
        panels: The pictures.
        more: Further pictures, shown when asked for.
        tables: The tables under them.
    """

    anchor: str
    title: str
    meaning: str
    seen: str = ''
    compare: str = ''
    status: str = 'measured'
    reasons: Sequence[str] = ()
    panels: Sequence[Panel] = ()
    more: Sequence[Panel] = ()
    tables: Sequence[Table] = ()


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


def numeral(value: float | None, digits: int = 3) -> str:
    """Writes a number as :func:`number` does, with a minus for a hyphen.

    For text that is read and not parsed.
    """
    text = number(value, digits)
    return f'−{text[1:]}' if text.startswith('-') else text


def percent(value: float | None) -> str:
    """Writes a share as a whole percentage, ``None`` as a dash.

    The space before the sign does not break.
    """
    return '–' if value is None else f'{100 * value:.0f}\u00a0%'


def whole(value: float | None) -> str:
    """Writes a count, ``None`` as a dash."""
    return '–' if value is None else f'{value:,.0f}'


def spans(places: Sequence[int]) -> str:
    """Writes ascending whole numbers, runs of them as ``first–last``."""
    runs: list[list[int]] = []
    for place in places:
        if runs and place == runs[-1][-1] + 1:
            runs[-1].append(place)
        else:
            runs.append([place])
    return ', '.join(
        str(run[0]) if len(run) == 1 else f'{run[0]}–{run[-1]}' for run in runs
    )


def placed(noun: str, places: Sequence[int]) -> str:
    """Writes where something is: ``layer 3``, ``layers 2–4, 7``."""
    return f'{noun}{"" if len(places) == 1 else "s"} {spans(places)}'


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


def smallest(values: Numbers) -> int | None:
    """The place of the least defined value, ``None`` when there is none."""
    return largest([None if value is None else -value for value in values])


def last(values: Numbers) -> float | None:
    """The last defined value, ``None`` when there is none."""
    return next((v for v in reversed(values) if v is not None), None)
