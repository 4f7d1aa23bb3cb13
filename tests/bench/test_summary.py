import json
from dataclasses import replace

import numpy as np
import pytest
import small_bench
from scipy import stats

from gnnbridge.bench.cells import Cell, Job
from gnnbridge.bench.runner import Run, run_suite
from gnnbridge.bench.search import draw
from gnnbridge.bench.summary import summarize
from gnnbridge.bench.trial import Trial

NONE = Cell('classes', 'a')
ONE, TWO = Cell('classes', 'a', 'one'), Cell('classes', 'a', 'two')
VALUES = {
    NONE: [0.5, 0.55, 0.6, 0.52],
    ONE: [0.7, 0.72, 0.83, 0.71],
    TWO: [0.55, 0.5, 0.62, 0.55],
}


def trials(values, failed=()):
    effort = small_bench.suite(seeds=4).effort
    return [
        Trial(
            Job(cell, draw(1, (0.5,)), seed, effort, 'final'),
            f'{cell} {seed}',
            val=value + 0.01,
            test=value,
            train=value + 0.1,
            seconds=1.0 + seed,
            parameters=70,
            trained=50,
            relations=2,
            answers=200,
            failed='it broke' if (cell, seed) in failed else None,
        )
        for cell, found in values.items()
        for seed, value in enumerate(found)
    ]


def summary(found, skipped=None, **effort):
    suite = small_bench.suite(tuple(VALUES), **{'seeds': 4, **effort})
    return summarize(Run(found, skipped or {}), suite, small_bench.materials())


def cells(found):
    return {
        Cell(one['task'], one['model'], one['rewiring']): one
        for one in found['cells']
    }


def test_cells_have_means_and_intervals():
    found = cells(summary(trials(VALUES)))
    for cell, values in VALUES.items():
        one = found[cell]
        low, high = stats.t.interval(
            0.95, 3, loc=np.mean(values), scale=stats.sem(values)
        )
        assert one['values'] == values
        assert one['mean'] == pytest.approx(np.mean(values))
        assert one['half_width'] == pytest.approx((high - low) / 2)
        assert one['val_mean'] == pytest.approx(np.mean(values) + 0.01)
        assert one['train_mean'] == pytest.approx(np.mean(values) + 0.1)
        assert one['seconds'] == 2.5
        assert (one['parameters'], one['trained']) == (70, 50)
        assert one['relations'] == 2
        assert one['settings']['strength'] == 0.5
        assert one['failed'] is None


def test_rewired_cells_are_compared_over_the_same_seeds():
    # The order in which trials were done does not matter.
    done = sorted(trials(VALUES), key=lambda t: t.test)
    found = cells(summary(done))
    assert {cell: found[cell]['values'] for cell in VALUES} == VALUES
    p = {
        cell: stats.ttest_rel(VALUES[cell], VALUES[NONE]).pvalue
        for cell in (ONE, TWO)
    }
    assert p[ONE] < p[TWO]
    assert found[NONE]['control'] is None
    one, two = found[ONE]['control'], found[TWO]['control']
    assert one['p'] == pytest.approx(p[ONE])
    assert one['p_adjusted'] == pytest.approx(2 * p[ONE])
    assert two['p_adjusted'] == pytest.approx(max(2 * p[ONE], p[TWO]))
    assert (one['significant'], two['significant']) == (True, False)
    difference = np.subtract(VALUES[ONE], VALUES[NONE])
    assert one['difference'] == pytest.approx(difference.mean())
    low, high = stats.ttest_rel(VALUES[ONE], VALUES[NONE]).confidence_interval()
    assert (one['low'], one['high']) == pytest.approx((low, high))


def test_each_task_is_a_family_of_its_own():
    other = Cell('targets', 'a'), Cell('targets', 'a', 'one')
    values = {**VALUES, other[0]: VALUES[NONE], other[1]: VALUES[ONE]}
    found = cells(summary(trials(values)))
    alone = found[other[1]]['control']
    assert alone['p_adjusted'] == pytest.approx(alone['p'])
    assert alone['p_adjusted'] * 2 == pytest.approx(
        found[ONE]['control']['p_adjusted']
    )


def test_coarse_counts_are_not_taken_for_certainty():
    values = {NONE: [0.5, 0.6], ONE: [0.505, 0.605]}
    found = summary(trials(values), seeds=2)
    assert found['tasks']['classes']['answers'] == 200
    assert found['tasks']['classes']['resolution'] == 1 / 200
    assert not cells(found)[ONE]['control']['significant']


def test_one_seed_allows_no_judgement():
    found = cells(summary(trials({NONE: [0.5], ONE: [0.75]}), seeds=1))
    assert found[NONE]['half_width'] is None
    assert found[ONE]['control'] == {
        'difference': 0.25,
        'low': None,
        'high': None,
        'p': None,
        'p_adjusted': None,
        'significant': False,
    }


def test_failures_are_told_and_counted():
    some = cells(summary(trials(VALUES, failed={(ONE, 2)})))
    assert some[ONE]['failed'] == [None, None, 'it broke', None]
    assert some[ONE]['values'] == VALUES[ONE]
    assert some[ONE]['control'] is not None
    everything = {(ONE, seed) for seed in range(4)}
    found = cells(summary(trials(VALUES, failed=everything)))
    assert found[ONE]['failed'] == ['it broke'] * 4
    assert found[ONE]['control'] is None
    # It is no member of the family either.
    alone = found[TWO]['control']
    assert alone['p_adjusted'] == alone['p']
    controls = {(NONE, seed) for seed in range(4)}
    found = cells(summary(trials(VALUES, failed=controls)))
    assert found[ONE]['control'] is found[TWO]['control'] is None


def test_a_cell_without_a_control_is_compared_with_nothing():
    found = cells(summary(trials({ONE: VALUES[ONE]})))
    assert found[ONE]['control'] is None


def test_the_summary_of_a_run_is_json_with_all_that_was_asked(tmp_path):
    suite = replace(
        small_bench.suite(
            (
                *small_bench.CELLS,
                Cell('absent', 'quick'),
                Cell('classes', 'quick', 'unsuited'),
            )
        ),
        steps={'distance': 4},
    )
    materials = small_bench.materials()
    run = run_suite(
        suite, tmp_path / 'trials.jsonl', materials=materials, progress=False
    )
    found = json.loads(
        json.dumps(summarize(run, suite, materials), allow_nan=False)
    )
    assert list(found) == [
        'suite', 'version', 'machine', 'seeds', 'effort', 'tasks', 'skipped',
        'cells',
    ]  # fmt: skip
    assert found['suite'] == 'small'
    assert found['seeds'] == [0, 1]
    assert found['effort']['draws'] == 2
    assert list(found['tasks']) == ['classes', 'distance']
    assert found['tasks']['distance']['higher_is_better'] is False
    assert found['tasks']['distance']['chance'] is None
    assert found['tasks']['distance']['resolution'] == 0
    assert found['tasks']['distance']['steps'] == 4
    assert found['tasks']['classes']['steps'] == 6
    assert list(found['skipped']) == ['absent']
    # Trials of the search are no part of the values.
    finals = [t.test for t in run.trials if t.job.stage == 'final'][:2]
    assert found['cells'][0]['values'] == finals
    assert len(found['cells']) == 4
    assert found['machine']['device'] == 'cpu'
