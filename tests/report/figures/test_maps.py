import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from gnnbridge.report.canvas import house_style, new_axes
from gnnbridge.report.figures.maps import (
    Legend,
    as_array,
    cell_text,
    draw_map,
    limits_of,
)
from gnnbridge.report.theme import RAMP, RAMP_STEPS

COLORS = [shade.light for shade in RAMP.values()]


def draw(rows: list, **options: object) -> Axes:
    with house_style():
        axes = new_axes()[1]
        return draw_map(axes, rows, Legend('t', 'x', 'y', 'v', **options))


def cells(axes: Axes) -> dict[tuple[float, float], int]:
    """The step of the ramp by the middle of each box."""
    found = {}
    for patch in axes.patches:
        step = COLORS.index(to_hex(patch.get_facecolor()))
        corners = patch.get_path().vertices.reshape(-1, 5, 2)
        for box in corners[:, :4]:
            middle = box.mean(0)
            found[round(float(middle[0]), 6), round(float(middle[1]), 6)] = step
    return found


@settings(max_examples=25)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 10**6))
def test_every_cell_has_the_colour_of_its_value(
    height: int, width: int, seed: int
) -> None:
    values = np.random.default_rng(seed).random((height, width))
    found = cells(draw(values.tolist(), limits=(0.0, 1.0)))
    assert len(found) == height * width
    for (x, y), step in found.items():
        value = values[round(y), round(x)]
        assert step == min(int(value * RAMP_STEPS), RAMP_STEPS - 1)


def test_what_is_not_defined_has_no_cell() -> None:
    found = cells(draw([[0.1, None, 0.3], [0.9]]))
    assert set(found) == {(0, 0), (2, 0), (0, 1)}


def test_the_first_row_is_on_top_and_equal_cells_join_in_large_maps() -> None:
    axes = draw([[0.5] * 50, [0.5] * 25])
    assert axes.yaxis.get_inverted()
    assert set(cells(axes)) == {(24.5, 0), (12, 1)}


def test_cells_may_hold_several_places() -> None:
    axes = draw([[0.0, 1.0]], extent=(100, 4))
    assert axes.get_xlim() == (-25.0, 75.0)
    assert set(cells(axes)) == {(0, 0), (50, 0)}


def test_few_cells_have_numbers_in_them() -> None:
    assert len(draw([[0.25] * 5] * 3).texts) == 15
    assert len(draw([[0.25] * 32] * 32).texts) == 0


def test_the_null_is_marked_where_it_is_on_the_scale() -> None:
    def marks(mark: float) -> int:
        axes = draw([[0.0, 1.0]], limits=(0.0, 1.0), mark=mark)
        return len(axes.child_axes[0].lines)

    assert marks(0.5) == 1
    assert marks(1.5) == 0


@pytest.mark.parametrize('rows', [[], [[]], [[None]], [[0.0]]])
def test_maps_of_next_to_nothing(rows: list) -> None:
    axes = draw(rows)
    axes.figure.canvas.draw()
    assert len(cells(axes)) == sum(v is not None for row in rows for v in row)


def test_limits_are_shared_and_apart() -> None:
    assert limits_of(np.array([1.0]), np.array([3.0, math.nan])) == (1, 3)
    assert limits_of(np.array([2.0])) == (1.5, 2.5)
    assert limits_of(np.array([math.nan])) == (0, 1)
    assert as_array([[1.0], []]).shape == (2, 1)


@pytest.mark.parametrize(
    ('value', 'text'),
    [
        (0.254, '.25'),
        (-0.014, '-.01'),
        (-0.001, '0'),
        (0.999, '1.0'),
        (1.449, '1.4'),
        (12.3, '12'),
        (9.97, '10'),
    ],
)
def test_numbers_in_cells_are_short(value: float, text: str) -> None:
    assert cell_text(value) == text
