import pytest

from gnnbridge.report.theme import (
    CELLS,
    INKS,
    LINES,
    RAMP,
    RAMP_STEPS,
    ROLES,
    STATES,
    declarations,
    role_of,
)


def _luminance(color: str) -> float:
    parts = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (
        p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4
        for p in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(first: str, second: str) -> float:
    """The contrast ratio of the Web Content Accessibility Guidelines 2.2."""
    low, high = sorted([_luminance(first), _luminance(second)])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize('theme', ['light', 'dark'])
@pytest.mark.parametrize('ground', ['paper', 'wash'])
@pytest.mark.parametrize('role', ['ink', 'quiet', *STATES])
def test_text_can_be_read_in_both_themes(
    theme: str, ground: str, role: str
) -> None:
    # Level AA for text of any size.
    text, below = (getattr(ROLES[name], theme) for name in (role, ground))
    assert contrast(text, below) >= 4.5


@pytest.mark.parametrize('theme', ['light', 'dark'])
@pytest.mark.parametrize('role', LINES)
def test_lines_stand_out_in_both_themes(theme: str, role: str) -> None:
    # Level AA for what is not text.
    line, paper = (getattr(ROLES[name], theme) for name in (role, 'paper'))
    assert contrast(line, paper) >= 3


@pytest.mark.parametrize('theme', ['light', 'dark'])
def test_numbers_in_cells_can_be_read_at_every_step(theme: str) -> None:
    for step in range(RAMP_STEPS):
        cell, text = (
            getattr(ROLES[f'{kind}-{step}'], theme) for kind in ('ramp', 'on')
        )
        assert contrast(cell, text) >= 4


@pytest.mark.parametrize('theme', ['light', 'dark'])
def test_more_is_further_from_the_paper(theme: str) -> None:
    paper = getattr(INKS['paper'], theme)
    steps = [contrast(getattr(s, theme), paper) for s in RAMP.values()]
    assert steps == sorted(steps)
    assert len(steps) == RAMP_STEPS


def test_every_role_is_known_by_its_colour_on_paper() -> None:
    for role, shade in ROLES.items():
        assert role_of(shade.light.upper()) == role
    assert role_of('#123456') is None


def test_both_themes_declare_the_same_variables() -> None:
    light, dark = declarations(dark=False), declarations(dark=True)
    assert light.count('--') == dark.count('--') == len(ROLES)
    assert f'--blue: {LINES["blue"].light};' in light
    assert f'--blue: {LINES["blue"].dark};' in dark


def test_text_on_cells_has_two_shades_in_the_dark() -> None:
    assert len({shade.dark for shade in CELLS.values()}) == 2
