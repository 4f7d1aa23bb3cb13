from typing import Any

import bench_summary
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from gnnbridge.bench.board import board
from gnnbridge.report.canvas import BLUE, QUIET
from gnnbridge.report.figures.standings import plot_standings


def standings(**options: Any) -> dict[str, Any]:
    made = bench_summary.make(('csbm',), rewired=(), **options)
    return dict(board(made)['standings'][0])


def drawn(axes: Axes, style: str) -> list[Any]:
    """Lines that are dots, intervals or ticks."""
    kinds = {'o': 'dots', '|': 'ticks'}
    return [
        line
        for line in axes.lines
        if kinds.get(str(line.get_marker()), 'intervals') == style
        and line.get_label() != 'chance'
    ]


def test_dots_intervals_and_ticks_are_where_the_values_are() -> None:
    given = standings()
    axes = plot_standings(given)
    dots = {
        int(y): x
        for line in drawn(axes, 'dots')
        for x, y in zip(*line.get_data(), strict=True)
    }
    assert [dots[place] for place in range(12)] == [
        row['mean'] for row in given['rows']
    ]
    ends = {int(line.get_ydata()[0]): line.get_xdata()
            for line in drawn(axes, 'intervals')}  # fmt: skip
    ticks = {int(line.get_ydata()[0]): line.get_xdata()
             for line in drawn(axes, 'ticks')}  # fmt: skip
    for place, row in enumerate(given['rows']):
        middle, half = row['mean'], row['half_width']
        assert list(ends[place]) == pytest.approx(
            [middle - half, middle + half]
        )
        assert list(ticks[place]) == row['values']
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert names == list(bench_summary.MODELS)
    # The first is on top.
    assert axes.yaxis.get_inverted()
    assert axes.get_xlabel() == 'accuracy in %'


def test_the_best_have_a_colour_of_their_own() -> None:
    given = standings()
    axes = plot_standings(given)
    colors = {
        int(y): to_hex(line.get_color())
        for line in drawn(axes, 'dots')
        for y in line.get_ydata()
    }
    for place, row in enumerate(given['rows']):
        assert colors[place] == (BLUE if row['is_best'] else QUIET)
    labels = axes.get_legend_handles_labels()[1]
    assert labels == ['best, and not significantly worse', 'others', 'chance']


def test_chance_is_a_line_where_it_is_known() -> None:
    given = standings()

    def lines() -> list[float]:
        return [
            line.get_xdata()[0]
            for line in plot_standings(given).lines
            if line.get_label() == 'chance'
        ]

    assert lines() == [25.0]
    given['chance'] = None
    assert lines() == []


def test_one_model_and_one_seed() -> None:
    axes = plot_standings(standings(models=('gcn',), seeds=1))
    assert len(axes.lines) == 2
    assert drawn(axes, 'intervals') == drawn(axes, 'ticks') == []
    axes.figure.canvas.draw()


def test_no_model_at_all() -> None:
    given = standings(models=('gcn',))
    axes = plot_standings({**given, 'rows': [], 'chance': None})
    assert axes.lines == [] or not list(axes.lines)
    axes.figure.canvas.draw()


def test_a_share_is_between_none_and_all() -> None:
    given = standings()
    rows = [{**row, 'half_width': 200.0} for row in given['rows']]
    axes = plot_standings({**given, 'rows': rows})
    assert axes.get_xlim() == (-3, 103)
    axes = plot_standings({**given, 'rows': rows, 'unit': 'error'})
    assert axes.get_xlim()[0] < -50
