from collections.abc import Callable
from typing import Any

import pytest

from gnnbridge.report.comparison import METRICS, caption, comparison

Maker = Callable[..., dict[str, Any]]


def row(report: dict[str, Any], label: str) -> list[str]:
    return next(
        list(cells)
        for name, *cells in comparison(report).rows
        if name.strip() == label
    )


def test_before_after_and_their_ratio(make_comparison: Maker) -> None:
    report = make_comparison('window')
    table = comparison(report)
    assert list(table.columns) == ['', 'before', 'window', 'ratio']
    assert [name for name, *_ in table.rows] == [m.label for m in METRICS]
    assert row(report, 'edges per layer') == ['120', '60', '0.500']
    assert row(report, 'edges per token') == ['10.0', '5.0', '0.500']
    assert row(report, 'total resistance') == ['1,000', '2,000', '2.00']
    assert row(report, 'source and receiver') == ['0, 11', '0, 11', '–']
    assert row(report, 'diameter') == ['1', '2', '2.00']
    assert row(report, 'retrieval accuracy') == ['1.000', '0.500', '0.500']
    # Ratios of what is zero, or of either sign, say nothing.
    assert row(report, 'unreachable pairs') == ['0', '1', '–']
    assert row(report, 'least curvature') == ['1.00', '-1.00', '–']


def test_several_graphs_have_a_column_each(make_comparison: Maker) -> None:
    report = make_comparison('a', 'b', 'c')
    assert list(comparison(report).columns) == ['', 'before', 'a', 'b', 'c']
    assert row(report, 'perplexity') == ['7.00', '8.00', '9.00', '10.0']


def test_what_is_infinite_and_what_is_not_defined(
    make_comparison: Maker,
) -> None:
    report = make_comparison('window')
    after = report['columns'][1]
    after['graph']['resistance'] = {
        'total': None, 'worst': None, 'worst_pair': None,
    }  # fmt: skip
    after['graph']['mean_curvature'] = None
    after['retrieval'] = None
    assert row(report, 'total resistance') == ['1,000', '∞', '–']
    assert row(report, 'source and receiver') == ['0, 11', '–', '–']
    assert row(report, 'mean curvature') == ['1.00', '–', '–']
    assert row(report, 'retrieval accuracy') == ['1.000', '–', '–']


@pytest.mark.parametrize(
    ('depth', 'said'),
    [
        (
            {'hops': 2, 'source': 'number of layers'},
            'at a depth of 2.00 hops (number of layers).',
        ),
        ({'hops': None, 'source': 'unlimited'}, 'at unlimited depth.'),
    ],
)
def test_caption_says_the_depth(
    make_comparison: Maker, depth: dict[str, Any], said: str
) -> None:
    lines = caption({**make_comparison('a'), 'depth': depth}).split('\n')
    assert lines[0] == f'Resistances {said}'


def test_caption_says_the_task(make_comparison: Maker) -> None:
    report = make_comparison('a')
    assert caption(report).split('\n')[1] == (
        'Retrieval among 8 pairs of random tokens of the vocabulary, 40 '
        'questions, 18 tokens; guessing among the values is right in '
        '12\u00a0%.'
    )
    assert caption({**report, 'task': None}).endswith('\nNo retrieval.')
