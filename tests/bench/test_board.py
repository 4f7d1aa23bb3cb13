import json
from collections.abc import Mapping
from typing import Any

import bench_summary
import numpy as np
import pytest
from scipy import stats

from gnnbridge.bench.board import board

SMALL = {'tasks': ('csbm', 'key_value'), 'models': ('gcn', 'gin', 'sage')}


def cells(
    summary: dict[str, Any],
) -> dict[tuple[str, str, str], dict[str, Any]]:
    return {(c['task'], c['model'], c['rewiring']): c for c in summary['cells']}


def small(**options: Any) -> dict[str, Any]:
    given = {**SMALL, 'rewired': ('csbm',), 'rewirings': ('fosr', 'gtr')}
    return bench_summary.make(**{**given, **options})


def best_by_scipy(values: Mapping[str, list[float]]) -> set[str]:
    """The largest mean, and what Welch's tests and Holm do not reject."""
    top = max(values, key=lambda name: float(np.mean(values[name])))
    tests = sorted(
        (stats.ttest_ind(values[top], values[name], equal_var=False).pvalue,
         name)
        for name in values
        if name != top
    )  # fmt: skip
    for place, (p, _) in enumerate(tests):
        if p * (len(tests) - place) >= 0.05:
            return {top, *(name for _, name in tests[place:])}
    return {top}


def test_levels_and_their_intervals_are_those_of_the_values() -> None:
    summary = bench_summary.make()
    table = board(summary)['models']
    assert table['columns'] == [*bench_summary.TASKS, 'parameters']
    assert [row['name'] for row in table['rows']] == [*bench_summary.MODELS]
    found = cells(summary)
    for row in table['rows']:
        for task, cell in zip(bench_summary.TASKS, row['cells'], strict=False):
            values = np.array(found[task, row['name'], 'none']['values'])
            low, high = stats.t.interval(
                0.95, 4, values.mean(), stats.sem(values)
            )
            assert cell['text'] == f'{100 * values.mean():.1f}'
            assert cell['detail'] == f'± {50 * (high - low):.1f}'
            assert cell['value'] == pytest.approx(values.mean())


def test_the_best_and_what_is_not_significantly_worse_are_marked() -> None:
    summary = bench_summary.make()
    found = board(summary)
    several = 0
    for place, task in enumerate(bench_summary.TASKS):
        values = {
            model: cell['values']
            for (name, model, rewiring), cell in cells(summary).items()
            if (name, rewiring) == (task, 'none')
        }
        marked = {
            row['name']
            for row in found['models']['rows']
            if row['cells'][place]['kind'] == 'best'
        }
        assert marked == best_by_scipy(values)
        rows = found['standings'][place]['rows']
        assert {row['model'] for row in rows if row['is_best']} == marked
        several += len(marked) > 1
    assert several > 2


def test_parameters_are_a_range_where_tasks_differ() -> None:
    summary = small()
    for cell in summary['cells']:
        cell['parameters'] = 61_000 if cell['task'] == 'csbm' else 60_000
    cell = board(summary)['models']['rows'][0]['cells'][-1]
    assert (cell['text'], cell['detail']) == ('60,000', 'to 61,000')
    one = small(tasks=('csbm',))
    assert board(one)['models']['rows'][0]['cells'][-1]['detail'] == ''


def test_differences_stand_beside_the_control() -> None:
    summary = small()
    found, (table,) = cells(summary), board(summary)['rewirings']
    assert table['title'] == 'csbm'
    assert table['columns'] == ['without', 'fosr', 'gtr']
    for row in table['rows']:
        without = np.array(found['csbm', row['name'], 'none']['values'])
        assert row['cells'][0]['text'] == f'{100 * without.mean():.1f}'
        assert row['cells'][0]['kind'] == 'plain'
        for name, cell in zip(('fosr', 'gtr'), row['cells'][1:], strict=True):
            values = np.array(found['csbm', row['name'], name]['values'])
            ends = stats.ttest_rel(values, without).confidence_interval()
            change = 100 * (values - without).mean()
            signed = f'{change:+.1f}'.replace('-', '−')
            assert cell['text'] == signed
            written = f'[{100 * ends.low:+.1f}, {100 * ends.high:+.1f}]'
            assert cell['ends'] == written.replace('-', '−')
            assert cell['detail'] == f'± {50 * (ends.high - ends.low):.1f}'
            assert (cell['kind'] == 'better') == (
                found['csbm', row['name'], name]['control']['significant']
                and change > 0
            )
    assert '6 differences that were tested here' in table['caption']


