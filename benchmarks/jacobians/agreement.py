"""How well scores order pairs of tokens, and what that says of groups."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

# Receivers with fewer sources have no order worth speaking of.
FIRST_RECEIVER = 12
# Residuals of ranks below this are rounding: a score of controls alone.
_NONE = 1e-6
COLUMNS = ('pairs', 'per_receiver', 'partial')
Figures = dict[str, float]


def spearman(first: ArrayLike, second: ArrayLike) -> float:
    """Correlation of average ranks; zero if either has but one value."""
    return _correlation(stats.rankdata(first), stats.rankdata(second))


def partial_spearman(
    first: ArrayLike, second: ArrayLike, controls: Iterable[ArrayLike]
) -> float:
    """Correlation of ranks, without what ranks of `controls` explain."""
    ranks = [stats.rankdata(control) for control in controls]
    design = np.stack([np.ones(len(ranks[0])), *ranks], axis=1)
    rest = []
    for values in (first, second):
        rank = stats.rankdata(values)
        rest.append(rank - design @ np.linalg.lstsq(design, rank)[0])
    return _correlation(*rest)


def agreement(score: ArrayLike, truth: ArrayLike, first: int = 1) -> Figures:
    """Agreement of two matrices over pairs of a token and an earlier one.

    Over all pairs; the mean over receivers from `FIRST_RECEIVER`; and over
    all pairs given the ranks of receiver, source and distance.

    Args:
        score: The matrix to judge ``[N, N]``, row = receiver.
        truth: What to compare it with.
        first: The first source. By default without token 0, on which every
            score agrees.
    """
    S, T = np.asarray(score), np.asarray(truth)
    i, j = np.tril_indices(len(T), -1)
    i, j = i[j >= first], j[j >= first]
    s, t = S[i, j], T[i, j]
    rows = [
        spearman(S[receiver, first:receiver], T[receiver, first:receiver])
        for receiver in range(FIRST_RECEIVER, len(T))
    ]
    return {
        'pairs': spearman(s, t),
        'per_receiver': float(np.mean(rows)),
        'partial': partial_spearman(s, t, (i, j, i - j)),
    }


def mean_of(figures: Sequence[Figures]) -> Figures:
    """The mean of each figure."""
    return {
        key: float(np.mean([one[key] for one in figures])) for key in figures[0]
    }


def spread(by_seed: Sequence[Sequence[float]]) -> dict[str, object]:
    """Mean, least and greatest value of a figure, and a 95% interval.

    Args:
        by_seed: The figure for each seed and text. With several seeds all but
            the interval are of means over texts, and it is Student's for
            seeds; with one seed all are of texts.
    """
    values = np.array([np.mean(texts) for texts in by_seed])
    over = 'seeds'
    if len(values) == 1:
        values, over = np.array(by_seed[0]), 'texts'
    half = np.nan
    if len(values) > 1:
        error = values.std(ddof=1) / len(values) ** 0.5
        half = stats.t.ppf(0.975, len(values) - 1) * error
    mean = values.mean()
    return {
        'mean': float(mean),
        'min': float(values.min()),
        'max': float(values.max()),
        'interval_95': [float(mean - half), float(mean + half)],
        'over': over,
    }


def _correlation(first: NDArray, second: NDArray) -> float:
    if first.std() < _NONE or second.std() < _NONE:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])
