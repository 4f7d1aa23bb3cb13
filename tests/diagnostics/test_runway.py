import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnbridge.diagnostics.runway import (
    birth_influence,
    path_counts,
    runway,
    runway_asymmetry,
)

FEW = settings(max_examples=25, deadline=None, derandomize=True)
SIZES = st.integers(1, 9)


def cesaro(size: int) -> np.ndarray:
    lower = np.tril(np.ones((size, size)))
    return lower / lower.sum(1, keepdims=True)


def unrolled_updates(size: int, layers: int, token: int) -> int:
    """Nodes after the input on a way from a token to the readout, by search."""
    forth = {(token, 0)}
    for layer in range(layers):
        forth |= {
            (later, layer + 1)
            for k, at in set(forth)
            if at == layer
            for later in range(k, size)
        }
    back = {(size - 1, layers)}
    for layer in range(layers, 0, -1):
        back |= {
            (earlier, layer - 1)
            for k, at in set(back)
            if at == layer
            for earlier in range(k + 1)
        }
    return sum(1 for _, layer in forth & back if layer > 0)


def test_path_counts_are_those_of_the_paper_note() -> None:
    assert path_counts(6, 4) == [56, 35, 20, 10, 4, 1]


@FEW
@given(SIZES, SIZES)
def test_path_counts_are_powers_of_the_causal_mask(n: int, depth: int) -> None:
    mask = np.tril(np.ones((n, n), dtype=object))
    power = np.linalg.matrix_power(mask.astype(np.int64), depth)
    assert path_counts(n, depth) == power[-1].tolist()
    expected = [math.comb(n - 1 - i + depth - 1, depth - 1) for i in range(n)]
    assert path_counts(n, depth) == expected


def test_large_path_counts_stay_exact() -> None:
    counts = path_counts(2000, 96)
    assert counts[0] == math.comb(1999 + 95, 95)
    found = runway(2000, 96)
    # Beyond float64's integers, and log-gamma agrees with the logarithm.
    log = math.lgamma(2095) - math.lgamma(96) - math.lgamma(2000)
    assert found.path_count_log10[0].item() == pytest.approx(log / math.log(10))
    assert math.isfinite(found.asymmetry)
    # C(n, k) grows beyond float64 here.
    assert math.isfinite(runway(20000, 128).asymmetry)
    assert math.comb(20126, 127) > 1e308


@FEW
@given(SIZES, st.integers(1, 5))
def test_updates_are_those_found_by_search(n: int, depth: int) -> None:
    found = runway(n, depth)
    expected = [unrolled_updates(n, depth, token) for token in range(n)]
    assert list(found.updates) == expected
    share = torch.tensor(expected, dtype=torch.float64) / expected[0]
    assert torch.equal(found.opportunities, share)


def test_a_single_layer_has_no_runway() -> None:
    found = runway(5, 1)
    assert found.path_counts == (1,) * 5
    assert found.updates == (1,) * 5
    assert runway(50, 1).asymmetry == 0


@FEW
@given(
    SIZES,
    st.lists(st.floats(0, 1), min_size=1, max_size=6),
)
def test_birth_is_the_last_row_of_the_product(
    n: int, mixing: list[float]
) -> None:
    product = np.eye(n)
    for share in mixing:
        product = ((1 - share) * np.eye(n) + share * cesaro(n)) @ product
    found = birth_influence(n, len(mixing), torch.tensor(mixing).double())
    np.testing.assert_allclose(found, product[-1], atol=1e-14)
    assert found.sum().item() == pytest.approx(1)


def continuous(n: int, depth: int, alpha: float) -> np.ndarray:
    """The density of Chowdhury (2026) at the middle of each position."""
    x = (np.arange(n) + 0.5) / n
    total = np.zeros(n)
    for k in range(1, depth + 1):
        weight = math.comb(depth, k) * alpha**k * (1 - alpha) ** (depth - k)
        total += weight * np.log(1 / x) ** (k - 1) / math.factorial(k - 1)
    total /= n
    total[-1] += (1 - alpha) ** depth
    return total


@pytest.mark.parametrize(
    ('depth', 'error'), [(2, 0.001), (8, 0.42), (12, 0.89)]
)
def test_the_continuous_form_has_its_known_error(
    depth: int, error: float
) -> None:
    found = birth_influence(512, depth, 1.0).numpy()
    density = continuous(512, depth, 1.0)
    assert np.abs(found - density).sum() == pytest.approx(error, abs=0.002)
    # Yet it has the order of positions right.
    assert np.array_equal(np.argsort(-density), np.argsort(-found))


@pytest.mark.parametrize('depth', [2, 4, 8, 12])
def test_the_weakest_position_is_at_the_end_and_not_in_the_middle(
    depth: int,
) -> None:
    with_residual = birth_influence(512, depth, 0.5)
    assert int(with_residual.argmin()) == 510
    assert bool((with_residual[:-1].diff() < 0).all())
    assert with_residual[-1] > with_residual[-2]
    assert int(birth_influence(512, depth, 1.0).argmin()) == 511


def test_asymmetry_compares_the_ends_without_the_final_token() -> None:
    influence = torch.ones(20)
    assert runway_asymmetry(influence) == 0
    influence[:2] = 3.0
    influence[-1] = 100.0
    assert runway_asymmetry(influence) == pytest.approx(math.log(3))
    influence[17:19] = torch.tensor([0.25, 0.75])
    assert runway_asymmetry(influence) == pytest.approx(math.log(6))
    assert runway_asymmetry(influence, share=0.05) == pytest.approx(math.log(4))
    # Reversed without the final token, the sign turns.
    turned = torch.cat([influence[:-1].flip(0), influence[-1:]])
    assert runway_asymmetry(turned) == pytest.approx(-math.log(6))


def test_asymmetry_of_what_has_no_ends() -> None:
    assert math.isnan(runway_asymmetry(torch.ones(2)))
    assert math.isnan(runway_asymmetry(torch.zeros(9)))
    assert math.isnan(runway_asymmetry(torch.full((9,), math.nan)))
    assert runway_asymmetry(torch.tensor([1.0, 0, 0, 1])) == math.inf
    assert runway_asymmetry(torch.tensor([0.0, 0, 1, 1])) == -math.inf


def test_asymmetry_of_path_counts_is_exact() -> None:
    counts = path_counts(40, 6)
    expected = math.log(sum(counts[:4]) / sum(counts[35:39]))
    assert runway(40, 6).asymmetry == pytest.approx(expected)
    assert runway_asymmetry(counts) == pytest.approx(expected)


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match='num_tokens'):
        path_counts(0, 2)
    with pytest.raises(ValueError, match='num_layers'):
        runway(2, 0)
    with pytest.raises(ValueError, match='between 0 and 1'):
        birth_influence(4, 2, 1.5)
    with pytest.raises(ValueError, match='one per layer'):
        birth_influence(4, 2, torch.ones(3))
    with pytest.raises(ValueError, match='share'):
        runway_asymmetry(torch.ones(9), share=0.6)
    with pytest.raises(ValueError, match=r'shape \[N\]'):
        runway_asymmetry(torch.ones(2, 9))
