"""How well a score orders pairs of tokens, and what of it is position."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

# Receivers with fewer sources have no order worth speaking of.
FIRST_RECEIVER = 12
# Residuals of ranks below this are rounding: a score of controls alone.
_NONE = 1e-6


@dataclass(frozen=True)
class Agreement:
    """Rank correlations of two matrices over pairs of tokens.

    Attributes:
        pairs: Over all pairs of a token and an earlier one.
        per_receiver: The mean of those over the sources of one receiver, from
            the thirteenth on; NaN if there is none.
        partial: Over all pairs, without what the ranks of receiver, source
            and distance explain.
    """

    pairs: float
    per_receiver: float
    partial: float


def agreement(
    score: ArrayLike, truth: ArrayLike, *, first: int = 1
) -> Agreement:
    """How well a score orders pairs of tokens as something measured does.

    In a causal graph almost every score goes with position, so that a
    correlation over all pairs alone says little.

    Args:
        score: The matrix to judge.
        truth: What to compare it with.
        first: The first source. By default without token 0, on which every
            score agrees.

    Shapes:
        - **score**, **truth:** :math:`(N, N)`, row = receiver

    Raises:
        ValueError: If they are no square matrices of one size.
    """
    S, T = np.asarray(score, dtype=float), np.asarray(truth, dtype=float)
    if S.shape != T.shape or S.ndim != 2 or S.shape[0] != S.shape[1]:
        raise ValueError(
            f"Expected 'score' and 'truth' of shape [N, N] (got "
            f'{list(S.shape)} and {list(T.shape)}).'
        )
    i, j = np.tril_indices(len(T), -1)
    i, j = i[j >= first], j[j >= first]
    s, t = S[i, j], T[i, j]
    rows = [
        spearman(S[receiver, first:receiver], T[receiver, first:receiver])
        for receiver in range(FIRST_RECEIVER, len(T))
    ]
    return Agreement(
        pairs=spearman(s, t),
        per_receiver=float(np.mean(rows)) if rows else float('nan'),
        partial=partial_spearman(s, t, (i, j, i - j)),
    )


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


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    if len(first) < 2 or first.std() < _NONE or second.std() < _NONE:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])
