import json
from collections.abc import Callable
from typing import Any

from gnnbridge.report.findings import findings
from gnnbridge.report.reading import TITLES
from gnnbridge.report.rules.finding import SEVERITIES, beside

FIELDS = {'severity', 'diagnostic', 'title', 'text', 'where'}


def test_the_worst_comes_first(profile: dict[str, Any]) -> None:
    found = findings(profile)
    levels = [SEVERITIES.index(item['severity']) for item in found]
    assert levels == sorted(levels)
    assert set(levels) == {0, 1, 2}
    for item in found:
        assert set(item) == FIELDS
        assert item['diagnostic'] in TITLES
        assert item['text'].endswith('.')
        assert not item['title'].endswith('.')
    # Within a severity they follow the page.
    order = list(TITLES)
    for level in SEVERITIES:
        names = [
            order.index(item['diagnostic'])
            for item in found
            if item['severity'] == level
        ]
        assert names == sorted(names)


def test_findings_are_plain_and_the_same_from_json(
    profile: dict[str, Any],
) -> None:
    found = findings(profile)
    again = json.loads(json.dumps(profile, allow_nan=False))
    assert findings(again) == found == json.loads(json.dumps(found))


def test_nothing_that_was_not_trained_is_called_learned(
    make_profile: Callable[..., dict[str, Any]],
) -> None:
    profile = make_profile(layers=3, heads=4, tokens=40, learned=0.02)
    for section in profile['diagnostics'].values():
        section['baseline'] = section['model']
    learned = [f for f in findings(profile) if f['severity'] != 'info']
    # A task at chance, and rounding that any weights suffer, stay findings.
    assert all(
        'guess' in f['title']
        or 'fail' in f['title']
        or f['title'].startswith('Half precision')
        for f in learned
    )


def test_every_diagnostic_says_something_of_a_sound_model(
    make_profile: Callable[..., dict[str, Any]],
) -> None:
    profile = make_profile(layers=3, heads=4, tokens=40, learned=0.02)
    assert {item['diagnostic'] for item in findings(profile)} == set(TITLES)


def test_refused_parts_give_no_findings(refused: dict[str, Any]) -> None:
    named = {item['diagnostic'] for item in findings(refused)}
    assert 'squashing' not in named
    assert 'retrieval' not in named
    texts = ' '.join(item['text'] for item in findings(refused))
    assert 'o re-initialised weights were measured beside it' in texts


def test_a_profile_of_nothing_has_no_findings(profile: dict[str, Any]) -> None:
    for section in profile['diagnostics'].values():
        for side in ('model', 'baseline'):
            section[side] = dict.fromkeys(section[side] or {})
    assert findings(profile) == []
    profile['diagnostics'] = {}
    assert findings(profile) == []


def test_tiny_profiles_have_findings(tiny: dict[str, Any]) -> None:
    assert findings(tiny)


def test_beside_is_a_sentence() -> None:
    assert beside('2', 'null: 1') == 'Null: 1; re-initialised weights: 2.'
    assert beside('2', None) == 'Re-initialised weights: 2.'
    assert beside(None, None).startswith('No re-initialised weights were')
