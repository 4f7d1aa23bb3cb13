import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gnnbridge.profiling.sampling import Tally

_NUMBERS = st.one_of(st.floats(-100, 100, width=32), st.just(float('nan')))


@given(arrays(np.float64, (7, 3), elements=_NUMBERS), st.integers(0, 7))
def test_any_split_of_the_samples_gives_the_moments_of_all(
    rows: np.ndarray, at: int
) -> None:
    whole, first, second = Tally(), Tally(), Tally()
    whole.add({'x': rows})
    first.add({'x': rows[:at]})
    second.add({'x': rows[at:]})
    second.merge(first)
    for place in range(3):
        there = rows[:, place][~np.isnan(rows[:, place])]
        for tally in (whole, second):
            assert tally.count('x')[place] == len(there)
            if len(there) > 0:
                # Sums of some hundreds in float64.
                assert tally.mean('x')[place] == pytest.approx(
                    there.mean(), abs=1e-12
                )
            if len(there) > 1:
                # A difference of squares up to 1e4 loses digits: the square
                # root of 1e4 * 1e-16 * 7.
                assert tally.deviation('x')[place] == pytest.approx(
                    there.std(ddof=1), abs=1e-5
                )


def test_positions_that_only_long_sequences_have() -> None:
    tally = Tally()
    tally.add({'x': np.array([[1.0, 2.0]])})
    tally.add({'x': np.array([[3.0, 4.0, 5.0, np.nan]])})
    np.testing.assert_array_equal(tally.count('x'), [2, 2, 1, 0])
    np.testing.assert_array_equal(tally.mean('x'), [2, 3, 5, np.nan])
    expected = [2**0.5, 2**0.5, np.nan, np.nan]
    np.testing.assert_allclose(tally.deviation('x'), expected, rtol=1e-15)


def test_adding_changes_neither_samples_nor_other_tallies() -> None:
    rows = np.array([[1.0, np.nan]])
    first, second = Tally(), Tally()
    first.add({'x': rows})
    second.merge(first)
    second.add({'x': rows})
    np.testing.assert_array_equal(rows, [[1.0, np.nan]])
    assert first.count('x')[0] == 1
    assert second.count('x')[0] == 2


def test_parts_of_a_tally_by_the_start_of_their_names() -> None:
    tally = Tally(reasons={'model/a/1': 'because', 'baseline/a/1': 'no'})
    tally.add({'model/a/x': np.ones((2, 1)), 'baseline/a/x': np.zeros((1, 1))})
    part = tally.under('model/')
    assert list(part.moments) == ['a/x']
    assert part.reasons == {'a/1': 'because'}
    assert 'a/x' in part
    assert part.mean('a/x') == 1
