"""What can be said of values over a few seeds, and what cannot."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

#: Intervals cover this share; p values below the rest are significant.
CONFIDENCE = 0.95
LEVEL = 0.05


class Interval(NamedTuple):
    """A mean and its 95 % t-interval.

    Attributes:
        mean: The mean.
        half_width: What the interval reaches to either side; None for one
            value, which says nothing of the spread.
    """

    mean: float
    half_width: float | None


class Difference(NamedTuple):
    """A mean difference over the same seeds.

    Attributes:
        difference: Its mean.
        low: The lower end of its 95 % t-interval; None for one seed.
        high: The upper end; None for one seed.
        p: Of the paired t-test, two-sided; None for one seed.
    """

    difference: float
    low: float | None
    high: float | None
    p: float | None


def interval(values: Sequence[float]) -> Interval:
    """The mean of values and its 95 % t-interval.

    Args:
        values: One for each seed.

    Raises:
        ValueError: If there are none.
    """
    if not values:
        raise ValueError(
            "Expected 'values' to hold a number (got none). Give one for each "
            'seed.'
        )
    mean = float(np.mean(values))
    if len(values) == 1:
        return Interval(mean, None)
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return Interval(mean, _quantile(len(values) - 1) * error)


def paired(
    values: Sequence[float],
    control: Sequence[float],
    *,
    resolution: float = 0.0,
) -> Difference:
    """The difference from a control over the same seeds, by a paired t-test.

    Of counts, such as the accuracy on some hundred answers, a few seeds can
    give the same difference by accident; its spread is then taken to be no
    less than what rounding to the resolution gives. Without a resolution, a
    difference that never varies has p = 0, and p = 1 if it is zero: the
    limits of the test.

    Args:
        values: One for each seed.
        control: Those of the same seeds, in the same order.
        resolution: The smallest step between two values; 0 for the test as
            :func:`scipy.stats.ttest_rel` has it.

    Raises:
        ValueError: If they are not as many, or none.
    """
    if len(values) != len(control) or not values:
        raise ValueError(
            f"Expected 'values' and 'control' to be of the same seeds (got "
            f'{len(values)} and {len(control)}). Give one of each per seed.'
        )
    # Rounding would leave 0.3 - 0.2 and 0.2 - 0.1 apart.
    differences = np.subtract(values, control).round(12)
    mean, count = float(differences.mean()), len(differences)
    if count == 1:
        return Difference(mean, None, None, None)
    # A rounded value is uniform about the true one, and there are two.
    variance = max(float(differences.var(ddof=1)), resolution**2 / 6)
    error = math.sqrt(variance / count)
    reach = _quantile(count - 1) * error
    p = _two_sided(mean, error, count - 1)
    return Difference(mean, mean - reach, mean + reach, p)


def holm(p_values: Sequence[float]) -> list[float]:
    """P values adjusted for how many tests there are.

    By `Holm's method <https://www.jstor.org/stable/4615733>`_: if those below
    0.05 are called significant, then the chance that any of them is so by
    accident is at most 0.05, however the tests depend on each other.

    Args:
        p_values: Of all tests of a family.

    Returns:
        Those adjusted, in the same order, at most 1.
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    for place, number in enumerate(order):
        scaled = (len(p_values) - place) * p_values[number]
        largest = max(largest, min(1.0, scaled))
        adjusted[number] = largest
    return adjusted


def best_group(
    values: Mapping[str, Sequence[float]],
    *,
    higher_is_better: bool,
    resolution: float = 0.0,
) -> list[str]:
    """The best of several and those that are not significantly worse.

    The one with the best mean is compared with each other one by Welch's
    t-test, two-sided, and the p values are adjusted by :func:`holm`. Since
    the best one is chosen by the same values, the group errs on the side of
    being too small. Those with a single value cannot be tested and belong
    only if their mean equals the best.

    Args:
        values: Those of each, one for each seed.
        higher_is_better: Whether more is better.
        resolution: As of :func:`paired`.

    Returns:
        Their names, in the order of ``values``.

    Raises:
        ValueError: If one has no values.
    """
    means = {name: interval(found).mean for name, found in values.items()}
    if not means:
        return []
    choose = max if higher_is_better else min
    best = choose(means, key=means.__getitem__)
    others = [
        name
        for name in values
        if name != best and min(len(values[name]), len(values[best])) > 1
    ]
    adjusted = holm(
        [welch(values[best], values[o], resolution=resolution) for o in others]
    )
    group = {
        name for name, p in zip(others, adjusted, strict=True) if p >= LEVEL
    }
    group |= {name for name in values if means[name] == means[best]}
    return [name for name in values if name in group]


def welch(
    a: Sequence[float], b: Sequence[float], *, resolution: float = 0.0
) -> float:
    """P of Welch's t-test: whether two means differ, two-sided.

    Args:
        a: At least two values.
        b: At least two others, not paired with them.
        resolution: As of :func:`paired`.
    """
    floor = resolution**2 / 12
    first = max(float(np.var(a, ddof=1)), floor) / len(a)
    second = max(float(np.var(b, ddof=1)), floor) / len(b)
    difference = float(np.mean(a) - np.mean(b))
    total = first + second
    if total == 0:
        return _two_sided(round(difference, 12), 0.0, 1)
    parts = first**2 / (len(a) - 1) + second**2 / (len(b) - 1)
    return _two_sided(difference, math.sqrt(total), total**2 / parts)


def _two_sided(mean: float, error: float, freedom: float) -> float:
    if error == 0:
        return 0.0 if mean else 1.0
    return float(2 * stats.t.sf(abs(mean) / error, freedom))


def _quantile(freedom: int) -> float:
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom))
