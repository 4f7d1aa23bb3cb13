import math

import numpy as np
import pytest
from scipy import stats

from gnnbridge.diagnostics.agreement import (
    FIRST_RECEIVER,
    agreement,
    partial_spearman,
    spearman,
)

SIZE = 24


def matrix(seed: int) -> np.ndarray:
    drawn = np.random.default_rng(seed).normal(size=(SIZE, SIZE))
    # Some ties.
    return np.round(drawn, 1)


def test_all_pairs_and_receivers_equal_scipy() -> None:
    S = matrix(0)
    T = S + matrix(1)
    found = agreement(S, T)
    pairs = [(i, j) for i in range(SIZE) for j in range(1, i)]
    i, j = np.array(pairs).T
    expected = stats.spearmanr(S[i, j], T[i, j]).statistic
    assert found.pairs == pytest.approx(expected)
    rows = [
        stats.spearmanr(S[i, 1:i], T[i, 1:i]).statistic
        for i in range(FIRST_RECEIVER, SIZE)
    ]
    assert found.per_receiver == pytest.approx(np.mean(rows))
    assert 0.4 < found.pairs < 0.95
    whole = agreement(S, T, first=0)
    i, j = np.tril_indices(SIZE, -1)
    expected = stats.spearmanr(S[i, j], T[i, j]).statistic
    assert whole.pairs == pytest.approx(expected)


def test_partial_correlation_is_that_of_the_inverse_covariance() -> None:
    generator = np.random.default_rng(2)
    control = generator.normal(size=(2, 90))
    one, other = control.sum(0) + generator.normal(size=(2, 90))
    ranks = np.stack([stats.rankdata(x) for x in (one, other, *control)])
    precision = np.linalg.inv(np.cov(ranks))
    expected = -precision[0, 1] / np.sqrt(precision[0, 0] * precision[1, 1])
    assert partial_spearman(one, other, control) == pytest.approx(expected)
    assert abs(expected) < spearman(one, other)


def test_position_alone_is_no_agreement_given_position() -> None:
    place = np.arange(SIZE)
    distance = np.subtract.outer(place, place).astype(float)
    T = -distance + 0.01 * matrix(3)
    found = agreement(-distance, T)
    assert found.pairs > 0.99
    assert found.per_receiver > 0.99
    assert found.partial == 0.0


def test_what_has_no_order() -> None:
    found = agreement(np.ones((SIZE, SIZE)), matrix(4))
    assert (found.pairs, found.per_receiver, found.partial) == (0.0, 0.0, 0.0)
    assert spearman([], []) == 0.0
    small = agreement(matrix(5)[:6, :6], matrix(6)[:6, :6])
    assert math.isnan(small.per_receiver)
    assert agreement(matrix(5)[:2, :2], matrix(6)[:2, :2]).pairs == 0.0


def test_shapes_that_do_not_fit() -> None:
    for score, truth in (
        (matrix(0), matrix(0)[:5, :5]),
        (matrix(0)[:5], matrix(0)[:5]),
        (matrix(0)[0], matrix(0)[0]),
    ):
        with pytest.raises(ValueError, match=r'\[N, N\]'):
            agreement(score, truth)
