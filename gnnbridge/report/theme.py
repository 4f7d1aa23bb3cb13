"""The colours of the page, by role, in the light and in the dark.

Figures are drawn in the light colours. On the page each becomes a CSS
variable of the role's name, so that a drawing follows the theme.
"""

from __future__ import annotations

from typing import NamedTuple


class Shade(NamedTuple):
    """One role's colour on paper and on a dark screen."""

    light: str
    dark: str


# The lines are Okabe and Ito's: told apart under the common colour-vision
# deficiencies and in grey print.
LINES = {
    'blue': Shade('#0072b2', '#5cb3ec'),
    'vermilion': Shade('#d55e00', '#ff8f57'),
    'green': Shade('#009e73', '#3cc79b'),
    'purple': Shade('#b3578f', '#e39ac6'),
    'amber': Shade('#b97f00', '#f0bd52'),
    'sky': Shade('#2f93c8', '#a5dcf9'),
}
INKS = {
    'ink': Shade('#1b2733', '#e5eaef'),
    'quiet': Shade('#5f6b78', '#9fabb7'),
    'edge': Shade('#9aa4af', '#5c6874'),
    'rule': Shade('#dde2e7', '#2d3742'),
    'wash': Shade('#f4f6f8', '#1b222a'),
    'paper': Shade('#fdfdfc', '#13181e'),
}
STATES = {
    'high': Shade('#b3261e', '#ff8a80'),
    'medium': Shade('#9a5b00', '#f2bd5c'),
    'info': Shade('#2f6f4f', '#7fd0a6'),
}
RAMP_STEPS = 24
# From little to much: away from the paper in both themes.
_LIGHT_STOPS = ('#eef3f5', '#b9dde0', '#5fb3c7', '#2277ab', '#1f3c7a')
_DARK_STOPS = ('#1d2730', '#1f4a63', '#23809b', '#5cc0b4', '#e9f5c4')


def _ramp(stops: tuple[str, ...], steps: int) -> list[str]:
    """Colours at equal steps between the stops."""
    parts = [
        [int(stop[place : place + 2], 16) for place in (1, 3, 5)]
        for stop in stops
    ]
    colors = []
    for step in range(steps):
        at = step / (steps - 1) * (len(stops) - 1)
        low = min(int(at), len(stops) - 2)
        mixed = [
            round(a + (b - a) * (at - low))
            for a, b in zip(parts[low], parts[low + 1], strict=True)
        ]
        colors.append('#{:02x}{:02x}{:02x}'.format(*mixed))
    return colors


RAMP = {
    f'ramp-{step}': Shade(light, dark)
    for step, (light, dark) in enumerate(
        zip(
            _ramp(_LIGHT_STOPS, RAMP_STEPS),
            _ramp(_DARK_STOPS, RAMP_STEPS),
            strict=True,
        )
    )
}


def _on(step: int) -> Shade:
    """Text on a step of the ramp: on paper the full steps are dark."""
    # Two colours are enough, but each role is known by one of its own: the
    # last digits differ by what nobody sees.
    light = f'#0b12{step:02x}' if step < 16 else f'#fdfe{0xE0 + step:02x}'
    return Shade(light, '#fbfcfd' if step < 12 else '#0d1319')


CELLS = {f'on-{step}': _on(step) for step in range(RAMP_STEPS)}
ROLES: dict[str, Shade] = {**LINES, **INKS, **STATES, **RAMP, **CELLS}


def declarations(dark: bool) -> str:
    """The CSS variables of one theme."""
    return ' '.join(
        f'--{role}: {shade.dark if dark else shade.light};'
        for role, shade in ROLES.items()
    )


def role_of(color: str) -> str | None:
    """The role whose colour on paper this is."""
    return _BY_COLOR.get(color.lower())


_BY_COLOR = {shade.light: role for role, shade in ROLES.items()}
