import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gnnbridge.profiling.result import Profile, write_comparison


def make(**changes: Any) -> Profile:
    fields: dict[str, Any] = {
        'model': {'name': 'm'},
        'text': {'source': 't'},
        'parity': None,
        'findings': [],
        'diagnostics': {'sinks': {'model': {'mixing': [0.25, math.inf]}}},
        'graphs': {'tokens': 0, 'layers': []},
        'notes': [],
        'settings': {},
        'versions': {},
        'timings': {},
        'resources': {},
    }
    return Profile(**{**fields, **changes})


def test_json_is_strict_and_what_is_not_finite_is_null(tmp_path: Path) -> None:
    path = make().to_json(tmp_path / 'new' / 'profile.json')

    def refuse(name: str) -> None:
        raise AssertionError(name)

    read = json.loads(path.read_text(), parse_constant=refuse)
    assert read['diagnostics']['sinks']['model']['mixing'] == [0.25, None]
    assert read['schema_version'] == 2


def test_arrays_are_written_as_lists() -> None:
    found = make(
        resources={
            'a': np.array([1.0, np.nan]),
            'b': torch.tensor([[1, 2]]),
            'c': np.float64(0.5),
            'd': np.int64(3),
        }
    ).to_dict()
    assert found['resources'] == {
        'a': [1.0, None],
        'b': [[1, 2]],
        'c': 0.5,
        'd': 3,
    }


def test_to_dict_shares_nothing_with_the_profile() -> None:
    profile = make()
    sinks = profile.to_dict()['diagnostics']['sinks']
    sinks['model']['mixing'][0] = 7.0
    assert profile.diagnostics['sinks']['model']['mixing'][0] == 0.25


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = make().to_json(tmp_path / 'p.json')
    assert Profile.from_json(path).to_dict() == make().to_dict()


@pytest.mark.parametrize(
    'content',
    ['{', '[]', '3', '{"schema_version": 1}', '{"schema_version": 2}'],
)
def test_another_file_is_no_profile(content: str, tmp_path: Path) -> None:
    path = tmp_path / 'x.json'
    path.write_text(content)
    with pytest.raises(ValueError, match=r'Expected .* profile'):
        Profile.from_json(path)


def test_one_profile_is_no_comparison(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='two'):
        write_comparison([make()], ['m'], tmp_path / 'c.html')
