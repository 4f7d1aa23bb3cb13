import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import mortal_work
import pytest
from mortal_work import work

from gnnbridge.bench.workers import Died, workers

SCRIPT = f"""
import sys
sys.path.insert(0, {str(Path(mortal_work.__file__).parent)!r})
from mortal_work import work
from gnnbridge.bench.workers import workers
with workers(2, work) as team:
    team.start(('sleep', sys.argv[1]))
    print(team.busy.popitem()[1][0].process.pid, flush=True)
    while True:
        pass
"""


# What is done here needs no threads, and a fork starts at once.
pytestmark = pytest.mark.filterwarnings('ignore:.*fork:DeprecationWarning')


@pytest.fixture(autouse=True)
def quick_start(monkeypatch):
    context = multiprocessing.get_context('fork')
    monkeypatch.setattr('gnnbridge.bench.workers._CONTEXT', context)


def finish_all(team, jobs):
    left, found = list(jobs), {}
    while left or team.is_busy:
        while left and team.is_free:
            team.start(left.pop(0))
        job, result = team.finish()
        assert job not in found
        found[job] = result
    return found


@pytest.mark.parametrize('count', [1, 2, 3])
def test_every_job_is_done(count):
    jobs = [('say', word) for word in ('a', 'b', 'c', 'd', 'e')]
    with workers(count, work) as team:
        assert team.is_free
        assert not team.is_busy
        found = finish_all(team, jobs)
    assert found == {job: job[1].upper() for job in jobs}


def test_one_is_this_process():
    here = os.getpid()
    with workers(1, lambda job: os.getpid()) as team:
        assert finish_all(team, ['a']) == {'a': here}


def test_those_who_die_are_given_a_second_chance(tmp_path):
    once = 'die once', str(tmp_path / 'died')
    jobs = [('say', 'a'), ('die', ''), once, ('exit', ''), ('say', 'b')]
    with workers(2, work) as team:
        found = finish_all(team, jobs)
    assert found == {
        jobs[0]: 'A',
        jobs[1]: Died('its process died 2 times (signal SIGKILL)'),
        once: once[1].upper(),
        jobs[3]: Died('its process died 2 times (exit code 3)'),
        jobs[4]: 'B',
    }


def test_one_that_dies_idle_is_replaced():
    with workers(2, work) as team:
        finish_all(team, [('say', 'a')])
        team.idle[0].process.kill()
        team.idle[0].process.join()
        assert finish_all(team, [('say', 'b')]) == {('say', 'b'): 'B'}


def test_processes_compute_on_one_thread(monkeypatch):
    monkeypatch.setenv('OMP_NUM_THREADS', '7')
    monkeypatch.delenv('MKL_NUM_THREADS', raising=False)
    with workers(2, work) as team:
        found = finish_all(team, [('threads', '')])
    assert found == {('threads', ''): ['1', '1']}
    assert os.environ['OMP_NUM_THREADS'] == '7'
    assert 'MKL_NUM_THREADS' not in os.environ


def test_the_keyboard_ends_the_first_process_alone():
    job = 'interrupt', 'a'
    with workers(2, work) as team:
        assert finish_all(team, [job]) == {job: 'A'}


def test_none_is_left_behind(tmp_path):
    with workers(2, work) as team:
        team.start(('sleep', str(tmp_path / 'asleep')))
        ((worker, _),) = team.busy.values()
        while not (tmp_path / 'asleep').exists():
            time.sleep(0.01)
    assert worker.process.exitcode == -signal.SIGKILL


def test_processes_with_nothing_to_do_end_by_themselves():
    with workers(2, work) as team:
        finish_all(team, [('say', 'a')])
        (worker,) = team.idle
    assert worker.process.exitcode == 0


@pytest.mark.slow
def test_a_process_notices_the_death_of_the_first(tmp_path):
    first = subprocess.Popen(
        [sys.executable, '-c', SCRIPT.replace('sleep', 'say'), 'a'],
        stdout=subprocess.PIPE,
        text=True,
    )
    pid = int(first.stdout.readline())
    first.kill()
    first.wait()
    first.stdout.close()
    # A busy machine takes its time to start a process that can notice.
    for _ in range(18_000):
        if not _is_alive(pid):
            break
        time.sleep(0.01)
    lives_on = _is_alive(pid)
    if lives_on:
        os.kill(pid, signal.SIGKILL)
    assert not lives_on


def _is_alive(pid):
    """Whether a process runs; one that nobody has waited for does not."""
    try:
        state = Path(f'/proc/{pid}/stat').read_text().rsplit(')')[1].split()[0]
    except FileNotFoundError:
        return False
    return state != 'Z'


def test_somebody_has_to_work():
    with pytest.raises(ValueError, match="'count' to be at least 1"):
        workers(0, work).__enter__()
