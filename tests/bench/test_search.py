import math
from collections import Counter
from dataclasses import replace

import pytest

from gnnbridge.bench.cells import Cell, Effort, Job, Settings
from gnnbridge.bench.search import (
    DROPOUTS,
    LEARNING_RATES,
    SEARCH_SEED,
    choose,
    draw,
    final_jobs,
    search_jobs,
)
from gnnbridge.bench.trial import Trial

CELL = Cell('classes', 'gcn')
EFFORT = Effort(steps=5, draws=4, seeds=3)


def trial(index, val, **more):
    job = Job(CELL, draw(index, (0.0,)), SEARCH_SEED, EFFORT, 'search')
    return Trial(job, str(index), val=val, test=0.0, train=0.0, **more)


def test_every_cell_tries_the_same_rates():
    rewired = Cell('classes', 'gcn', 'fosr')
    plain = search_jobs(CELL, EFFORT, (0.0,))
    others = search_jobs(rewired, EFFORT, (0.1, 0.5, 1.0))
    assert len(plain) == len(others) == EFFORT.draws
    for a, b in zip(plain, others, strict=True):
        assert replace(a.settings, strength=0.0) == replace(
            b.settings, strength=0.0
        )
    # More draws add to the same ones.
    more = search_jobs(CELL, replace(EFFORT, draws=6), (0.0,))
    assert [job.settings for job in more[:4]] == [j.settings for j in plain]
    assert len({job.settings for job in more}) == 6


def test_draws_cover_the_space():
    found = [draw(index, (0.0,)) for index in range(1, 401)]
    low, high = LEARNING_RATES
    shares = [
        math.log(s.learning_rate / low) / math.log(high / low) for s in found
    ]
    assert min(shares) >= 0
    assert max(shares) <= 1
    # Uniform: four standard deviations of a share of 400.
    for third in range(3):
        part = [third <= 3 * share < third + 1 for share in shares]
        assert sum(part) / 400 == pytest.approx(1 / 3, abs=0.1)
    counts = Counter(s.dropout for s in found)
    assert set(counts) == set(DROPOUTS)
    assert min(counts.values()) > 400 / 3 - 40


def test_strengths_are_taken_in_turn_from_the_middle():
    found = [draw(i, (0.1, 0.5, 1.0)).strength for i in range(4)]
    assert found == [0.5, 1.0, 0.1, 0.5]
    assert draw(3, (0.0,)).strength == 0
    with pytest.raises(ValueError, match="'strengths' to hold a number"):
        draw(0, ())


def test_the_first_draw_is_a_usual_one():
    assert draw(0, (0.0,)) == Settings(0.003, 0.0, 0.0)


def test_one_draw_needs_no_search():
    assert search_jobs(CELL, replace(EFFORT, draws=1), (0.0,)) == []


def test_the_best_on_validation_data_is_chosen():
    trials = [trial(0, 0.3), trial(1, 0.7), trial(2, 0.5)]
    best = choose(trials, higher_is_better=True)
    assert best == trials[1].job.settings
    least = choose(trials, higher_is_better=False)
    assert least == trials[0].job.settings
    assert choose([], higher_is_better=True) is None


def test_of_equals_the_quickest_and_then_the_first_is_chosen():
    trials = [
        trial(0, 1.0, best_step=50),
        trial(1, 1.0, best_step=20),
        trial(2, 1.0, best_step=20),
    ]
    assert choose(trials, higher_is_better=True) == trials[1].job.settings


def test_what_failed_is_chosen_last():
    failed = trial(0, 0.9, failed='it broke')
    done = trial(1, 0.1)
    assert choose([failed, done], higher_is_better=True) == done.job.settings
    assert choose([failed], higher_is_better=True) == failed.job.settings
    low = trial(0, 0.0, failed='it broke')
    assert choose([low, done], higher_is_better=False) == done.job.settings


def test_reported_seeds_are_others_than_the_search():
    jobs = final_jobs(CELL, Settings(0.01, 0.1, 0.5), EFFORT)
    assert [job.seed for job in jobs] == [0, 1, 2]
    assert SEARCH_SEED not in range(1000)
    assert {job.stage for job in jobs} == {'final'}
    assert {job.settings for job in jobs} == {Settings(0.01, 0.1, 0.5)}
