import json
import math
from pathlib import Path
from typing import Any

import pytest

from gnnbridge.profiling.result import Profile


def make(**changes: Any) -> Profile:
    measures = {
        'layer': [0, 1],
        'sink_score': [[0.1, 0.5], [0.2, 0.2]],
        'sink_rate': [0.5, 0.0],
        'entropy': [[1.0, 2.0], [3.0, 3.0]],
        'mixing': [0.25, 0.5],
        'dirichlet_energy': [0.5, 0.4],
        'effective_rank': [9.0, 8.0],
        'mean_cosine': [0.1, 0.2],
    }
    fields: dict[str, Any] = {
        'model': {'name': 'm'},
        'text': {'source': 't'},
        'parity': {},
        'measures': measures,
        'nulls': {},
        'baseline': None,
        'graphs': [{'edges': [(0, 1, 0.5)]}],
        'resistance': {'last': [1.0, math.inf, math.nan, -math.inf]},
        'notes': [],
        'settings': {},
        'versions': {},
        'timings': {},
    }
    return Profile(**{**fields, **changes})


def test_json_is_strict_and_what_is_not_finite_is_null(tmp_path: Path) -> None:
    path = make().to_json(tmp_path / 'new' / 'profile.json')

    def refuse(name: str) -> None:
        raise AssertionError(name)

    read = json.loads(path.read_text(), parse_constant=refuse)
    assert read['resistance']['last'] == [1.0, None, None, None]
    assert read['graphs'] == [{'edges': [[0, 1, 0.5]]}]


def test_to_dict_shares_nothing_with_the_profile() -> None:
    profile = make()
    profile.to_dict()['measures']['mixing'][0] = 7.0
    assert profile.measures['mixing'][0] == 0.25


def test_summary_has_a_row_for_each_layer() -> None:
    rows = make().summary()
    assert [row['layer'] for row in rows] == ['0', '1']
    assert rows[0]['sink rate'] == '50\u00a0%'
    assert rows[0]['highest sink score'] == '0.50'
    assert rows[0]['entropy (nats)'] == '1.50'
    assert rows[1]['effective rank'] == '8.00'


def test_summary_has_the_baseline_in_brackets() -> None:
    measures = make().measures
    again = {**measures, 'mixing': [0.125, 0.75]}
    rows = make(baseline={'measures': again}).summary()
    assert [row['mixing'] for row in rows] == ['0.250 (0.125)', '0.500 (0.750)']
    assert rows[0]['layer'] == '0'


@pytest.mark.parametrize('name', ['parity', 'timings'])
def test_every_field_is_written(name: str) -> None:
    assert name in make().to_dict()