def test_less_is_better_for_errors() -> None:
    summary = small()
    summary['tasks']['csbm'].update(
        metric='mean_absolute_error', higher_is_better=False, chance=None
    )
    for cell in summary['cells']:
        if cell['control'] is not None:
            cell['control'].update(difference=-0.25, significant=True)
    found = board(summary)
    (table,) = found['rewirings']
    assert table['title'] == found['models']['columns'][0] == 'csbm ↓'
    assert {c['kind'] for r in table['rows'] for c in r['cells'][1:]} == {
        'better'
    }
    assert table['rows'][0]['cells'][1]['text'] == '−0.250'
    assert 'in points' not in table['caption']
    assert 'accuracy in %; ↓ marks where less is' in found['models']['caption']
    assert found['models']['foot'][0]['cells'][0]['text'] == '–'
    worst = max(
        (row for row in found['standings'][0]['rows']),
        key=lambda row: row['mean'],
    )
    assert not worst['is_best']
    assert worst['mean'] < 1.5


def test_what_failed_and_what_was_not_run_is_said() -> None:
    summary = small()
    found = cells(summary)
    found['csbm', 'gin', 'none'].update(failed=['no memory'] * 5)
    found['csbm', 'gin', 'fosr'].update(control=None)
    found['csbm', 'gcn', 'gtr'].update(failed=['no edges'] * 5, control=None)
    found['key_value', 'sage', 'none']['failed'] = [None] * 4 + ['diverged']
    del found['csbm', 'sage', 'gtr'], found['key_value', 'gcn', 'none']
    summary['cells'] = list(found.values())
    summary['skipped'] = {'mutag': 'Expected its files (got none).'}
    made = board(summary)
    rows = {row['name']: row['cells'] for row in made['models']['rows']}
    assert (rows['gin'][0]['text'], rows['gin'][0]['kind']) == (
        'failed', 'failed',
    )  # fmt: skip
    assert rows['gcn'][1]['text'] == 'not run'
    assert rows['sage'][1]['kind'] != 'failed'
    assert [row['absent'] for row in made['standings']] == [
        {'gin': 'failed'}, {'gcn': 'not run'},
    ]  # fmt: skip
    (table,) = made['rewirings']
    changes = {row['name']: row['cells'] for row in table['rows']}
    assert changes['gcn'][2]['text'] == 'failed'
    assert changes['sage'][2]['text'] == 'not run'
    assert changes['gin'][1]['kind'] == 'untested'
    assert changes['gin'][1]['text'].startswith('no control: ')
    assert made['skipped'] == ['mutag: Expected its files (got none).']
    # Each note leads to its line.
    notes = [rows['gin'][0], changes['gcn'][2], rows['sage'][1]]
    lines = [made['failed'][cell['note'] - 1] for cell in notes]
    assert [line.split(':')[0] for line in lines] == [
        'csbm, gin', 'csbm, gcn with gtr', 'key_value, sage',
    ]  # fmt: skip
    assert len(made['failed']) == 3


def test_a_lost_model_is_never_the_best() -> None:
    summary = small()
    for cell in summary['cells']:
        if cell['model'] == 'gin':
            cell.update(failed=['x'] * 5, values=[1.0] * 5, mean=1.0)
    table = board(summary)['models']
    rows = {row['name']: row['cells'] for row in table['rows']}
    assert [cell['kind'] for cell in rows['gin']] == [
        'failed', 'failed', 'plain',
    ]  # fmt: skip
    assert rows['gin'][2]['text'] == '–'


def test_one_model_one_task_one_seed() -> None:
    summary = small(tasks=('csbm',), models=('gcn',), seeds=1)
    made = board(summary)
    (row,) = made['models']['rows']
    assert row['cells'][0]['kind'] == 'best'
    assert row['cells'][0]['detail'] == ''
    assert made['models']['caption'].startswith('One seed, on the test split')
    (change,) = made['rewirings'][0]['rows']
    assert [cell['kind'] for cell in change['cells']] == [
        'plain', 'untested', 'untested',
    ]  # fmt: skip
    assert [cell['ends'] for cell in change['cells']] == [''] * 3
    assert json.loads(json.dumps(made, allow_nan=False)) == made


def test_what_a_task_asks_is_a_sentence() -> None:
    summary = small()
    summary['tasks']['csbm'].update(about='Which class? (A. 2021)', layers=1)
    summary['tasks']['key_value'].update(about='Which value?', level='graph')
    first, second = board(summary)['standings']
    assert first['about'] == 'Which class? (A. 2021).'
    assert second['about'] == 'Which value?'
    assert first['facts'] == (
        'Asks nodes; undirected edges; 1 layer, 150 steps.'
    )
    assert second['facts'] == (
        'Asks whole graphs; directed edges; 5 layers, 150 steps.'
    )


def test_nothing_was_run() -> None:
    summary = small(tasks=())
    summary['skipped'] = {'zinc': 'Expected its files.'}
    made = board(summary)
    assert made['models']['rows'] == made['rewirings'] == []
    assert made['skipped'] == ['zinc: Expected its files.']


def test_a_summary_is_not_changed() -> None:
    summary = small()
    before = json.dumps(summary)
    board(summary)
    assert json.dumps(summary) == before
