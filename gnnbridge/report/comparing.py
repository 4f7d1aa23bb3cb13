"""Writes profiles of several models, or of one before and after, as a page."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gnnbridge.report.explorer import explorer_data, most_sunk
from gnnbridge.report.figures.lines import look_of
from gnnbridge.report.figures.together import CURVES, curve_of, plot_together
from gnnbridge.report.headlines import Headline, headlines
from gnnbridge.report.html import page, write_page
from gnnbridge.report.overview import told
from gnnbridge.report.panels import panel
from gnnbridge.report.reading import TITLES, as_dict, part
from gnnbridge.report.rules.finding import SEVERITIES
from gnnbridge.report.section import Key, Panel, numeral, percent
from gnnbridge.report.theme import role_of

# A change of less than this share of the numbers is not called one.
_SAME = 0.05
_DASHES = {'--': '5 3', '-.': '6 2 1.5 2', ':': '1.5 2.5'}
Plain = Mapping[str, Any]


@dataclass(frozen=True)
class Cell:
    """One number of one model.

    Attributes:
        text: The number.
        difference: How far it is from the first model's.
        verdict: ``'better'``, ``'worse'`` or ``''``.
    """

    text: str
    difference: str = ''
    verdict: str = ''


@dataclass(frozen=True)
class Told:
    """One finding, as each of the models has it.

    Attributes:
        diagnostic: Its diagnostic.
        title: What is found.
        severity: The worst that it has.
        change: ``'gone'``, ``'new'``, ``'stays'`` or ``'some'``.
        sides: The finding of each model, ``None`` where it is not found.
    """

    diagnostic: str
    title: str
    severity: str
    change: str
    sides: Sequence[Plain | None]


def render_comparison(profiles: Sequence[Any], names: Sequence[str]) -> str:
    """Draws a page that compares profiles with the first of them.

    Args:
        profiles: Two or more of what ``Profile.to_dict()`` returns, or
            profiles themselves: of models, or of one before and after.
        names: What each is called, all different.

    Returns:
        A complete HTML document that needs nothing beside it.

    Raises:
        ValueError: If there are fewer than two, names are missing or the same,
            or a profile was written in another version of the format.
    """
    plain = [as_dict(profile) for profile in profiles]
    if len(plain) < 2 or len(plain) != len(names):
        raise ValueError(
            "Expected 'profiles' to be two or more, with as many 'names' (got "
            f'{len(plain)} and {len(names)}).'
        )
    if len(set(names)) < len(names):
        raise ValueError(
            f"Expected 'names' to differ (got {', '.join(names)})."
        )
    return page(
        'comparison.html.jinja',
        profiles=plain,
        names=names,
        keys=_keys(names),
        groups=groups(plain),
        findings=compared(plain),
        panels={
            name: _panels(plain, names, name)
            for name in TITLES
            if any(part(profile, name) for profile in plain)
        },
        titles=TITLES,
        graph_data=explorer_data(plain, names),
        start_layer=next(
            (layer for layer in map(most_sunk, plain) if layer is not None),
            0,
        ),
    )


def write_comparison(
    profiles: Sequence[Any], names: Sequence[str], path: str | Path
) -> Path:
    """Writes :func:`render_comparison`'s page and returns its path."""
    return write_page(render_comparison(profiles, names), path)


def groups(
    profiles: Sequence[Plain],
) -> dict[str, list[tuple[str, list[Cell]]]]:
    """For each diagnostic its numbers: a label, and a cell for each model."""
    found: dict[str, list[tuple[str, list[Cell]]]] = {}
    for name, title in TITLES.items():
        columns = [headlines(profile, name) for profile in profiles]
        template = next((column for column in columns if column), None)
        if template is None:
            continue
        rows = []
        for place, item in enumerate(template):
            numbers = [
                column[place].model if column else None for column in columns
            ]
            if any(value is not None for value in numbers):
                cells = _cells(item.headline, numbers)
                rows.append((item.headline.label, cells))
        found[title] = rows
    return found


def _cells(headline: Headline, numbers: Sequence[float | None]) -> list[Cell]:
    first = numbers[0]
    cells = [Cell(headline.write(first))]
    for value in numbers[1:]:
        if first is None or value is None or first == value:
            cells.append(Cell(headline.write(value)))
            continue
        change = value - first
        if not math.isfinite(change):
            text = ''
        elif headline.write is percent:
            text = f'{100 * change:+.0f} points'.replace('-', '−')
        else:
            text = ('+' if change > 0 else '') + numeral(change)
        verdict = _verdict(headline.better, first, value)
        cells.append(Cell(headline.write(value), text, verdict))
    return cells


def _verdict(better: str, before: float, after: float) -> str:
    if not better or math.isclose(before, after, rel_tol=_SAME):
        return ''
    is_better = {
        'more': after > before,
        'less': after < before,
        'near 0': abs(after) < abs(before),
    }[better]
    return 'better' if is_better else 'worse'


def compared(profiles: Sequence[Plain]) -> list[Told]:
    """All findings but those only worth knowing, the worst first."""
    columns = [
        {
            (item['diagnostic'], item['title']): item
            for item in told(profile)
            if item['severity'] != 'info'
        }
        for profile in profiles
    ]
    keys = dict.fromkeys(key for column in columns for key in column)
    rows = []
    for diagnostic, title in keys:
        sides = [column.get((diagnostic, title)) for column in columns]
        levels = [side['severity'] for side in sides if side is not None]
        worst = min(levels, key=SEVERITIES.index)
        rows.append(Told(diagnostic, title, worst, _change(sides), sides))
    order = ('new', 'stays', 'some', 'gone')
    rows.sort(
        key=lambda row: (
            order.index(row.change),
            SEVERITIES.index(row.severity),
        )
    )
    return rows


def _change(sides: Sequence[Plain | None]) -> str:
    there = [side is not None for side in sides]
    if all(there):
        return 'stays'
    if not there[0] and all(there[1:]):
        return 'new'
    if there[0] and not any(there[1:]):
        return 'gone'
    return 'some'


def _keys(names: Sequence[str]) -> list[Key]:
    """The line of each model."""
    keys = []
    for place, name in enumerate(names):
        look = look_of(place)
        dash = _DASHES.get(look['linestyle'], '')
        keys.append(Key(name, role_of(look['color']) or 'ink', dash))
    return keys


def _panels(
    profiles: Sequence[Plain], names: Sequence[str], diagnostic: str
) -> list[Panel]:
    panels = []
    keys = _keys(names)
    for name, curve in CURVES.items():
        if curve.diagnostic != diagnostic:
            continue
        there = [
            place
            for place, profile in enumerate(profiles)
            if curve_of(profile, curve)[0]
        ]
        if not there:
            continue
        drawn = panel(plot_together, profiles, _means(profiles, names, name),
                      curve=name)  # fmt: skip
        # Names are the reader's: they go into the page, not into the drawing.
        legend = [keys[place] for place in there]
        panels.append(dataclasses.replace(drawn, legend=legend))
    return panels


def _means(profiles: Sequence[Plain], names: Sequence[str], curve: str) -> str:
    parts = []
    for profile, name in zip(profiles, names, strict=True):
        ys = [y for y in curve_of(profile, CURVES[curve])[0] if y is not None]
        if ys:
            parts.append(f'{name} {numeral(ys[0])} to {numeral(ys[-1])}')
    return f'From first to last: {"; ".join(parts)}.'
