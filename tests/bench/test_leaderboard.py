"""Markdown that says what a summary says, read back cell by cell."""

import re
from typing import Any

import bench_summary
import pytest

from gnnbridge.bench.leaderboard import leaderboard


def tables(text: str) -> dict[str, dict[str, dict[str, str]]]:
    """By headings: what is in each row and column."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    for part in re.split(r'^#+ ', text, flags=re.MULTILINE)[1:]:
        title, *lines = part.splitlines()
        rows = [
            [cell.strip() for cell in re.split(r'(?<!\\)\|', line)[1:-1]]
            for line in lines
            if line.startswith('|')
        ]
        if rows:
            head, rule, *body = rows
            assert {len(row) for row in rows} == {len(head)}
            assert all(re.fullmatch('---:?', cell) for cell in rule)
            assert all(cell for row in body for cell in row)
            found[title] = {
                row[0]: dict(zip(head[1:], row[1:], strict=True))
                for row in body
            }
    return found


@pytest.fixture(scope='module')
def summary() -> dict[str, Any]:
    return bench_summary.make()


def test_models_by_tasks(summary: dict[str, Any]) -> None:
    table = tables(leaderboard(summary))['Models without rewiring']
    assert list(table) == [*bench_summary.MODELS, '*chance*']
    assert list(table['gcn']) == [*bench_summary.TASKS, 'parameters']
    assert table['*chance*']['tree_neighbors'] == '12.5'
    for cell in summary['cells']:
        if cell['rewiring'] == 'none':
            written = table[cell['model']][cell['task']].strip('*')
            mean, half = 100 * cell['mean'], 100 * cell['half_width']
            assert written == f'{mean:.1f} ± {half:.1f}'
    # In every column somebody is the best.
    for task in bench_summary.TASKS:
        top = max(
            (c for c in summary['cells']
             if (c['task'], c['rewiring']) == (task, 'none')),
            key=lambda c: c['mean'],
        )  # fmt: skip
        assert table[top['model']][task].startswith('**')


def test_rewirings_with_intervals_and_marks(summary: dict[str, Any]) -> None:
    found = tables(leaderboard(summary))
    marks = {'▲': 0, '▼': 0}
    for cell in summary['cells']:
        control = cell['control']
        if control is None:
            continue
        written = found[cell['task']][cell['model']][cell['rewiring']]
        numbers = [
            float(n.replace('−', '-'))
            for n in re.findall(r'[−+]?\d+\.\d', written)
        ]
        ends = (control['difference'], control['low'], control['high'])
        assert numbers == pytest.approx([100 * e for e in ends], abs=0.051)
        is_marked = written[-3:] in ('▲**', '▼**')
        assert is_marked == control['significant']
        for mark in marks:
            marks[mark] += mark in written
    text = leaderboard(summary)
    assert f'Significantly better: {marks["▲"]}; ' in text
    assert f'significantly worse: {marks["▼"]}; ' in text
    assert min(marks.values()) > 3
    assert 'No claim is made beyond these intervals.' in text


def test_failed_and_skipped_have_their_line(summary: dict[str, Any]) -> None:
    cells = [dict(cell) for cell in summary['cells']]
    cells[0].update(failed=['Expected a | b\nin <x>.'] * 5)
    text = leaderboard(
        {**summary, 'cells': cells, 'skipped': {'zinc': 'Get `zinc`.'}}
    )
    table = tables(text)['Models without rewiring']
    assert table['gcn']['ring_transfer'] == 'failed (1)'
    assert (
        '## Failed trials\n\n1. ring_transfer, gcn: 5 of 5 trials failed: '
        'Expected a \\| b in \\<x\\>.\n'
    ) in text
    assert '## Skipped tasks\n\n1. zinc: Get \\`zinc\\`.\n' in text


def test_what_is_not_there_has_no_heading() -> None:
    text = leaderboard(bench_summary.make(('csbm',), ('gcn',), (), seeds=1))
    assert re.findall('^#+ (.*)$', text, re.MULTILINE) == [
        'Leaderboard', 'Models without rewiring',
    ]  # fmt: skip
    assert text.endswith('.\n')
    assert '\n\n\n' not in text
    assert 'Suite default of gnnbridge 0.1.0: steps 200, budget 64,000' in text
