import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gnnbridge.diagnostics.retrieval import (
    RetrievalCurve,
    primacy_slope,
    recency_slope,
    retrieval_curve,
    u_depth,
)

# Another order of sums in float64.
CLOSE = 1e-12
# Table of a small model whose training asked for the ends: ends .82 and .75,
# and the same model with even demand.
ENDS = [
    0.82, 0.73, 0.66, 0.60, 0.48, 0.43, 0.36, 0.32,
    0.30, 0.36, 0.44, 0.55, 0.64, 0.71, 0.71, 0.75,
]  # fmt: skip

shares = st.lists(st.floats(0, 1), min_size=3, max_size=24)
fixed = settings(deadline=None, max_examples=50, derandomize=True)


def curve_of(accuracy: list[float], absent: list[float]) -> RetrievalCurve:
    return retrieval_curve(
        torch.tensor(accuracy, dtype=torch.float64),
        control=torch.tensor(absent, dtype=torch.float64),
    )


def line(values: Tensor, half: slice) -> float:
    """The slope by numpy, over places from 0 to 1."""
    place = np.linspace(0, 1, len(values))[half]
    return float(np.polyfit(place, values.numpy()[half], 1)[0])


def test_no_curve_without_a_control() -> None:
    with pytest.raises(ValueError, match=r"Expected 'control'.*got None"):
        retrieval_curve(torch.ones(2, 2).bool(), torch.zeros(2, 2).long())
    with pytest.raises(ValueError, match="Expected 'control'"):
        retrieval_curve(torch.tensor([0.5, 0.5, 0.5]))


def test_answers_are_counted_by_place() -> None:
    right = torch.tensor([[True, False, True], [True, True, False]])
    gold = torch.tensor([[0, 2, 1], [0, 2, 2]])
    named = torch.tensor([[True, False, False, True], [False] * 4])
    found = retrieval_curve(right, gold, control=named)
    assert found.accuracy[:3].tolist() == [1.0, 1.0, 1 / 3]
    assert found.accuracy[3].isnan()
    assert found.questions.tolist() == [2, 1, 3, 0]
    assert found.absent.tolist() == [0.5, 0.0, 0.0, 0.5]
    assert found.control_questions.tolist() == [2] * 4
    assert found.corrected[:3].tolist() == [0.5, 1.0, 1 / 3]
    assert found.total == 4 / 6
    assert found.chance == 0.25
    assert found.accuracy.dtype == found.absent.dtype == torch.float64


def test_a_chance_may_be_given() -> None:
    rates = torch.full((5,), 0.2)
    assert retrieval_curve(rates, control=rates, chance=0.5).chance == 0.5


def test_total_without_counts_is_over_places() -> None:
    assert curve_of([0.5, 1.0, math.nan], [0.0] * 3).total == 0.75


def test_the_u_of_the_published_curve() -> None:
    found = curve_of(ENDS, [0.0625] * 16)
    # Means of four places: .7025 first and last, .3350 for places 7 to 10.
    assert found.u_depth == pytest.approx(0.7025 - 0.335, abs=CLOSE)
    assert found.primacy_slope < 0 < found.recency_slope


def test_a_prior_for_the_ends_is_no_u() -> None:
    # Right at the ends as often as the ends are named for an absent key.
    prior = [0.45, 0.2, 0.1, 0.02, 0.02, 0.02, 0.02, 0.1, 0.2, 0.45, 0.5, 0.51]
    found = curve_of(prior, prior)
    assert u_depth(found.accuracy) > 0.2
    assert found.u_depth == 0
    assert found.primacy_slope == found.recency_slope == 0


