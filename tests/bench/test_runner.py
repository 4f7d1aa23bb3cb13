import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import small_bench

from gnnbridge.bench.cells import Cell
from gnnbridge.bench.runner import run_suite

BUILDERS = Path(small_bench.__file__).parent
CELLS = (
    *small_bench.CELLS,
    Cell('classes', 'diverging'),
    Cell('classes', 'quick', 'unsuited'),
)
SLOW = (Cell('classes', 'quick'), Cell('distance', 'slow'))
SCRIPT = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(BUILDERS)!r})
import small_bench
from gnnbridge.bench.runner import run_suite
from gnnbridge.bench.cells import Cell
cells = {SLOW!r}
run_suite(small_bench.suite(cells), Path(sys.argv[1]), progress=False,
          materials=small_bench.materials())
"""


def run(path, cells=CELLS, **given):
    effort = given.pop('effort', {})
    given.setdefault('materials', small_bench.materials())
    given.setdefault('progress', False)
    return run_suite(small_bench.suite(cells, **effort), path, **given)


def timeless(trials):
    return [replace(trial, seconds=0.0) for trial in trials]


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """A run that nothing came between, and its file."""
    path = tmp_path_factory.mktemp('whole') / 'trials.jsonl'
    return run(path), path


def test_every_trial_is_in_the_file_once(whole):
    (trials, skipped), path = whole
    assert len(trials) == 4 * len(CELLS)
    assert skipped == {}
    by_key = {record['key']: record for record in lines(path)}
    assert len(by_key) == len(lines(path)) == len(trials)
    for trial in trials:
        assert by_key[trial.key] == trial.to_record()


def test_failures_are_recorded_and_the_rest_goes_on(whole):
    failed = {t.job.cell: t.failed for t in whole[0].trials if t.failed}
    assert set(failed) == set(CELLS[3:])
    assert failed[CELLS[3]] == 'Diverged: the loss is nan'
    assert 'undirected graph' in failed[CELLS[4]]


def test_a_second_run_has_nothing_to_do(whole, tmp_path):
    path = tmp_path / 'trials.jsonl'
    path.write_bytes(whole[1].read_bytes())

    def build_model(*args, **kwargs):
        raise AssertionError

    parts = small_bench.PARTS._replace(build_model=build_model)
    materials = type(small_bench.materials())(parts)
    again = run(path, materials=materials)
    assert again == whole[0]
    assert path.read_bytes() == whole[1].read_bytes()


def test_other_settings_do_not_touch_what_is_there(whole, tmp_path):
    path = tmp_path / 'trials.jsonl'
    path.write_bytes(whole[1].read_bytes())
    other = run(path, effort={'steps': 7})
    assert len(lines(path)) == 2 * len(other.trials)
    assert run(path) == whole[0]


def test_processes_come_to_the_same_records(whole, tmp_path):
    path = tmp_path / 'trials.jsonl'
    trials, skipped = run(path, jobs=2)
    assert timeless(trials) == timeless(whole[0].trials)
    assert skipped == {}
    assert {r['key'] for r in lines(path)} == {t.key for t in trials}


@pytest.mark.slow
def test_a_process_that_dies_costs_its_trial_alone(tmp_path, monkeypatch):
    monkeypatch.setenv(small_bench.MARKER, str(tmp_path / 'died'))
    cells = (
        Cell('classes', 'quick'),
        Cell('classes', 'deadly'),
        Cell('classes', 'mortal'),
    )
    path = tmp_path / 'trials.jsonl'
    found = run(path, cells, jobs=2, effort={'draws': 1, 'seeds': 1})
    quick, deadly, mortal = found.trials
    assert quick.failed is mortal.failed is None
    assert deadly.failed == 'its process died 2 times (signal SIGKILL)'
    assert deadly.test == 1 / 3
    assert {r['key']: r['failed'] for r in lines(path)} == {
        trial.key: trial.failed for trial in found.trials
    }


def test_a_killed_run_goes_on_to_the_same_records(tmp_path):
    path = tmp_path / 'trials.jsonl'
    process = subprocess.Popen([sys.executable, '-c', SCRIPT, str(path)])
    while not path.exists() or path.read_bytes().count(b'\n') < 5:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    done = lines(path)
    assert 5 <= len(done) < 8
    with path.open('a') as end:  # as if it had died while it wrote
        end.write('{"key": "0')
    with pytest.warns(UserWarning, match='was unfinished'):
        resumed = run(path, SLOW)
    assert lines(path)[: len(done)] == done
    assert len(lines(path)) == 8
    assert timeless(resumed.trials) == timeless(
        run(tmp_path / 'whole.jsonl', SLOW).trials
    )


def test_an_interrupt_leaves_a_file_to_go_on_from(tmp_path):
    path = tmp_path / 'trials.jsonl'
    left = [5]

    def build_model(*args, **kwargs):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return small_bench.build_model(*args, **kwargs)

    parts = small_bench.PARTS._replace(build_model=build_model)
    with pytest.raises(KeyboardInterrupt):
        run(path, materials=type(small_bench.materials())(parts))
    assert len(lines(path)) == 5
    assert len(run(path).trials) == 4 * len(CELLS)


def test_missing_tasks_are_skipped_with_one_line_each(tmp_path, capsys):
    cells = (
        Cell('absent', 'quick'),
        Cell('absent', 'slow'),
        Cell('classes', 'quick'),
        Cell('without_package', 'quick'),
    )
    path = tmp_path / 'trials.jsonl'
    trials, skipped = run(path, cells, progress=True)
    assert skipped == {
        'without_package': 'Expected a package.',
        'absent': "Expected 'absent' in 'None'. Get it.",
    }
    assert {trial.job.cell for trial in trials} == {cells[2]}
    told = capsys.readouterr().err
    assert told.count("'absent' is skipped: Expected 'absent'") == 1
    assert told.count("'without_package' is skipped: Expected a") == 1
    assert '4/4' in told
    assert 'classes: quick' in told


def test_nothing_is_shown_when_it_should_be_quiet(tmp_path, capsys):
    run(tmp_path / 'trials.jsonl', (Cell('absent', 'quick'),))
    assert capsys.readouterr() == ('', '')
