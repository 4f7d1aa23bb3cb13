import json
import math
from pathlib import Path

from gnnbridge.profiling.plain import plain, write_json


def test_what_json_has_not_becomes_none() -> None:
    value = {1: [math.inf, -math.inf, math.nan, 2.5], 'a': {'b': (1, None)}}
    assert plain(value) == {
        '1': [None, None, None, 2.5],
        'a': {'b': [1, None]},
    }


def test_directories_are_made(tmp_path: Path) -> None:
    path = write_json({'a': [1]}, tmp_path / 'b' / 'c.json')
    assert json.loads(path.read_text()) == {'a': [1]}
