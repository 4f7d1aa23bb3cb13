"""The table of a comparison of rewirings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gnnbridge.report.section import Table, number, percent

ComparisonDict = Mapping[str, Any]
#: The name of the last column beside two graphs.
RATIO = 'ratio'
_Column = Mapping[str, Any]


@dataclass(frozen=True)
class Metric:
    """One row of the table.

    Args:
        label: Its name.
        value: What a column has, ``None`` where it is not defined.
        write: How it is written.
        is_ratio: Whether the ratio of two such numbers says something.
    """

    label: str
    value: Callable[[_Column], Any]
    write: Callable[[Any], str] = number
    is_ratio: bool = True


def _whole(value: float | None) -> str:
    return '–' if value is None else f'{value:,.0f}'


def _share(value: float | None) -> str:
    return '–' if value is None else f'{value:.3f}'


def _resistance(value: float | None) -> str:
    # Plain data has no infinity.
    return '∞' if value is None else number(value)


def _pair(value: Sequence[int] | None) -> str:
    return '–' if value is None else f'{value[0]}, {value[1]}'


def _retrieval(name: str) -> Callable[[_Column], float | None]:
    return lambda column: (column['retrieval'] or {}).get(name)


METRICS = (
    Metric('edges per layer', lambda c: c['edges'], _whole),
    Metric(
        'edges per token',
        lambda c: c['edges'] / c['graph']['num_tokens'],
        lambda value: f'{value:.1f}',
    ),
    Metric(
        'unreachable pairs', lambda c: c['graph']['unreachable_pairs'], _whole
    ),
    Metric(
        'total resistance',
        lambda c: c['graph']['resistance']['total'],
        _resistance,
    ),
    Metric('  with even attention', lambda c: c['even']['total'], _resistance),
    Metric(
        'worst resistance',
        lambda c: c['graph']['resistance']['worst'],
        _resistance,
    ),
    Metric('  with even attention', lambda c: c['even']['worst'], _resistance),
    Metric(
        '  source and receiver',
        lambda c: c['graph']['resistance']['worst_pair'],
        _pair,
        is_ratio=False,
    ),
    Metric('diameter', lambda c: c['graph']['diameter'], _whole),
    Metric('symmetrised gap', lambda c: c['graph']['gap']),
    Metric(
        'mean curvature', lambda c: c['graph']['mean_curvature'], is_ratio=False
    ),
    Metric(
        'least curvature',
        lambda c: c['graph']['least_curvature'],
        is_ratio=False,
    ),
    Metric('nats per token', lambda c: c['perplexity']['nats_per_token']),
    Metric('perplexity', lambda c: c['perplexity']['perplexity']),
    Metric('retrieval accuracy', _retrieval('accuracy'), _share),
    Metric(
        '  absent key, top place',
        _retrieval('absent_key_most'),
        _share,
        is_ratio=False,
    ),
)


def comparison(report: ComparisonDict) -> Table:
    """All metrics of all graphs, ready to print.

    Args:
        report: What ``RewiringReport.to_dict()`` returns, or the same read
            back from its JSON.

    Returns:
        A row per metric and a column per graph, and with two graphs the ratio
        of the second to the first.
    """
    columns = report['columns']
    names = [column['name'] for column in columns]
    with_ratio = len(columns) == 2
    rows = []
    for metric in METRICS:
        values = [metric.value(column) for column in columns]
        row = [metric.label, *(metric.write(value) for value in values)]
        rows.append([*row, _ratio(metric, values)] if with_ratio else row)
    header = ['', *names, *([RATIO] if with_ratio else [])]
    return Table(header, rows, caption(report))


def caption(report: ComparisonDict) -> str:
    """What the numbers of the table were taken on, in two lines."""
    return f'{_depth_line(report["depth"])}\n{_task_line(report["task"])}'


def _depth_line(depth: Mapping[str, Any]) -> str:
    if depth['hops'] is None:
        return 'Resistances at unlimited depth.'
    return (
        f'Resistances at a depth of {number(depth["hops"])} hops '
        f'({depth["source"]}).'
    )


def _task_line(task: Mapping[str, Any] | None) -> str:
    if task is None:
        return 'No retrieval.'
    return (
        f'Retrieval among {task["pairs"]} pairs of {task["name"]}, '
        f'{task["questions"]} questions, {task["tokens"]} tokens; guessing '
        f'among the values is right in {percent(task["chance"])}.'
    )


def _ratio(metric: Metric, values: Sequence[Any]) -> str:
    before, after = values
    if not metric.is_ratio or not before or after is None:
        return '–'
    return number(after / before)
