from typing import Any

import pytest

from gnnbridge.report.reading import (
    after_state,
    as_dict,
    by_layer,
    dig,
    flat,
    measured,
    part,
    precisions,
    short_states,
    shown_state,
    values,
)

STATES = ['before layer 0', 'before layer 3', 'after the last block']


def test_a_profile_is_read_as_dictionary_or_object(
    profile: dict[str, Any],
) -> None:
    class Holder:
        def to_dict(self) -> dict[str, Any]:
            return profile

    assert as_dict(profile) is profile
    assert as_dict(Holder()) is profile


@pytest.mark.parametrize('version', [None, 1, 3])
def test_other_versions_are_refused(
    profile: dict[str, Any], version: int | None
) -> None:
    profile['schema_version'] = version
    with pytest.raises(ValueError, match=rf'to be 2 \(got {version}\)'):
        as_dict(profile)


def test_what_was_not_asked_for_is_no_part(refused: dict[str, Any]) -> None:
    assert part(refused, 'retrieval') is None
    with pytest.raises(ValueError, match="diagnostic 'retrieval'"):
        measured(refused, 'retrieval')


def test_what_was_refused_says_why(refused: dict[str, Any]) -> None:
    found = part(refused, 'squashing')
    assert found is not None
    assert (found.status, dict(found.model)) == ('refused', {})
    assert found.sides == []
    with pytest.raises(ValueError, match='got a hybrid model'):
        measured(refused, 'squashing')


def test_sides_are_the_model_and_its_baseline(
    profile: dict[str, Any], refused: dict[str, Any]
) -> None:
    labels = [label for label, _, _ in measured(profile, 'sinks').sides]
    assert labels == ['this model', 're-initialised']
    assert len(measured(refused, 'sinks').sides) == 1


def test_own_precision_stands_first(profile: dict[str, Any]) -> None:
    pair = {'bfloat16': {'slope': 1}, 'float16': {'slope': 2}, 'x': None}
    assert precisions(pair) == ['float16', 'bfloat16']
    section = profile['diagnostics']['collapse']
    section['model']['repeat_last'] = pair
    section['model']['substitute_last'] = {'bfloat16': {'slope': 3}}
    model = measured(profile, 'collapse').model
    assert dig(model, 'repeat_last', 'own', 'slope') == 2
    assert dig(model, 'substitute_last', 'own', 'slope') == 3
    # The reader's data stay as they were.
    assert 'own' not in section['model']['repeat_last']


def test_digging_ends_where_nothing_is() -> None:
    data = {'a': {'b': [1, 2]}, 'c': None}
    assert dig(data, 'a', 'b') == [1, 2]
    assert dig(data, 'a', 'x', 'y') is None
    assert dig(data, 'c', 'd') is None
    assert values(data, 'a', 'b') == [1, 2]
    assert values(data, 'c') == []


def test_rows_of_different_length() -> None:
    rows = [[1.0, 3.0], [None, 5.0], [None], None]
    assert by_layer(rows) == [2.0, 5.0, None, None]
    assert flat(rows) == [1.0, 3.0, None, 5.0, None]
    assert by_layer(None) == []


def test_names_of_states() -> None:
    assert short_states(STATES) == ['0', '3', 'out']
    assert short_states(['in', 'out']) == ['in', 'out']
    assert short_states(['a long name']) is None
    assert short_states([]) is None
    assert shown_state(STATES, 1) == 'before layer 3'
    assert shown_state([], 2) == '2'
    assert after_state(STATES, 1) == 'in layer 3'
    assert after_state(['x', 'y'], 0) == 'after state x'
