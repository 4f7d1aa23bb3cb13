import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import NETWORKS, edges_of
from scipy.stats import norm

from gnnbridge.curvature.forman import augmented_forman
from gnnbridge.transforms.mixture import TwoGaussians, fit_two_gaussians

PROPERTY = settings(deadline=None, max_examples=25, derandomize=True)


def gaussians(values: np.ndarray, shares: np.ndarray) -> list[list[float]]:
    """Mean, standard deviation and part of each component."""
    found = []
    for own in shares:
        mean = np.average(values, weights=own)
        variance = np.average((values - mean) ** 2, weights=own) + 1e-6
        found.append([mean, math.sqrt(variance), own.mean()])
    return found


def naive(values: np.ndarray) -> list[list[float]]:
    """Expectation maximisation, number by number."""
    cuts = [
        np.stack([values <= cut, values > cut]).astype(float)
        for cut in np.unique(values)[:-1]
    ]
    within = [
        sum(own.sum() * values[own > 0].var() for own in shares)
        for shares in cuts
    ]
    best = next(i for i, v in enumerate(within) if v <= min(within) + 1e-9)
    fit = gaussians(values, cuts[best])
    last = -math.inf
    for _ in range(100):
        parts = np.stack(
            [part * norm.pdf(values, mean, std) for mean, std, part in fit]
        )
        fit = gaussians(values, parts / parts.sum(0))
        likelihood = np.log(parts.sum(0)).mean()
        if abs(likelihood - last) < 1e-3:
            break
        last = likelihood
    return sorted(fit)


@PROPERTY
@given(st.lists(st.integers(-9, 9), min_size=2, max_size=40))
def test_equals_the_naive_fit(numbers: list[int]) -> None:
    values = np.array(numbers, dtype=float)
    fit = fit_two_gaussians(values)
    if len(set(numbers)) == 1:
        assert fit is None
        return
    assert fit is not None
    found = np.stack([fit.mean, fit.std, fit.share], axis=1)
    # Up to a hundred rounds of the same operations in another order.
    np.testing.assert_allclose(found, naive(values), rtol=1e-6, atol=1e-9)


def test_of_equal_cuts_the_first() -> None:
    # Their variances are equal on paper, and that of the second is smaller.
    values = np.array([0.1, 0.2, 0.3])
    fit = fit_two_gaussians(values)
    assert fit is not None
    assert fit.mean.tolist() == pytest.approx(
        [mean for mean, _, _ in naive(values)]
    )
    assert fit.share[0] < 0.5


def test_limits_of_the_library_of_the_paper() -> None:
    # GaussianMixture(2, random_state=0) of scikit-learn 1.9.1.
    known = {
        ('karate', 3): (-4.409659, 1.777638),
        ('barbell', 4): (-5.953962, 17.089899),
        ('barabasi-albert-43', 3): (-9.212367, -2.940746),
        ('ring-of-cliques', 3): (-5.983028, 4.800001),
        ('grid', 4): (0.5, 1.001),
    }
    for (name, cycles), limits in known.items():
        edges = edges_of(NETWORKS[name])
        values = augmented_forman(edges, cycles=cycles).chunk(2)[0].numpy()
        fit = fit_two_gaussians(values)
        assert fit is not None
        # The known numbers have six digits.
        assert (fit.crossing, fit.high) == pytest.approx(limits, abs=1e-6)


def test_two_points() -> None:
    fit = fit_two_gaussians(np.array([1.0, 1.0, 1.0, 5.0]))
    assert fit is not None
    assert fit.mean.tolist() == pytest.approx([1, 5])
    assert fit.std.tolist() == pytest.approx([1e-3, 1e-3])
    assert fit.share.tolist() == pytest.approx([0.75, 0.25])
    assert fit.crossing == pytest.approx(3)
    assert fit.high == pytest.approx(5.001)


def test_two_heaps() -> None:
    rng = np.random.default_rng(1)
    parts = rng.normal(-4, 0.5, 3000), rng.normal(3, 2.0, 1000)
    fit = fit_two_gaussians(np.concatenate(parts))
    assert fit is not None
    # Four standard errors of the wider one, which has few numbers.
    assert fit.mean.tolist() == pytest.approx([-4, 3], abs=0.25)
    assert fit.std.tolist() == pytest.approx([0.5, 2], abs=0.2)
    assert fit.share.tolist() == pytest.approx([0.75, 0.25], abs=0.02)
    # (-4 * 2 + 3 * 0.5) / 2.5 is as many deviations from both means.
    assert fit.crossing == pytest.approx(-2.6, abs=0.2)


def test_limits() -> None:
    fit = TwoGaussians(
        mean=np.array([0.0, 6.0]),
        std=np.array([1.0, 2.0]),
        share=np.array([0.5, 0.5]),
    )
    assert fit.crossing == pytest.approx(2)
    assert fit.high == pytest.approx(8)
    expected = [np.log(0.5 * norm.pdf(3.0, 0, 1))]
    expected += [np.log(0.5 * norm.pdf(3.0, 6, 2))]
    density = fit.log_density(np.array([3.0]))
    assert density.ravel().tolist() == pytest.approx(expected)


def test_no_numbers() -> None:
    assert fit_two_gaussians(np.zeros(0)) is None
