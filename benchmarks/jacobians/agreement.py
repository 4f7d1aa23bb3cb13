"""How well scores order pairs of tokens, and what that says of groups."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from gnnbridge.diagnostics.agreement import agreement as _agreement
from gnnbridge.diagnostics.agreement import (
    partial_spearman as partial_spearman,
)
from gnnbridge.diagnostics.agreement import spearman as spearman

COLUMNS = ('pairs', 'per_receiver', 'partial')
Figures = dict[str, float]


def agreement(score: ArrayLike, truth: ArrayLike, first: int = 1) -> Figures:
    """The three figures of :func:`gnnbridge.diagnostics.agreement`."""
    return dataclasses.asdict(_agreement(score, truth, first=first))


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
