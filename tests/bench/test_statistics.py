import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from gnnbridge.bench.statistics import (
    best_group,
    holm,
    interval,
    paired,
    welch,
)

P = st.floats(0, 1, allow_subnormal=False)


def test_interval_is_the_t_interval():
    values = [0.61, 0.7, 0.66, 0.59, 0.8]
    mean, half = interval(values)
    low, high = stats.t.interval(
        0.95, 4, loc=np.mean(values), scale=stats.sem(values)
    )
    assert mean - half == pytest.approx(low, rel=1e-12)
    assert mean + half == pytest.approx(high, rel=1e-12)


def test_interval_of_few():
    assert interval([0.5]) == (0.5, None)
    assert interval([0.5, 0.5]) == (0.5, 0)
    with pytest.raises(ValueError, match='one for each seed'):
        interval([])


def test_interval_covers_as_often_as_it_says():
    random = np.random.default_rng(0)
    drawn = random.normal(size=(2000, 5))
    hits = [abs(m) <= h for m, h in map(interval, drawn.tolist())]
    # Three standard deviations of a share of 2000.
    assert np.mean(hits) == pytest.approx(0.95, abs=0.015)


def test_paired_is_the_paired_t_test():
    a, b = [0.7, 0.9, 0.8, 0.75], [0.6, 0.7, 0.75, 0.72]
    found, known = paired(a, b), stats.ttest_rel(a, b)
    low, high = known.confidence_interval(0.95)
    assert found.difference == pytest.approx(0.095)
    assert found.p == pytest.approx(known.pvalue, rel=1e-9)
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-9)


@pytest.mark.filterwarnings('error')
def test_paired_without_variance():
    # Binary fractions of these are not all the same: 0.1 is none.
    equal = paired([0.3, 0.2, 0.7], [0.3, 0.2, 0.7])
    assert equal == (0, 0, 0, 1)
    shifted = paired([0.3, 0.2, 0.7], [0.2, 0.1, 0.6])
    assert shifted == pytest.approx((0.1, 0.1, 0.1, 0))
    assert paired([0.3], [0.2]) == (pytest.approx(0.1), None, None, None)


def test_paired_knows_that_counts_are_coarse():
    a, b = [0.51, 0.61], [0.5, 0.6]
    assert paired(a, b).p == 0
    assert paired(a, b, resolution=0.01).p > 0.1
    # From 0.2 to 1 on all of five seeds is no accident of rounding.
    assert paired([1.0] * 5, [0.2] * 5, resolution=0.01).p < 1e-6
    # A spread that is larger than the resolution is left as it is.
    a, b = [0.7, 0.9, 0.8], [0.5, 0.6, 0.7]
    assert paired(a, b, resolution=0.01) == paired(a, b)


def test_paired_needs_the_same_seeds():
    with pytest.raises(ValueError, match='of the same seeds'):
        paired([0.1, 0.2], [0.1])


def rejected_by_holm(p_values, level):
    """Step by step, as the method is told: the smallest first, until one
    stays."""
    found, left = set(), list(range(len(p_values)))
    while left:
        smallest = min(left, key=lambda i: p_values[i])
        if p_values[smallest] > level / len(left):
            return found
        found.add(smallest)
        left.remove(smallest)
    return found


@given(p_values=st.lists(P, max_size=8), level=st.floats(0.001, 0.5))
@settings(deadline=None, max_examples=100, derandomize=True)
def test_holm_rejects_what_the_steps_reject(p_values, level):
    adjusted = holm(p_values)
    # The two ways round differently at the very edge.
    if all(abs(p - level) > 1e-9 for p in adjusted):
        found = {i for i, p in enumerate(adjusted) if p <= level}
        assert found == rejected_by_holm(p_values, level)


@given(p_values=st.lists(P, min_size=1, max_size=5))
@settings(deadline=None, max_examples=60, derandomize=True)
def test_holm_is_the_closed_test_of_bonferroni(p_values):
    """An adjusted p is the largest Bonferroni p of the sets it is in."""
    numbers = range(len(p_values))
    for i, adjusted in enumerate(holm(p_values)):
        sets = [
            chosen
            for size in range(1, len(p_values) + 1)
            for chosen in itertools.combinations(numbers, size)
            if i in chosen
        ]
        largest = max(
            min(1, len(chosen) * min(p_values[j] for j in chosen))
            for chosen in sets
        )
        assert adjusted == pytest.approx(largest, abs=1e-12)


@pytest.mark.parametrize(
    ('a', 'b'),
    [
        ([0.1, 0.2, 0.4], [0.3, 0.5, 0.55, 0.6]),
        ([0.5, 0.5, 0.5], [0.3, 0.5, 0.55]),
    ],
)
# scipy distrusts a group without variance; with the other it is right.
@pytest.mark.filterwarnings('ignore:Precision loss')
def test_welch(a, b):
    known = stats.ttest_ind(a, b, equal_var=False).pvalue
    assert welch(a, b) == pytest.approx(known, rel=1e-9)


@pytest.mark.filterwarnings('error')
def test_welch_without_variance():
    assert welch([1.0, 1.0], [1.0, 1.0, 1.0]) == 1
    assert welch([1.0, 1.0], [0.5, 0.5]) == 0
    assert welch([1.0, 1.0], [0.99, 0.99], resolution=0.01) > 0.05


def test_best_group():
    values = {
        'far': [0.1, 0.12, 0.11, 0.1],
        'best': [0.8, 0.82, 0.78, 0.81],
        'near': [0.79, 0.8, 0.8, 0.78],
    }
    assert best_group(values, higher_is_better=True) == ['best', 'near']
    assert best_group(values, higher_is_better=False) == ['far']
    assert best_group({}, higher_is_better=True) == []


def test_best_group_adjusts_for_how_many_there_are():
    values = {'best': [0.66, 0.71, 0.76], 'other': [0.5, 0.55, 0.6]}
    p = welch(values['best'], values['other'])
    assert p < 0.05 < 3 * p
    assert best_group(values, higher_is_better=True) == ['best']
    more = {**values, 'b': values['other'], 'c': values['other']}
    assert best_group(more, higher_is_better=True) == [
        'best',
        'other',
        'b',
        'c',
    ]


def test_best_group_of_one_seed():
    values = {'a': [0.5], 'b': [0.7], 'c': [0.7]}
    assert best_group(values, higher_is_better=True) == ['b', 'c']
