from typing import Any

import pytest

from gnnbridge.report.reading import measured
from gnnbridge.report.rules.finding import Finding
from gnnbridge.report.rules.retrieval import retrieval


def found(profile: dict[str, Any]) -> dict[str, Finding]:
    part = measured(profile, 'retrieval')
    return {item.title: item for item in retrieval(part)}


def curve(values: list[float], depth: float) -> dict[str, Any]:
    return {
        'places': list(range(len(values))),
        'accuracy': values,
        'absent': [0.05] * len(values),
        'corrected': [value - 0.05 for value in values],
        'total_accuracy': sum(values) / len(values),
        'chance': 0.05,
        'u_depth': depth,
        'u_depth_error': 0.02,
    }


@pytest.fixture
def section(profile: dict[str, Any]) -> dict[str, Any]:
    section: dict[str, Any] = profile['diagnostics']['retrieval']
    for side in ('model', 'baseline'):
        section[side].update(
            key_value=curve([0.05] * 8, 0.0),
            needle=None,
            copying=None,
            counting=None,
        )
    return section


@pytest.mark.parametrize(
    ('depth', 'severity'), [(0.4, 'high'), (0.2, 'medium')]
)
def test_a_u_names_its_worst_place(
    profile: dict[str, Any],
    section: dict[str, Any],
    depth: float,
    severity: str,
) -> None:
    values = [0.9, 0.8, 0.6, 0.5, 0.4, 0.6, 0.8, 0.9]
    section['model']['key_value'] = curve(values, depth)
    item = found(profile)['Key-value retrieval: lost in the middle']
    assert (item.severity, item.where) == (severity, 'worst at 4')
    assert 'the worst place is 4 with 35\u00a0%' in item.text
    assert 'A guess: 5\u00a0%; re-initialised weights: 5\u00a0%.' in item.text


def test_a_u_within_its_error_is_none(
    profile: dict[str, Any], section: dict[str, Any]
) -> None:
    section['model']['key_value'] = curve([0.8] * 8, 0.2)
    section['model']['key_value']['u_depth_error'] = 0.15
    [item] = found(profile).values()
    assert item.title == 'Key-value retrieval: alike at all places'


def test_a_u_without_training_is_no_finding(
    profile: dict[str, Any], section: dict[str, Any]
) -> None:
    section['model']['key_value'] = curve([0.8] * 8, 0.3)
    section['baseline']['key_value'] = curve([0.1] * 8, 0.28)
    [item] = found(profile).values()
    assert item.severity == 'info'


@pytest.mark.parametrize(
    ('values', 'title'),
    [
        ([0.9] * 4 + [0.5] * 4, 'early places are found better'),
        ([0.5] * 4 + [0.9] * 4, 'late places are found better'),
    ],
)
def test_a_slope_without_a_u_is_primacy_or_recency(
    profile: dict[str, Any],
    section: dict[str, Any],
    values: list[float],
    title: str,
) -> None:
    section['model']['key_value'] = curve(values, -0.2)
    item = found(profile)[f'Key-value retrieval: {title}']
    assert item.severity == 'high'
    assert item.text.startswith('By 0.40 from end to end.')


def test_a_task_at_chance_is_said_and_nothing_of_its_shape(
    profile: dict[str, Any], section: dict[str, Any]
) -> None:
    section['model']['key_value']['u_depth'] = 0.5
    [item] = found(profile).values()
    assert item.title == 'Key-value retrieval: no better than a guess'
    assert item.severity == 'medium'


def test_a_habit_of_place_is_found_by_the_absent_key(
    profile: dict[str, Any], section: dict[str, Any]
) -> None:
    model = curve([0.5, 0.6, 0.7, 0.5], 0.0)
    model['absent'] = [0.1, 0.1, 0.6, 0.1]
    section['model']['key_value'] = model
    item = found(profile)['Key-value retrieval: a habit of place']
    assert item.where == 'place 2'


@pytest.mark.parametrize(
    ('last', 'title', 'where'),
    [
        (
            [1.0, 0.7, 0.4],
            'Copying the last item fails in long lists',
            'from 16 items on',
        ),
        ([0.5, 0.5, 0.5], 'Copying: no better than a guess', 'all lengths'),
        ([1.0, 1.0, 0.95], 'Copies at every length', ''),
    ],
)
def test_copying(
    profile: dict[str, Any],
    section: dict[str, Any],
    last: list[float],
    title: str,
    where: str,
) -> None:
    section['model']['copying'] = {
        'lengths': [8, 16, 32],
        'first': [1.0, 1.0, 1.0],
        'last': last,
        'chance': 0.5,
    }
    item = found(profile)[title]
    assert item.where == where


@pytest.mark.parametrize(
    ('accuracy', 'title'),
    [
        ([0.9, 0.4, 0.1], 'Counting fails in long lists'),
        ([0.15, 0.1, 0.1], 'Counting: no better than a guess'),
        ([0.9, 0.8, 0.7], 'Counts at every length'),
    ],
)
def test_counting(
    profile: dict[str, Any],
    section: dict[str, Any],
    accuracy: list[float],
    title: str,
) -> None:
    section['model']['counting'] = {
        'lengths': [8, 16, 32],
        'accuracy': accuracy,
        'mean_error': [0.1, 1.0, 4.0],
        'chance': 0.1,
    }
    item = found(profile)[title]
    assert item.severity == ('info' if title.startswith('Counts') else 'medium')
