from typing import Any

import pytest

from gnnbridge.report.reading import measured
from gnnbridge.report.rules.finding import Finding
from gnnbridge.report.rules.sinks import sinks


def found(profile: dict[str, Any]) -> dict[str, Finding]:
    return {item.title: item for item in sinks(measured(profile, 'sinks'))}


@pytest.fixture
def section(profile: dict[str, Any]) -> dict[str, Any]:
    section: dict[str, Any] = profile['diagnostics']['sinks']
    for side in ('model', 'baseline'):
        section[side].update(
            layer=[0, 1, 2],
            sink_score=[[0.1] * 4, [0.9] * 4, [0.1] * 4],
            sink_rate=[0.0, 0.0, 0.0],
            sink_rate_by_token=[0.0] * 4,
            massive_count=[0.0, 0.0, 0.0],
            head_kind=[
                ['none'] * 4,
                ['no-op'] * 3 + ['broadcast'],
                ['none'] * 4,
            ],
        )
    return section


@pytest.mark.parametrize(
    ('rates', 'severity', 'where'),
    [
        ([0.0, 1.0, 0.75], 'high', 'layers 1–2'),
        ([0.0, 0.25, 0.0], 'medium', 'layer 1'),
    ],
)
def test_sinks_have_their_layers_and_their_kinds(
    profile: dict[str, Any],
    section: dict[str, Any],
    rates: list[float],
    severity: str,
    where: str,
) -> None:
    section['model']['sink_rate'] = rates
    item = found(profile)['Attention is parked on the first token']
    assert (item.severity, item.where) == (severity, where)
    assert 'Of 4 such heads, 3 read next to nothing' in item.text
    assert 'Uniform attention scores 0.0741' in item.text
    assert 're-initialised weights: 0' in item.text


def test_sinks_as_without_training_are_not_called_learned(
    profile: dict[str, Any], section: dict[str, Any]
) -> None:
    section['model']['sink_rate'] = [0.0, 1.0, 0.0]
    section['baseline']['sink_rate'] = [0.0, 1.0, 0.0]
    [item] = found(profile).values()
    assert item.severity == 'info'
    assert item.title == 'Sinks, but no more than without training'


def test_no_sink_is_said_too(
    profile: dict[str, Any], section: dict[str, Any]
) -> None:
    [item] = found(profile).values()
    assert (item.severity, item.title) == ('info', 'No attention sink')


def test_kinds_are_not_told_where_values_are_not_seen(
    profile: dict[str, Any], section: dict[str, Any]
) -> None:
    section['model'].update(sink_rate=[0.0, 1.0, 0.0], value_norm_ratio=None)
    [item] = found(profile).values()
    assert 'no-op' not in item.text


def test_sinks_at_later_tokens_are_those_beyond_the_baseline(
    profile: dict[str, Any], section: dict[str, Any]
) -> None:
    section['model']['sink_rate_by_token'] = [0.0, 0.2, 0.02, 0.3]
    section['baseline']['sink_rate_by_token'] = [0.0, 0.0, 0.0, 0.29]
    item = found(profile)['Sinks at later tokens']
    assert (item.severity, item.where) == ('medium', 'token 1')
    assert '20\u00a0%' in item.text


def test_massive_activations_name_their_layers(
    profile: dict[str, Any], section: dict[str, Any]
) -> None:
    section['model'].update(
        massive_count=[0.0, 2.0, 0.4], massive_ratio=[9.0, 2000.0, 1100.0]
    )
    item = found(profile)['Massive activations']
    assert item.where == 'layer 1'
    assert '2,000 times the median' in item.text
    assert item.severity == 'medium'
    section['baseline']['massive_count'] = [0.0, 1.0, 0.0]
    assert found(profile)['Massive activations'].severity == 'info'
