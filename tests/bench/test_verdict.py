from typing import Any

import bench_summary
import pytest

from gnnbridge.bench.verdict import failure, is_lost, judged, verdict


def control(**changes: Any) -> dict[str, Any]:
    made = {'difference': 0.1, 'p': 0.01, 'significant': True}
    return {**made, **changes}


@pytest.mark.parametrize(
    ('changes', 'higher_is_better', 'kind'),
    [
        ({}, True, 'better'),
        ({}, False, 'worse'),
        ({'difference': -0.1}, True, 'worse'),
        ({'difference': -0.1}, False, 'better'),
        ({'significant': False}, True, 'same'),
        ({'p': None, 'significant': False}, True, 'untested'),
    ],
)
def test_differences_are_judged(
    changes: dict[str, Any], higher_is_better: bool, kind: str
) -> None:
    assert judged(control(**changes), higher_is_better) == kind


def test_no_control_is_no_test() -> None:
    assert judged(None, True) == 'untested'


def test_the_verdict_counts_every_difference_once() -> None:
    summary = bench_summary.make()
    controls = [c['control'] for c in summary['cells'] if c['control']]
    better = sum(c['significant'] and c['difference'] > 0 for c in controls)
    worse = sum(c['significant'] and c['difference'] < 0 for c in controls)
    assert better > 3
    assert worse > 3
    assert (
        f'were tested: {len(controls)}. Significantly better: {better}; '
        f'significantly worse: {worse}; neither: '
        f'{len(controls) - better - worse} ('
    ) in verdict(summary)
    assert verdict(summary).endswith(
        'within each task). No claim is made beyond these intervals.'
    )


def test_what_was_not_tested_is_said() -> None:
    one_seed = bench_summary.make(seeds=1)
    assert verdict(one_seed) == (
        'No difference from no rewiring was tested. 288 could not be tested.'
    )
    summary = bench_summary.make()
    rewired = [c for c in summary['cells'] if c['rewiring'] != 'none']
    rewired[0]['control'] = None
    assert 'tested: 287.' in verdict(summary)
    assert ' 1 could not be tested. No claim' in verdict(summary)
    plain = bench_summary.make(rewired=())
    assert verdict(plain) == 'No difference from no rewiring was tested.'


def test_failures_have_a_line_with_each_reason_once() -> None:
    cell = bench_summary.cell('csbm', 'gcn', 'fosr', [0.25, 0.5, 0.25])
    assert failure(cell) == ''
    assert not is_lost(cell)
    cell['failed'] = ['diverged\nat 3', None, 'diverged at 3']
    assert failure(cell) == (
        'csbm, gcn with fosr: 2 of 3 trials failed and count as guesses: '
        'diverged at 3'
    )
    assert not is_lost(cell)
    cell.update(failed=['a', 'b', 'a'], rewiring='none')
    assert failure(cell) == 'csbm, gcn: 3 of 3 trials failed: a; b'
    assert is_lost(cell)
