"""Two Gaussians fitted to numbers, and where they part."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Those of the library that the published thresholds were computed with: the
# fit ends when a round gains less log-likelihood per number, and a component
# of equal numbers keeps some width.
_GAIN, _ROUNDS, _VARIANCE = 1e-3, 100, 1e-6


@dataclass(frozen=True)
class TwoGaussians:
    """A mixture, the component of the smaller mean first.

    Attributes:
        mean: The two means.
        std: Their standard deviations.
        share: How much of the numbers each of them stands for.
    """

    mean: np.ndarray
    std: np.ndarray
    share: np.ndarray

    @property
    def crossing(self) -> float:
        """What is as many standard deviations from one mean as the other."""
        return float((self.mean * self.std[::-1]).sum() / self.std.sum())

    @property
    def high(self) -> float:
        """One standard deviation above the larger mean."""
        return float(self.mean[1] + self.std[1])

    def log_density(self, x: np.ndarray) -> np.ndarray:
        """The logarithm of each component, its share included, ``[2, X]``."""
        height = self.share / (self.std * np.sqrt(2 * np.pi))
        distance = (x - self.mean[:, None]) / self.std[:, None]
        return np.log(height)[:, None] - distance**2 / 2


def fit_two_gaussians(values: np.ndarray) -> TwoGaussians | None:
    """The mixture that expectation maximisation ends in.

    It starts from the two groups of least variance, so that nothing is left
    to chance.

    Returns:
        The mixture; ``None`` if all numbers are equal.
    """
    x, count = np.unique(values, return_counts=True)
    if x.size < 2:
        return None
    fit = _of_parts(x, count * _two_groups(x, count))
    last = -np.inf
    for _ in range(_ROUNDS):
        density = fit.log_density(x)
        log_total = np.logaddexp(*density)
        fit = _of_parts(x, count * np.exp(density - log_total))
        likelihood = np.average(log_total, weights=count)
        if abs(likelihood - last) < _GAIN:
            break
        last = likelihood
    return fit


def _of_parts(x: np.ndarray, amount: np.ndarray) -> TwoGaussians:
    """The Gaussians of the numbers of two parts, ``[2, X]``."""
    total = amount.sum(1)
    mean = amount @ x / total
    variance = (amount * (x - mean[:, None]) ** 2).sum(1) / total + _VARIANCE
    order = mean.argsort()
    share = total / total.sum()
    return TwoGaussians(mean[order], np.sqrt(variance[order]), share[order])


def _two_groups(x: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Sorted numbers cut in two where that is best, ``[2, X]``."""
    total = (count * (x - np.average(x, weights=count))).cumsum()[:-1]
    below = count.cumsum()[:-1]
    # Of the variance, the part between the groups.
    between = total**2 * (1 / below + 1 / (count.sum() - below))
    cut = int((between >= between.max() * (1 - 1e-9)).argmax())
    first = np.arange(x.size) <= cut
    return np.stack([first, ~first]).astype(float)
