from typing import Any

import pytest

from gnnbridge.report.reading import measured
from gnnbridge.report.rules.collapse import collapse
from gnnbridge.report.rules.finding import Finding


def found(profile: dict[str, Any]) -> dict[str, Finding]:
    part = measured(profile, 'collapse')
    return {item.title: item for item in collapse(part)}


@pytest.fixture
def section(profile: dict[str, Any]) -> dict[str, Any]:
    section: dict[str, Any] = profile['diagnostics']['collapse']
    for side in ('model', 'baseline'):
        for pair in ('repeat_last', 'substitute_last'):
            section[side][pair]['bfloat16']['reaches_precision_at'] = None
    return section


@pytest.mark.parametrize(
    ('slope', 'again', 'severity', 'title'),
    [
        (-0.1, -1.0, 'info', 'The last token does not collapse'),
        (-0.6, -1.0, 'info', 'The last token collapses slower than in theory'),
        (-0.95, -1.0, 'info', 'The last token collapses, as with any weights'),
        (-0.95, -0.5, 'medium', 'The last token collapses'),
    ],
)
def test_slopes_are_set_beside_theory_and_baseline(
    profile: dict[str, Any],
    section: dict[str, Any],
    slope: float,
    again: float,
    severity: str,
    title: str,
) -> None:
    section['model']['repeat_last']['float32']['slope'] = slope
    section['baseline']['repeat_last']['float32']['slope'] = again
    item = found(profile)[title]
    assert item.severity == severity
    assert 'Theory: −1; re-initialised weights: −' in item.text


@pytest.mark.parametrize(
    ('again', 'severity', 'said'),
    [
        (None, 'high', 'never'),
        (64, 'high', 'from 64'),
        (32, 'medium', 'from 32'),
    ],
)
def test_equality_in_half_precision_is_always_a_finding(
    profile: dict[str, Any],
    section: dict[str, Any],
    again: int | None,
    severity: str,
    said: str,
) -> None:
    key = 'reaches_precision_at'
    section['model']['repeat_last']['bfloat16'][key] = 32
    section['baseline']['repeat_last']['bfloat16'][key] = again
    item = found(profile)['Half precision cannot tell sequences apart']
    assert (item.severity, item.where) == (severity, 'from 32 tokens on')
    assert f're-initialised weights: {said}' in item.text


def test_states_that_come_close_with_length(
    profile: dict[str, Any], section: dict[str, Any]
) -> None:
    title = 'Long sequences are told apart less well'
    assert title not in found(profile)
    curve = section['model']['sharpness']
    curve['nearest_neighbor'] = [0.8, 0.6, 0.4, 0.3, 0.2, 0.1]
    assert found(profile)[title].severity == 'medium'
    again = section['baseline']['sharpness']
    again['nearest_neighbor'] = curve['nearest_neighbor']
    assert found(profile)[title].severity == 'info'
