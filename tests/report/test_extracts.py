import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnnbridge.report.extracts import (
    asymmetry,
    chance_of,
    null_asymmetry,
    precision_length,
    share_of_sinks,
    total_accuracy,
    weakest_tenth,
)


def test_share_of_sinks_is_over_heads_and_not_over_layers() -> None:
    side = {'sink_rate': [1.0, 0.0, None], 'sink_score': [[1], [0] * 3, [0]]}
    assert share_of_sinks(side) == 0.25
    assert share_of_sinks({'sink_rate': [1.0, 0.0]}) == 0.5
    assert share_of_sinks({}) is None


def test_weakest_tenth_is_where_the_curve_dips() -> None:
    curve = [1.0] * 101
    curve[40:50] = [0.1] * 10
    # The last one is the readout itself.
    curve[100] = 1e-9
    tenth = weakest_tenth(curve)
    assert tenth is not None
    assert (tenth.first, tenth.last) == (40, 49)
    assert tenth.share == pytest.approx(0.1)


@given(st.lists(st.floats(0.01, 100), min_size=11, max_size=80))
def test_weakest_tenth_is_no_larger_than_any(curve: list[float]) -> None:
    tenth = weakest_tenth(curve)
    assert tenth is not None
    before = curve[:-1]
    assert 0 <= tenth.first <= tenth.last < len(before)
    # The least of some means is no larger than the mean of all.
    level = statistics.median(before)
    assert tenth.share * level <= statistics.mean(before) * (1 + 1e-9)
    scaled = weakest_tenth([3 * value for value in curve])
    assert scaled is not None
    assert scaled.share == pytest.approx(tenth.share)


@pytest.mark.parametrize('curve', [[], [1.0] * 10, [None] * 50, [0.0] * 50])
def test_no_tenths_of_too_little(curve: list) -> None:
    assert weakest_tenth(curve) is None


def test_asymmetry_is_the_jacobians_if_there_is_one() -> None:
    both = {'asymmetry': {'jacobian': 1.0, 'rollout': 2.0}}
    assert asymmetry(both) == 1.0
    assert asymmetry({'asymmetry': {'jacobian': None, 'rollout': 2.0}}) == 2.0
    assert asymmetry({}) is None
    assert null_asymmetry({'asymmetry': 1.5}) == 1.5
    assert null_asymmetry({'asymmetry': {'birth': 1.5}}) == 1.5
    assert null_asymmetry({}) is None


def test_precision_that_is_never_reached_is_infinite() -> None:
    half = {'bfloat16': {'reaches_precision_at': None}}
    assert precision_length({'repeat_last': half}) == math.inf
    half['bfloat16']['reaches_precision_at'] = 64  # type: ignore[assignment]
    assert precision_length({'repeat_last': half}) == 64
    assert precision_length({'repeat_last': {'float32': {}}}) is None
    assert precision_length({}) is None


def test_total_accuracy_and_chance() -> None:
    assert total_accuracy({'key_value': {'total_accuracy': 0.4}}) == 0.4
    assert total_accuracy({'key_value': {'accuracy': [0.2, 0.6]}}) == 0.4
    assert total_accuracy({}) is None
    assert chance_of('needle', {}, {'needle': {'chance': 0.25}}) == 0.25
    assert chance_of('needle', {'needle': 0.5}) == 0.5
    assert chance_of('needle', {}) is None
