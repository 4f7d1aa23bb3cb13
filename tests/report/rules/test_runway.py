import math
from typing import Any

import pytest

from gnnbridge.report.reading import measured
from gnnbridge.report.rules.finding import Finding
from gnnbridge.report.rules.runway import runway


def found(profile: dict[str, Any]) -> dict[str, Finding]:
    return {item.title: item for item in runway(measured(profile, 'runway'))}


@pytest.fixture
def section(profile: dict[str, Any]) -> dict[str, Any]:
    section: dict[str, Any] = profile['diagnostics']['runway']
    for side in ('model', 'baseline'):
        section[side].update(duplicate_key=None, noise=None)
    return section


def set_asymmetry(
    section: dict[str, Any], model: float, again: float, null: float
) -> None:
    section['model']['asymmetry']['jacobian'] = model
    section['baseline']['asymmetry']['jacobian'] = again
    section['null']['asymmetry'] = null


@pytest.mark.parametrize(
    ('values', 'severity', 'title'),
    [
        ((3.0, 0.1, 1.0), 'high', 'Position bias beyond what the graph brings'),
        (
            (-1.5, 0.1, 1.0),
            'medium',
            'Position bias beyond what the graph brings',
        ),
        (
            (3.0, 2.9, 1.0),
            'info',
            'Position bias, as the causal graph has it at birth',
        ),
        (
            (3.0, 0.1, 3.2),
            'info',
            'Position bias, as the causal graph has it at birth',
        ),
        ((1.0, 1.6, 2.4), 'info', 'Position bias, less than at birth'),
        (
            (-3.0, 2.0, 2.0),
            'high',
            'Position bias beyond what the graph brings',
        ),
        ((0.2, 2.0, 2.0), 'info', 'Early and late positions count alike'),
    ],
)
def test_bias_is_set_beside_graph_and_baseline(
    profile: dict[str, Any],
    section: dict[str, Any],
    values: tuple[float, float, float],
    severity: str,
    title: str,
) -> None:
    set_asymmetry(section, *values)
    item = found(profile)[title]
    assert item.severity == severity
    assert 'By the Jacobian' in item.text
    if abs(values[0]) > math.log(2):
        weak = 'late' if values[0] > 0 else 'early'
        assert item.where == f'weakest: {weak} positions'


def test_without_a_jacobian_the_rollout_speaks(
    profile: dict[str, Any], section: dict[str, Any]
) -> None:
    section['model']['asymmetry']['jacobian'] = None
    [item] = found(profile).values()
    assert 'By the rollout' in item.text


def bound(gap: float, answered: float = 0.9) -> dict[str, Any]:
    gaps = {'first_last': gap, 'first_middle': 0.1, 'middle_last': 0.2}
    return {'preferred': gaps, 'answered_share': answered}


@pytest.mark.parametrize(
    ('gap', 'severity', 'title'),
    [
        (0.7, 'high', 'Of two bindings the first wins'),
        (-0.3, 'medium', 'Of two bindings the last wins'),
        (0.1, 'info', 'No preference between two bindings of a key'),
    ],
)
def test_the_binding_that_wins_is_named(
    profile: dict[str, Any],
    section: dict[str, Any],
    gap: float,
    severity: str,
    title: str,
) -> None:
    section['model']['duplicate_key'] = bound(gap)
    section['baseline']['duplicate_key'] = bound(0.0)
    item = found(profile)[title]
    assert item.severity == severity
    assert 'No bias: 0; re-initialised weights: 0.' in item.text


def test_answers_that_are_neither_value_prefer_nothing(
    profile: dict[str, Any], section: dict[str, Any]
) -> None:
    section['model']['duplicate_key'] = bound(0.7, answered=0.1)
    assert len(found(profile)) == 1


def test_noise_that_hits_late_places(
    profile: dict[str, Any], section: dict[str, Any]
) -> None:
    noise = {
        'sigmas': [0.5, 1.0],
        'accuracy': [[0.99, 0.98, 0.99], [0.9, 0.6, 0.3]],
        'spearman': [0.0, -1.0],
    }
    section['model']['noise'] = noise
    item = found(profile)['Noise hits some places harder']
    assert (item.severity, item.where) == ('medium', 'place 2')
    assert 'from 90\u00a0% to 30\u00a0%' in item.text
    # A rank correlation of hardly any spread says nothing.
    noise['accuracy'][1] = [0.92, 0.91, 0.9]
    assert 'Noise hits some places harder' not in found(profile)
