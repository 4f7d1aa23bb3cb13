"""The panels of a section: those whose data are there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from matplotlib.axes import Axes

from gnnbridge.report.panels import panel
from gnnbridge.report.reading import TITLES, Part, dig, values
from gnnbridge.report.section import Numbers, Panel, Section, last, numeral


@dataclass(frozen=True)
class Wanted:
    """A panel that is drawn if its data are there.

    Attributes:
        needs: The path of its data in the model.
        plot: The function that draws it.
        caption: What is said under it.
        options: Further arguments of the function.
        side: Whose data it needs: ``'model'`` or ``'baseline'``.
    """

    needs: tuple[str, ...]
    plot: Callable[..., Axes]
    caption: str
    options: Mapping[str, Any] = field(default_factory=dict)
    side: str = 'model'


def drawn(
    profile: Mapping[str, Any], part: Part, wanted: Sequence[Wanted]
) -> list[Panel]:
    """Draws those of the panels whose data are there."""
    return [
        panel(item.plot, profile, item.caption, **item.options)
        for item in wanted
        if _there(dig(getattr(part, item.side), *item.needs))
    ]


def _there(data: Any) -> bool:
    """Whether there is any value in it, however deep."""
    if isinstance(data, Mapping):
        return any(map(_there, data.values()))
    if isinstance(data, list | tuple):
        return any(map(_there, data))
    return data is not None


def from_to(
    part: Part, *path: str, null: float | None = None, digits: int = 3
) -> str:
    """First and last value of a curve, beside its baseline and its null."""
    parts = [
        f'{label} {numeral(curve[0], digits)} to {numeral(last(curve), digits)}'
        for label, _, side in part.sides
        if (curve := values(side, *path))
    ]
    if null is not None:
        parts.append(f'collapsed {numeral(null)}')
    return f'From first to last: {"; ".join(parts)}.'


def least_and_most(part: Part, *path: str) -> str:
    """The range of a curve or of rows, beside its baseline."""
    parts = []
    for label, _, side in part.sides:
        there = _numbers(dig(side, *path))
        if there:
            low, high = numeral(min(there)), numeral(max(there))
            end = '' if low == high else f' to {high}'
            parts.append(f'{label} {low}{end}')
    return f'Range: {"; ".join(parts)}.'


def _numbers(data: Any) -> list[float]:
    if isinstance(data, list | tuple):
        return [value for item in data for value in _numbers(item)]
    return [] if data is None else [data]


def refused(part: Part) -> Section:
    """The section of a diagnostic that was not measured."""
    return Section(
        anchor=part.name,
        title=TITLES[part.name],
        meaning=part.meaning,
        status='refused',
        reasons=part.reasons,
    )


def at_end(curve: Numbers, digits: int = 3) -> str:
    """The last value of a curve as text."""
    return numeral(last(curve), digits)