@pytest.mark.parametrize('size', [3, 4, 5, 8, 9, 16, 31])
def test_a_parabola_has_its_closed_form(size: int) -> None:
    place = torch.linspace(-1, 1, size, dtype=torch.float64)
    values = place**2
    quarter = max(1, size // 4)
    end = float(values[:quarter].mean())
    middle = values.sort().values[: quarter + (size - quarter) % 2].mean()
    assert u_depth(values) == pytest.approx(end - float(middle), abs=CLOSE)


@pytest.mark.parametrize('size', [3, 4, 9, 16])
def test_straight_lines(size: int) -> None:
    rising = torch.linspace(0.2, 0.9, size, dtype=torch.float64)
    assert primacy_slope(rising) == pytest.approx(0.7, abs=CLOSE)
    assert recency_slope(rising) == pytest.approx(0.7, abs=CLOSE)
    # One end lies below the middle: no U, however steep.
    assert u_depth(rising) < 0
    assert u_depth(rising.flip(0)) < 0
    flat = torch.full((size,), 0.4)
    assert u_depth(flat) == pytest.approx(0, abs=CLOSE)
    assert primacy_slope(flat) == pytest.approx(0, abs=CLOSE)


def test_primacy_and_recency_are_told_apart() -> None:
    decay = 0.2 + 0.8 * torch.exp(-torch.arange(16.0))
    assert primacy_slope(decay) < -0.5
    # What is left of the decay in the last half.
    assert abs(recency_slope(decay)) < 1e-3
    assert recency_slope(decay.flip(0)) > 0.5


@given(values=shares)
@fixed
def test_slopes_are_least_squares(values: list[float]) -> None:
    curve = torch.tensor(values, dtype=torch.float64)
    half = (len(values) + 1) // 2
    # numpy solves by singular values: a few units more of rounding.
    first, last = slice(half), slice(len(values) - half, None)
    assert primacy_slope(curve) == pytest.approx(line(curve, first), abs=1e-9)
    assert recency_slope(curve) == pytest.approx(line(curve, last), abs=1e-9)


@given(values=shares, shift=st.floats(-1, 1), scale=st.floats(0, 3))
@fixed
def test_what_a_curve_keeps(
    values: list[float], shift: float, scale: float
) -> None:
    curve = torch.tensor(values, dtype=torch.float64)
    moved = scale * curve + shift
    for measure in (u_depth, primacy_slope, recency_slope):
        expected = scale * measure(curve)
        # Slopes multiply rounding by up to 24 places.
        assert measure(moved) == pytest.approx(expected, abs=1e-11)
    mirrored = curve.flip(0)
    assert u_depth(mirrored) == pytest.approx(u_depth(curve), abs=CLOSE)
    assert primacy_slope(mirrored) == pytest.approx(
        -recency_slope(curve), abs=1e-11
    )
    assert abs(u_depth(curve)) <= 1


@given(seed=st.integers(0, 999), places=st.integers(1, 9))
@fixed
def test_the_order_of_questions_does_not_count(seed: int, places: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    gold = torch.randint(places, (6, 5), generator=draw)
    right = torch.rand(6, 5, generator=draw) < 0.5
    named = torch.rand(7, places, generator=draw) < 0.3
    order = torch.randperm(30, generator=draw)
    one = retrieval_curve(right, gold, control=named)
    other = retrieval_curve(
        right.flatten()[order], gold.flatten()[order], control=named.flip(0)
    )
    for name in ('accuracy', 'absent', 'questions', 'corrected'):
        same = getattr(one, name), getattr(other, name)
        assert torch.equal(*(value.nan_to_num(-1) for value in same))
    assert one.total == pytest.approx(float(right.double().mean()), abs=CLOSE)


def test_rates_give_the_curve_of_the_answers() -> None:
    draw = torch.Generator().manual_seed(0)
    gold = torch.arange(40).view(8, 5) % 4
    right = torch.rand(8, 5, generator=draw) < 0.6
    named = torch.rand(20, 4, generator=draw) < 0.25
    counted = retrieval_curve(right, gold, control=named)
    given_rates = retrieval_curve(
        counted.accuracy, control=counted.absent, questions=10,
        control_questions=torch.tensor([20, 20, 20, 20]),
    )  # fmt: skip
    for name in ('standard_error', 'corrected_standard_error', 'questions'):
        assert torch.equal(getattr(counted, name), getattr(given_rates, name))
    assert counted.total == pytest.approx(given_rates.total, abs=CLOSE)


def test_standard_errors_are_those_of_repeated_draws() -> None:
    draw = torch.Generator().manual_seed(1)
    rate, count = torch.tensor([0.1, 0.5, 0.9]), 40
    drawn = (torch.rand(4000, count, 3, generator=draw) < rate).double().mean(1)
    found = retrieval_curve(
        rate, control=rate, questions=count, control_questions=count
    )
    spread = drawn.std(0)
    # A standard deviation of 4000 draws is known to 1.2 %: four of these.
    assert torch.allclose(found.standard_error, spread, rtol=0.05)
    both = (drawn[:2000] - drawn[2000:]).std(0)
    assert torch.allclose(found.corrected_standard_error, both, rtol=0.07)
    assert retrieval_curve(rate, control=rate).standard_error.isnan().all()


def test_errors_of_depth_and_slopes_are_those_of_repeated_draws() -> None:
    draw = torch.Generator().manual_seed(2)
    # The ends so far apart that the lower one is the same in every draw.
    rate = torch.tensor([0.9, 0.8, 0.4, 0.3, 0.2, 0.3, 0.5, 0.6]).double()
    absent, count = torch.full((8,), 0.1).double(), 200

    def drawn(share: Tensor) -> Tensor:
        each = torch.rand(1000, count, 8, generator=draw) < share
        return each.double().mean(1)

    curves = drawn(rate) - drawn(absent)
    found = retrieval_curve(
        rate, control=absent, questions=count, control_questions=count
    )
    for measure, error in (
        (u_depth, found.u_depth_error),
        (primacy_slope, found.primacy_slope_error),
        (recency_slope, found.recency_slope_error),
    ):
        spread = np.std([measure(curve) for curve in curves])
        # A standard deviation of 1000 draws is known to 2.2 %: four of these.
        assert error == pytest.approx(spread, rel=0.09)
    unknown = retrieval_curve(rate, control=absent)
    assert math.isnan(unknown.u_depth_error)
    assert math.isnan(retrieval_curve(rate[:2], control=rate[:2]).u_depth_error)


def test_places_that_were_not_asked_are_left_out() -> None:
    values = torch.tensor([1.0, math.nan, 0.0, math.nan, 0.5])
    assert u_depth(values) == 0.5
    assert primacy_slope(values) == pytest.approx(-2.0, abs=CLOSE)
    empty = torch.tensor([math.nan, 0.5, 0.5])
    assert math.isnan(u_depth(empty))
    assert math.isnan(u_depth(empty.flip(0)))
    assert math.isnan(u_depth(torch.tensor([0.5, math.nan, 0.5])))
    assert math.isnan(primacy_slope(empty))
    assert math.isnan(u_depth(torch.tensor([0.5, 0.1])))
    assert math.isnan(primacy_slope(torch.tensor([0.5])))


BITS, PLACES = torch.ones(2, 3).bool(), torch.zeros(2, 3).long()
NAMED, RATES = torch.zeros(4, 3).bool(), torch.full((3,), 0.5)


@pytest.mark.parametrize(
    ('arguments', 'error', 'message'),
    [
        ((BITS,), TypeError, 'got no gold'),
        ((BITS.long(), PLACES), TypeError, 'int64 answers'),
        ((BITS, PLACES[:1]), ValueError, 'of one shape'),
        ((BITS[:0], PLACES[:0]), ValueError, 'of one shape'),
        ((BITS, PLACES - 1), ValueError, 'absent keys belong to the control'),
        ((BITS, PLACES + 3), ValueError, 'between 0 and 2'),
        ((RATES, PLACES), TypeError, "no 'gold'"),
        ((RATES[:2],), ValueError, 'shares between 0 and 1'),
        ((RATES * 3,), ValueError, 'shares between 0 and 1'),
    ],
)
def test_what_does_not_fit(
    arguments: tuple[Tensor, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        retrieval_curve(*arguments, control=NAMED)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'control': NAMED[0]}, r'boolean of shape \[C, n\]'),
        ({'control': NAMED.long()}, 'int64'),
        ({'control': RATES - 1}, "'control' to be shares"),
        ({'control': NAMED, 'control_questions': 3}, 'which are counted'),
        ({'control': RATES, 'questions': -1}, "'questions' to be a number"),
        ({'control': RATES, 'questions': torch.ones(2)}, '3 places'),
    ],
)
def test_what_is_no_control(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        retrieval_curve(RATES, **options)
    with pytest.raises(ValueError, match="no 'questions' with boolean"):
        retrieval_curve(BITS, PLACES, control=NAMED, questions=3)
