import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes

from gnnbridge.report.canvas import house_style, new_axes
from gnnbridge.report.figures.lines import (
    MOST_POINTS,
    Frame,
    Line,
    draw_lines,
    look_of,
    power,
    thinned,
)

FRAME = Frame('t', 'x', 'y')


def axes() -> Axes:
    with house_style():
        return new_axes()[1]


def test_lines_leave_gaps_for_what_is_not_defined() -> None:
    drawn = draw_lines(axes(), [Line('a', [1.0, None, 3.0])], FRAME)
    np.testing.assert_array_equal(
        drawn.lines[0].get_ydata(), [1.0, math.nan, 3.0]
    )
    assert drawn.get_legend() is None
    assert (drawn.get_xlabel(), drawn.get_ylabel()) == ('x', 'y')


def test_logarithmic_axes_leave_out_what_is_not_positive() -> None:
    frame = Frame('t', 'x', 'y', log_y=True)
    drawn = draw_lines(axes(), [Line('a', [0.0, -1.0, 10.0, 1e4])], frame)
    found = drawn.lines[0].get_ydata()
    assert np.isnan(found).tolist() == [True, True, False, False]
    assert drawn.get_yscale() == 'log'


def test_model_baseline_and_null_are_told_apart_without_colour() -> None:
    lines = [
        Line(look, [1.0, 2.0], look)
        for look in ('model', 'reinitialised', 'null')
    ]
    drawn = draw_lines(axes(), lines, FRAME)
    assert len({line.get_linestyle() for line in drawn.lines}) == 3
    assert len({line.get_color() for line in drawn.lines}) == 3
    assert drawn.get_legend() is not None
    assert len({tuple(look_of(place).items()) for place in range(7)}) == 7


def test_a_level_is_a_line_with_a_name() -> None:
    frame = Frame('t', 'x', 'y', level=(0.5, 'half'))
    drawn = draw_lines(axes(), [Line('a', [0.0, 1.0])], frame)
    handles, labels = drawn.get_legend_handles_labels()
    assert labels == ['a', 'half']
    assert list(handles[1].get_ydata()) == [0.5, 0.5]


def test_spread_is_a_band_around_the_line() -> None:
    line = Line('a', [1.0, 2.0], spread=[0.5, 0.25])
    drawn = draw_lines(axes(), [line], FRAME)
    corners = drawn.collections[0].get_paths()[0].vertices
    assert corners[:, 1].min() == 0.5
    assert corners[:, 1].max() == 2.25
    # A spread of other length is of something else.
    line = Line('a', [1.0, 2.0], spread=[0.5])
    assert not draw_lines(axes(), [line], FRAME).collections


def test_lengths_are_the_ticks_of_a_logarithmic_axis() -> None:
    frame = Frame('t', 'x', 'y', log_x=True)
    line = Line('a', [3.0, 2.0, 1.0], x=[8, 16, 32])
    drawn = draw_lines(axes(), [line], frame)
    assert drawn.get_xticks().tolist() == [8, 16, 32]


@pytest.mark.parametrize('values', [[], [None], [None, None], [1.0]])
@pytest.mark.parametrize('log', [False, True])
def test_next_to_no_values(values: list, log: bool) -> None:
    frame = Frame('t', 'x', 'y', log_y=log)
    drawn = draw_lines(axes(), [Line('a', values)], frame)
    drawn.figure.canvas.draw()
    assert len(drawn.lines) == 1


@given(
    st.lists(
        st.floats(-1e6, 1e6) | st.just(math.nan), min_size=1, max_size=3000
    )
)
def test_thinning_keeps_ends_and_extremes(values: list[float]) -> None:
    y = np.array(values)
    x, kept = thinned(np.arange(len(y)), y)
    assert len(kept) <= MOST_POINTS
    assert (np.diff(x) > 0).all()
    np.testing.assert_array_equal(y[x], kept)
    assert x[0] == 0
    assert x[-1] == len(y) - 1
    there = y[np.isfinite(y)]
    if there.size:
        assert np.nanmax(kept) == there.max()
        assert np.nanmin(kept) == there.min()


def test_a_wide_gap_stays_one() -> None:
    y = np.ones(5000)
    y[2000:3000] = math.nan
    x, kept = thinned(np.arange(5000), y)
    inside = (x >= 2010) & (x < 2990)
    assert inside.any()
    assert np.isnan(kept[inside]).all()


@pytest.mark.parametrize(
    ('value', 'text'),
    [
        (0.001, '0.001'),
        (1000.0, '1,000'),
        (200.0, '200'),
        (1e-5, '10⁻⁵'),
        (2e7, '2·10⁷'),
        (0.0, '0'),
    ],
)
def test_power(value: float, text: str) -> None:
    assert power(value) == text
