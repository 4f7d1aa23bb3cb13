from typing import Any

import pytest

from gnnbridge.report.reading import measured
from gnnbridge.report.rules.finding import Finding
from gnnbridge.report.rules.smoothing import smoothing


def found(profile: dict[str, Any]) -> list[Finding]:
    return smoothing(measured(profile, 'smoothing'))


@pytest.fixture
def section(profile: dict[str, Any]) -> dict[str, Any]:
    section: dict[str, Any] = profile['diagnostics']['smoothing']
    for side in ('model', 'baseline'):
        section[side].update(
            effective_rank=[40.0, 38.0, 37.0, 36.0],
            mean_cosine=[0.1, 0.1, 0.1, 0.1],
            mean_cosine_centered=[0.0, 0.0, 0.0, 0.05],
            ablations=None,
        )
    return section


def test_tokens_that_stay_apart_are_in_order(
    profile: dict[str, Any], section: dict[str, Any]
) -> None:
    [item] = found(profile)
    assert (item.severity, item.title) == ('info', 'No over-smoothing')
    assert 'from 40.0 to 36.0' in item.text


@pytest.mark.parametrize(
    ('rank', 'cosine', 'severity'),
    [
        ([40.0, 38.0, 15.0, 8.0], 0.5, 'high'),
        ([40.0, 38.0, 19.0, 15.0], 0.5, 'medium'),
        ([40.0, 38.0, 37.0, 36.0], 0.97, 'high'),
        ([40.0, 38.0, 37.0, 36.0], 0.85, 'medium'),
    ],
)
def test_a_fall_beyond_the_baseline_is_a_finding(
    profile: dict[str, Any],
    section: dict[str, Any],
    rank: list[float],
    cosine: float,
    severity: str,
) -> None:
    section['model'].update(
        effective_rank=rank, mean_cosine=[0.1, 0.2, 0.3, cosine]
    )
    [item] = found(profile)
    assert item.severity == severity
    if rank[2] < 37:
        assert item.where == 'steepest in layer 1'
    assert 'one common direction' in item.text
    assert 're-initialised weights: rank 40.0 to 36.0' in item.text


def test_the_same_fall_without_training_is_not_called_learned(
    profile: dict[str, Any], section: dict[str, Any]
) -> None:
    for side in ('model', 'baseline'):
        section[side].update(
            effective_rank=[40.0, 20.0, 9.0, 5.0],
            mean_cosine=[0.1, 0.5, 0.8, 0.99],
        )
    [item] = found(profile)
    assert item.severity == 'info'
    assert 'no faster than without training' in item.title


@pytest.mark.parametrize(
    ('ends', 'title'),
    [
        ((30.0, 2.0, 34.0), 'Residual connections hold tokens apart'),
        ((2.0, 30.0, 34.0), 'Residual connections and MLPs hold tokens apart'),
        ((30.0, 30.0, 2.0), 'MLPs hold tokens apart'),
    ],
)
def test_ablations_say_what_holds_tokens_apart(
    profile: dict[str, Any],
    section: dict[str, Any],
    ends: tuple[float, ...],
    title: str,
) -> None:
    names = ('attention_only', 'no_residual', 'no_mlp')
    section['model']['ablations'] = {
        name: {'effective_rank': [40.0, end]}
        for name, end in zip(names, ends, strict=True)
    }
    *_, item = found(profile)
    assert (item.severity, item.title) == ('info', title)


def test_ablations_without_effect_are_not_mentioned(
    profile: dict[str, Any], section: dict[str, Any]
) -> None:
    section['model']['ablations'] = {'no_mlp': {'effective_rank': [40, 35]}}
    assert len(found(profile)) == 1
