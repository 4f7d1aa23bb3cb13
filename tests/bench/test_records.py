import json
import os

import pytest

from gnnbridge.bench.records import RecordFile


def record(key, **more):
    return {'key': key, 'val': 0.1, **more}


def test_records_are_lines_that_come_back(tmp_path):
    path = tmp_path / 'deep' / 'trials.jsonl'
    file = RecordFile(path)
    assert file.records == {}
    file.add(record('a'))
    file.add(record('b', failed='no\nway'))
    lines = path.read_text().splitlines()
    assert [json.loads(line)['key'] for line in lines] == ['a', 'b']
    assert RecordFile(path).records == file.records


def test_each_record_is_on_disk_before_the_next(tmp_path, monkeypatch):
    path = tmp_path / 'trials.jsonl'
    synced = []
    monkeypatch.setattr(
        os, 'fsync', lambda _: synced.append(path.read_text().count('\n'))
    )
    file = RecordFile(path)
    for key in 'abc':
        file.add(record(key))
    assert synced == [1, 2, 3]


@pytest.mark.parametrize('torn', ['{"key": "b", "va', '{"key": "b"}', 'null'])
def test_a_torn_line_is_cut_off(tmp_path, torn):
    path = tmp_path / 'trials.jsonl'
    RecordFile(path).add(record('a'))
    with path.open('a') as end:
        end.write(torn)
    with pytest.warns(UserWarning, match='was unfinished'):
        file = RecordFile(path)
    assert list(file.records) == ['a']
    file.add(record('c'))
    assert list(RecordFile(path).records) == ['a', 'c']


@pytest.mark.parametrize('line', ['{"key": "b", "va', '{"val": 1}', '7', 'é'])
def test_a_broken_line_costs_itself_alone(tmp_path, line):
    path = tmp_path / 'trials.jsonl'
    path.write_bytes(
        json.dumps(record('a')).encode()
        + b'\n'
        + line.encode('latin-1')
        + b'\n'
        + json.dumps(record('c')).encode()
        + b'\n'
    )
    before = path.read_bytes()
    with pytest.warns(UserWarning, match='Line 2 of .* cannot be read'):
        file = RecordFile(path)
    assert list(file.records) == ['a', 'c']
    assert path.read_bytes() == before


def test_what_json_has_no_word_for_is_refused(tmp_path):
    file = RecordFile(tmp_path / 'trials.jsonl')
    with pytest.raises(ValueError, match='not JSON compliant'):
        file.add(record('a', test=float('nan')))
    assert file.path.read_text() == ''
