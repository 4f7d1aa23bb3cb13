"""The top of the page: findings, and one tile for each diagnostic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from gnnbridge.report.findings import findings
from gnnbridge.report.headlines import Found, headlines
from gnnbridge.report.reading import TITLES, part
from gnnbridge.report.rules.finding import SEVERITIES

_WIDTH, _HEIGHT = 200.0, 16.0


@dataclass(frozen=True)
class Tile:
    """One diagnostic at a glance.

    Attributes:
        anchor: The name of the link to its section.
        title: Its name.
        status: ``'measured'``, ``'partly'`` or ``'refused'``.
        severity: The worst of its findings.
        label: What the number is.
        model: The number, ready to print.
        baseline: That of the re-initialised weights.
        null: That of the null.
        scale: The three on one line, an SVG element.
    """

    anchor: str
    title: str
    status: str
    severity: str
    label: str
    model: str
    baseline: str
    null: str
    scale: Markup


def told(profile: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The findings of a profile, those that it carries if it does."""
    return profile.get('findings') or findings(profile)


def tiles(profile: Mapping[str, Any]) -> list[Tile]:
    """A tile for every diagnostic that was asked for."""
    found = told(profile)
    made = []
    for name, title in TITLES.items():
        section = part(profile, name)
        if section is None:
            continue
        first = headlines(profile, name)[0]
        write = first.headline.write
        made.append(
            Tile(
                anchor=name,
                title=title,
                status=section.status,
                severity=worst(found, name),
                label=first.headline.label,
                model=write(first.model),
                baseline=write(first.baseline),
                null=write(first.null),
                scale=_scale(first),
            )
        )
    return made


def worst(found: Sequence[Mapping[str, Any]], name: str) -> str:
    """The worst severity of a diagnostic's findings, none if it has none."""
    known = {item['severity'] for item in found if item['diagnostic'] == name}
    return next((level for level in SEVERITIES if level in known), '')


def counted(found: Sequence[Mapping[str, Any]], name: str) -> int:
    """How many findings of a diagnostic are more than worth knowing."""
    return sum(
        item['diagnostic'] == name and item['severity'] != 'info'
        for item in found
    )


def _scale(found: Found) -> Markup:
    """Model, baseline and null on one line."""
    numbers = [found.model, found.baseline, found.null]
    there = [
        value
        for value in numbers
        if value is not None and abs(value) != float('inf')
    ]
    if found.model not in there:
        return Markup('')
    low, high = found.headline.limits or (min(there), max(there))
    low, high = min(low, *there), max(high, *there)
    room = (high - low) or 1.0

    def x(value: float) -> str:
        return f'{8 + (value - low) / room * (_WIDTH - 16):.1f}'

    middle = _HEIGHT / 2
    shapes = [f'<path class="line" d="M4 {middle}H{_WIDTH - 4:g}"/>']
    if found.null in there and found.null is not None:
        shapes.append(f'<path class="null" d="M{x(found.null)} 2v12"/>')
    if found.baseline in there and found.baseline is not None:
        left = float(x(found.baseline)) - 4
        shapes.append(
            f'<rect class="base" x="{left:.1f}" y="{middle - 4:g}" '
            'width="8" height="8"/>'
        )
    if found.model is not None:
        shapes.append(
            f'<circle class="model" cx="{x(found.model)}" cy="{middle:g}" '
            'r="5"/>'
        )
    return Markup(
        f'<svg class="scale" viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" '
        f'aria-hidden="true">{"".join(shapes)}</svg>'
    )
