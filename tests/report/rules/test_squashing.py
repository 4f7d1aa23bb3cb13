from typing import Any

import pytest

from gnnbridge.report.reading import measured
from gnnbridge.report.rules.finding import Finding
from gnnbridge.report.rules.squashing import squashing


def found(profile: dict[str, Any]) -> dict[str, Finding]:
    part = measured(profile, 'squashing')
    return {item.title: item for item in squashing(part)}


def dip(share: float) -> list[float]:
    """A flat curve with a dip in its fifth tenth."""
    curve = [1.0] * 101
    curve[40:50] = [share] * 10
    return curve


@pytest.fixture
def section(profile: dict[str, Any]) -> dict[str, Any]:
    section: dict[str, Any] = profile['diagnostics']['squashing']
    section['model'].update(jacobian_last=dip(1.0), proxies=None, bounds=None)
    section['baseline']['jacobian_last'] = dip(1.0)
    section['null']['jacobian_last'] = dip(0.9)
    return section


@pytest.mark.parametrize(
    ('share', 'severity'), [(0.05, 'high'), (0.2, 'medium')]
)
def test_the_weakest_positions_are_named(
    profile: dict[str, Any],
    section: dict[str, Any],
    share: float,
    severity: str,
) -> None:
    section['model']['jacobian_last'] = dip(share)
    item = found(profile)['Some positions hardly reach the last token']
    assert (item.severity, item.where) == (severity, 'positions 40–49')
    assert 'uniform attention: 0.90 at its weakest' in item.text.lower()
    assert 're-initialised weights: 1.0 at their weakest' in item.text


@pytest.mark.parametrize('side', ['null', 'baseline'])
def test_what_the_graph_or_any_weights_do_is_not_called_learned(
    profile: dict[str, Any], section: dict[str, Any], side: str
) -> None:
    section['model']['jacobian_last'] = dip(0.05)
    section[side]['jacobian_last'] = dip(0.06)
    [item] = found(profile).values()
    assert item.severity == 'info'
    assert item.title == 'Positions hardly heard, as without training'


def test_positions_that_all_count_are_in_order(
    profile: dict[str, Any], section: dict[str, Any]
) -> None:
    [item] = found(profile).values()
    assert item.title == 'Every position reaches the last token'


@pytest.mark.parametrize(
    ('beyond', 'severity'), [(0.05, 'medium'), (0.4, 'high')]
)
def test_pairs_beyond_the_depth_are_under_reach(
    profile: dict[str, Any],
    section: dict[str, Any],
    beyond: float,
    severity: str,
) -> None:
    section['model']['under_reach'].update(
        beyond_depth_share=beyond, diameter=9, depth=3
    )
    item = found(profile)['Under-reach']
    assert item.severity == severity
    assert 'the 3 layers reach (diameter 9), 0' in item.text


def test_only_proved_bounds_can_be_broken(
    profile: dict[str, Any], section: dict[str, Any]
) -> None:
    bounds = {
        'proved': {'rigorous': True, 'violations': 3},
        'estimate': {'rigorous': False, 'violations': 50},
    }
    section['model']['bounds'] = bounds
    item = found(profile)['A proved bound does not hold']
    assert 'proved at 3.' in item.text
    assert 'estimate' not in item.text
    bounds['proved']['violations'] = 0
    assert 'A proved bound does not hold' not in found(profile)


@pytest.mark.parametrize(
    ('best', 'title'),
    [
        (0.9, 'Rollout stands in well for the Jacobian'),
        (0.4, 'No proxy stands in for the Jacobian'),
    ],
)
def test_the_best_proxy_is_named(
    profile: dict[str, Any], section: dict[str, Any], best: float, title: str
) -> None:
    section['model']['proxies'] = {
        'rollout': {'all': best},
        '-distance': {'all': 0.2},
        'Black': None,
    }
    item = found(profile)[title]
    assert 'ranked best by rollout' in item.text
    assert 'distance alone has 0.200' in item.text
