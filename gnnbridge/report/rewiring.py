"""The figure of a comparison of rewirings.

It is drawn from the dictionary that ``RewiringReport.to_dict()`` returns, so
that it can be drawn again from the JSON.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from gnnbridge.report.canvas import (
    BLUE,
    GREEN,
    INK,
    QUIET,
    RULE,
    VERMILION,
    house_style,
)
from gnnbridge.report.comparison import RATIO, ComparisonDict, comparison
from gnnbridge.report.section import Numbers, Table, number

# The model's own graph first, then the rewired ones.
_COLORS = (
    INK, BLUE, VERMILION, GREEN, '#CC79A7', '#E69F00', '#56B4E9', '#8c6d31',
    '#6a3d9a', '#b15928',
)  # fmt: skip
_MOST_DOTS = 384
_DASHES = (':', '-', '--', '-.')
_GRAPHS_PER_ROW = 4
# Inches.
_WIDTH, _MARGIN, _LINE = 12.0, 0.25, 0.225
_GRAPH, _GRAPH_LINE, _CURVES = 2.55, 3.3, 2.2
# A share of the width of the table.
_FIRST_COLUMN = 0.17

_Columns: TypeAlias = Sequence[Mapping[str, Any]]
_Task: TypeAlias = Mapping[str, Any] | None


def draw(report: ComparisonDict) -> Figure:
    """The token graphs, their resistances, and what the model can do.

    Args:
        report: What ``RewiringReport.to_dict()`` returns, or the same read
            back from its JSON.

    Returns:
        A figure with, in this order, the edges of each graph, resistances by
        distance, loss, retrieval, and the table of all metrics.
    """
    with house_style():
        return _draw(report)


def write_figure(report: ComparisonDict, path: str | Path) -> Path:
    """Writes :func:`draw`'s figure to ``path`` and returns the path.

    Raises:
        ValueError: If the path ends neither in ``.png`` nor in ``.svg``.
    """
    target = Path(path)
    kind = target.suffix.lower().removeprefix('.')
    # Nothing that differs from run to run.
    nothing: dict[str, dict[str, None]] = {
        'png': {'Software': None},
        'svg': {'Date': None, 'Creator': None},
    }
    if kind not in nothing:
        raise ValueError(
            f"Expected a path that ends in '.png' or '.svg' (got '{path}')."
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    with house_style():
        _draw(report).savefig(target, dpi=150, metadata=nothing[kind])
    return target


class _Page:
    """A figure that is filled from top to bottom; all lengths in inches."""

    def __init__(self, height: float) -> None:
        self.height, self.top = height, 0.0
        self.figure = Figure(figsize=(_WIDTH, height))

    def axes(
        self, left: float, width: float, height: float, down: float = 0.0
    ) -> Axes:
        """A pair of axes, so much below all that was closed."""
        x, y = 1 / _WIDTH, 1 / self.height
        bottom = self.height - self.top - down - height
        return self.figure.add_axes(
            (left * x, bottom * y, width * x, height * y)
        )

    def text(self, text: str, **options: Any) -> None:
        """A line of text at the left margin."""
        self.figure.text(
            _MARGIN / _WIDTH, 1 - self.top / self.height, text,
            va='top', parse_math=False, **options,
        )  # fmt: skip

    def close(self, height: float) -> None:
        """Goes on below so much."""
        self.top += height


def _draw(report: ComparisonDict) -> Figure:
    columns, table = report['columns'], comparison(report)
    lines = [*table.caption.split('\n'), *report['notes']]
    with_two = len(columns) == 2
    graphs = -(-len(columns) // _GRAPHS_PER_ROW) * _GRAPH_LINE
    measures = 0.0 if with_two else _CURVES + 0.8
    rows = (len(table.rows) + 2) * _LINE
    page = _Page(0.75 + graphs + measures + rows + 0.3 + 0.2 * len(lines))
    page.close(0.15)
    name = f'{report["model"]["name"]} on {report["text"]["source"]}'
    page.text(name, fontsize=13, fontweight='bold', color=INK)
    page.close(0.6)
    fill = _two if with_two else _several
    fill(page, columns, report['task'], table)
    page.close(rows + 0.15)
    for line in lines:
        page.text(line, color=QUIET, fontsize=9)
        page.close(0.2)
    return page.figure


def _two(page: _Page, columns: _Columns, task: _Task, table: Table) -> None:
    """Curves beside the two graphs, and bars beside the table."""
    curves = page.axes(7.3, 4.4, _GRAPH)
    _graphs(page, columns)
    _distances(curves, columns)
    _table(page.axes(_MARGIN, 6.4, (len(table.rows) + 2) * _LINE), table)
    names = [column['name'] for column in columns]
    _loss(page.axes(8.6, 3.1, 1.05, 0.35), names, columns)
    if task is not None:
        right = page.axes(8.6, 3.1, 1.05, 2.2)
        _retrieval(right, names, columns, task['chance'])


def _several(page: _Page, columns: _Columns, task: _Task, table: Table) -> None:
    """Graphs, curves with bars, and the table, one below the other."""
    _graphs(page, columns)
    _distances(page.axes(0.95, 4.4, _CURVES), columns)
    names = [column['name'] for column in columns]
    _loss(page.axes(7.0, 1.85, _CURVES), names, columns)
    if task is not None:
        # The names are those of the bars beside it.
        right = page.axes(9.6, 1.85, _CURVES)
        _retrieval(right, [''] * len(names), columns, task['chance'])
    page.close(_CURVES + 0.8)
    height = (len(table.rows) + 2) * _LINE
    _table(page.axes(_MARGIN, _WIDTH - 2 * _MARGIN, height), table)


def _graphs(page: _Page, columns: _Columns) -> None:
    """The edges of each graph as dots: receivers down, sources across."""
    step = (_WIDTH - 2 * _MARGIN) / _GRAPHS_PER_ROW
    for place, column in enumerate(columns):
        if place and place % _GRAPHS_PER_ROW == 0:
            page.close(_GRAPH_LINE)
        left = 0.65 + step * (place % _GRAPHS_PER_ROW)
        axes = page.axes(left, _GRAPH, _GRAPH)
        _dots(axes, column['shown'], _color(place))
        axes.set_title(column['name'], color=_color(place), parse_math=False)
        axes.set_xlabel(_where(column['shown']))
        if place % _GRAPHS_PER_ROW == 0:
            axes.set_ylabel('receiver')
    page.close(_GRAPH_LINE)


def _where(shown: Mapping[str, Any]) -> str:
    return f'source (layer {shown["layer"]}, head {shown["head"]})'


def _dots(axes: Axes, shown: Mapping[str, Any], color: str) -> None:
    rows = shown['rows']
    size = len(rows)
    # Several tokens share a dot where there are more than can be seen.
    share = -(-size // _MOST_DOTS)
    dots = np.zeros((-(-size // share), -(-size // share)))
    for receiver, ranges in enumerate(rows):
        for first, end in ranges:
            dots[receiver // share, first // share : -(-end // share)] = 1
    end = share * len(dots) - 0.5
    axes.imshow(
        dots, cmap=ListedColormap(['white', color]), vmin=0, vmax=1,
        interpolation='nearest', extent=(-0.5, end, end, -0.5),
    )  # fmt: skip
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(
            MaxNLocator(nbins=5, integer=True, min_n_ticks=1)
        )


def _distances(axes: Axes, columns: _Columns) -> None:
    """Medians by distance; with two graphs the middle 90 % as well."""
    for place, column in enumerate(columns):
        found = column['by_distance']
        median = _gaps(found['median'])
        distance = np.arange(1, len(median) + 1)
        axes.plot(
            distance, median, color=_color(place), label=column['name'],
            linestyle=_DASHES[min(place, 1 + (place - 1) % 3)],
        )  # fmt: skip
        if len(columns) == 2:
            low, high = _gaps(found['low']), _gaps(found['high'])
            axes.fill_between(
                distance, low, high, color=_color(place), alpha=0.15,
                linewidth=0,
            )  # fmt: skip
    medians = [_gaps(column['by_distance']['median']) for column in columns]
    # A logarithmic axis cannot be made of nothing but gaps.
    if any(np.isfinite(median).any() for median in medians):
        axes.set_yscale('log')
        axes.yaxis.set_major_locator(LogLocator(numticks=6))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis='y')
    axes.set_axisbelow(True)
    share = 'median and middle 90 %' if len(columns) == 2 else 'median'
    axes.set_title(f'Resistance by distance ({share})')
    axes.set(xlabel='distance from receiver to source', ylabel='resistance')


def _gaps(values: Numbers) -> np.ndarray:
    """Values on a logarithmic axis; what is infinite is a gap."""
    array = np.array([math.nan if v is None else v for v in values], float)
    return np.where(array > 0, array, math.nan)


def _loss(axes: Axes, names: Sequence[str], columns: _Columns) -> None:
    values = [column['perplexity']['nats_per_token'] for column in columns]
    _bars(axes, names, values)
    axes.set_title('nats per token')


def _retrieval(
    axes: Axes, names: Sequence[str], columns: _Columns, chance: float
) -> None:
    _bars(axes, names, [column['retrieval']['accuracy'] for column in columns])
    axes.axvline(chance, color=QUIET, linestyle=':')
    axes.set_xlim(0, 1.25)
    axes.set_xticks([0, 0.5, 1])
    axes.set_title('retrieval accuracy')
    axes.set_xlabel('dotted: a guess', fontsize=9, color=QUIET)


def _bars(axes: Axes, names: Sequence[str], values: Numbers) -> None:
    lengths = [0.0 if value is None else value for value in values]
    for place, (length, value) in enumerate(zip(lengths, values, strict=True)):
        axes.barh(place, length, color=_color(place), height=0.62)
        text = f' {number(value)}'
        axes.text(length, place, text, va='center', fontsize=9, color=INK)
    axes.set_yticks(range(len(names)))
    for label in axes.set_yticklabels(names):
        label.set_parse_math(False)
    axes.set_ylim(len(values) - 0.4, -0.6)
    axes.set_xlim(0, 1.25 * max(lengths) or 1)
    axes.tick_params(axis='y', length=0, labelcolor=INK)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=4))


def _table(axes: Axes, table: Table) -> None:
    """Text between rules; the first line is two lines high."""
    axes.set_axis_off()
    axes.set_xlim(0, 1)
    axes.set_ylim(len(table.rows) + 2, 0)
    names = table.columns[1:]
    step = min((1 - _FIRST_COLUMN) / len(names), 0.2)
    for x, name in enumerate(names):
        last = x == len(names) - 1 and name == RATIO
        _cell(
            axes, _FIRST_COLUMN + step * (x + 1), 1.1, _folded(name),
            fontweight='bold', color=INK if last else _color(x),
        )  # fmt: skip
    for y, (label, *cells) in enumerate(table.rows, start=2):
        axes.axhline(y, color=RULE if y > 2 else QUIET, linewidth=0.6)
        axes.text(0, y + 0.5, label, va='center', fontsize=9, color=INK)
        for x, cell in enumerate(cells):
            _cell(axes, _FIRST_COLUMN + step * (x + 1), y + 0.5, cell)


def _cell(axes: Axes, x: float, y: float, text: str, **options: Any) -> None:
    options = {'color': INK, **options}
    axes.text(
        x, y, text, va='center', ha='right', fontsize=9, parse_math=False,
        **options,
    )  # fmt: skip


def _folded(name: str) -> str:
    """A long name on two lines."""
    if len(name) <= 12:
        return name
    first, *rest = textwrap.wrap(name, 14)
    return '\n'.join([first, ' '.join(rest)]) if rest else first


def _color(place: int) -> str:
    return _COLORS[place % len(_COLORS)]
