from dataclasses import replace

import pytest
import small_bench

from gnnbridge.bench.cells import Cell
from gnnbridge.bench.schedule import Schedule
from gnnbridge.bench.search import SEARCH_SEED
from gnnbridge.bench.trial import Trial, trial_key

CELLS = (
    Cell('classes', 'a'),
    Cell('classes', 'b'),
    Cell('classes', 'a', 'turned'),
    Cell('distance', 'a'),
)


def schedule(records=(), **effort):
    suite = small_bench.suite(CELLS, **effort)
    return Schedule(suite, small_bench.materials(), dict(records))


def result(job, val=0.5):
    key = trial_key(job, small_bench.materials())
    return Trial(job, key, val=val, test=0.5, train=0.5)


def play(plan):
    """Runs all of it, one after the other."""
    jobs = []
    while (job := plan.next()) is not None:
        jobs.append(job)
        plan.add(result(job, val=job.settings.learning_rate))
    return jobs


def test_searches_come_first_and_neighbours_share_data():
    jobs = play(schedule())
    told = [
        (job.cell.rewiring, job.stage[0], job.seed, job.cell.model)
        for job in jobs
        if job.cell.task == 'classes'
    ]
    plain = [
        ('none', 's', SEARCH_SEED, 'a'), ('none', 's', SEARCH_SEED, 'b'),
        ('none', 's', SEARCH_SEED, 'a'), ('none', 's', SEARCH_SEED, 'b'),
        ('none', 'f', 0, 'a'), ('none', 'f', 0, 'b'),
        ('none', 'f', 1, 'a'), ('none', 'f', 1, 'b'),
    ]  # fmt: skip
    assert told[:8] == plain
    assert {rewiring for rewiring, *_ in told[8:]} == {'turned'}


def test_the_reported_trials_have_the_settings_that_won():
    jobs = play(schedule(draws=5))
    for cell in CELLS:
        own = [job for job in jobs if job.cell == cell]
        rates = [j.settings.learning_rate for j in own if j.stage == 'search']
        # Of errors the smallest is the best.
        best = min(rates) if cell.task == 'distance' else max(rates)
        finals = [job for job in own if job.stage == 'final']
        assert {job.settings.learning_rate for job in finals} == {best}


def test_results_are_told_cell_by_cell():
    plan = schedule()
    jobs = play(plan)
    found = plan.in_order()
    assert len(found) == len(jobs) == plan.total == plan.known == 16
    assert [t.job.cell for t in found[::4]] == list(CELLS)
    stages = [t.job.stage for t in found[:4]]
    assert stages == ['search', 'search', 'final', 'final']


def test_nothing_is_ready_while_a_search_is_under_way():
    plan = schedule()
    jobs = [plan.next() for _ in range(8)]
    assert {job.stage for job in jobs} == {'search'}
    assert plan.next() is None
    plan.add(result(jobs[0]))
    assert plan.next() is None
    for job in jobs[1:]:
        plan.add(result(job))
    assert plan.next().stage == 'final'


def data_of(job):
    return job.cell.task, job.cell.rewiring, job.settings.strength, job.seed


def test_processes_do_not_share_data_while_there_is_other():
    plan = schedule(draws=1)
    first, second = plan.next(), plan.next()
    assert data_of(first) != data_of(second)
    # Each goes on with its own, and then takes what none has.
    seen = [[first], [second]]
    for _ in range(3):
        for jobs in seen:
            plan.add(result(jobs[-1]))
            jobs.append(plan.next(jobs[-1]))
    held = [list(map(data_of, jobs)) for jobs in seen]
    assert held[0][0] == held[0][1]
    assert held[1][0] == held[1][1]
    assert not set(held[0]) & set(held[1])
    # At the end there is no other.
    jobs = [seen[0][-1], *iter(plan.next, None)]
    assert len(jobs) == len(set(jobs))
    assert len(plan.trials) + len(jobs) + 1 == plan.total


def test_what_is_known_is_not_run_again():
    first = schedule()
    play(first)
    records = {t.key: t.to_record() for t in first.in_order()}
    again = schedule(records)
    assert again.next() is None
    assert again.in_order() == first.in_order()
    # More seeds need their own trials alone.
    more = schedule(records, seeds=3)
    jobs = play(more)
    assert [job.seed for job in jobs] == [2] * len(CELLS)
    lost = next(k for k, r in records.items() if r['stage'] == 'search')
    del records[lost]
    (job,) = play(schedule(records))
    assert job.stage == 'search'


@pytest.mark.parametrize('draws', [1, 2])
def test_a_dropped_task_is_gone(draws):
    plan = schedule(draws=draws)
    plan.drop('classes')
    jobs = play(plan)
    assert {job.cell.task for job in jobs} == {'distance'}
    assert len(jobs) == plan.total == len(plan.in_order())


def test_without_a_search_the_first_draw_is_taken():
    jobs = play(schedule(draws=1))
    assert {job.stage for job in jobs} == {'final'}
    rewired = [job for job in jobs if job.cell.rewiring == 'turned']
    plain = [job for job in jobs if job.cell.rewiring == 'none']
    assert {j.settings.learning_rate for j in jobs} == {0.003}
    assert {job.settings.strength for job in rewired} == {0.5}
    assert {replace(j.settings, strength=0.5) for j in plain} == {
        job.settings for job in rewired
    }
