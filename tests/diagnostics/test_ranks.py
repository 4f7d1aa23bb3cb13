import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy
from torch import Tensor
from torch_geometric.data import Batch, Data

from gnnbridge.diagnostics.ranks import (
    effective_rank,
    mean_cosine,
    rank_collapse,
    stable_rank,
    without_mean,
)

CENTERED = [effective_rank, stable_rank, mean_cosine]


def states(size: int, channels: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size, channels, generator=generator).double()


def by_scipy(x: np.ndarray) -> dict[Any, float]:
    sigma = np.linalg.svd(x, compute_uv=False)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    cosine = unit @ unit.T
    off = ~np.eye(len(x), dtype=bool)
    return {
        effective_rank: math.exp(entropy(sigma / sigma.sum())),
        stable_rank: np.linalg.norm(x) ** 2 / np.linalg.norm(x, 2) ** 2,
        mean_cosine: cosine[off].mean(),
    }


@pytest.mark.parametrize('centered', [True, False])
@pytest.mark.parametrize('shape', [(9, 4), (4, 9), (2, 1)])
def test_measures_equal_numpy_and_scipy(
    shape: tuple[int, int], centered: bool
) -> None:
    x = states(*shape, seed=6)
    plain = x.numpy() - (x.numpy().mean(0) if centered else 0)
    for measure, expected in by_scipy(plain).items():
        found = measure(x, centered=centered)
        assert found.item() == pytest.approx(expected)


def test_collapse_is_the_composite_norm_of_the_paper() -> None:
    """sqrt(|.|_1 |.|_inf), the square root included."""
    x = states(7, 4, 5).numpy()

    def norm(m: np.ndarray) -> float:
        rows = max(sum(abs(v) for v in row) for row in m)
        columns = max(sum(abs(v) for v in column) for column in m.T)
        return math.sqrt(rows * columns)

    expected = norm(x - x.mean(0)) / norm(x)
    assert rank_collapse(torch.from_numpy(x)).item() == pytest.approx(expected)


def test_equal_tokens_have_rank_one_and_nothing_beside_it() -> None:
    token = states(1, 6, 0)
    for dtype in (torch.float64, torch.float32):
        x = (1000 * token).to(dtype).expand(8, 6)
        assert stable_rank(x).item() == pytest.approx(1, abs=1e-6)
        assert effective_rank(x).item() == pytest.approx(1, abs=1e-4)
        # The mean of eight equal numbers may be rounded; that is no token's.
        assert effective_rank(x, centered=True).item() == 0
        assert stable_rank(x, centered=True).item() == 0
        assert mean_cosine(x, centered=True).item() == 0


def test_small_differences_are_not_taken_for_rounding() -> None:
    token, apart = states(1, 6, 1).float(), states(8, 6, 2).float()
    x = 1000 * token + 0.1 * apart
    expected = effective_rank(apart, centered=True)
    torch.testing.assert_close(
        # float32 keeps three digits of what is 1e-4 of a number.
        effective_rank(x, centered=True),
        expected,
        rtol=5e-3,
        atol=0,
    )
    assert without_mean(x).abs().max() > 0.1


def test_a_shared_mean_hides_the_rest() -> None:
    apart, shared = states(12, 5, 3), 100 * states(1, 5, 4)
    x = apart + shared
    assert stable_rank(x).item() < 1.01
    assert mean_cosine(x).item() > 0.99
    for measure in CENTERED:
        torch.testing.assert_close(
            measure(x, centered=True), measure(apart, centered=True)
        )


@pytest.mark.parametrize('size', [2, 5, 9])
def test_orthonormal_tokens(size: int) -> None:
    x, _ = torch.linalg.qr(states(11, size, size))
    x = x.mT
    assert stable_rank(x).item() == pytest.approx(size)
    assert effective_rank(x).item() == pytest.approx(size)
    # Without their mean they are the corners of a simplex.
    assert stable_rank(x, centered=True).item() == pytest.approx(size - 1)
    assert effective_rank(x, centered=True).item() == pytest.approx(size - 1)
    assert mean_cosine(x, centered=True).item() == (
        pytest.approx(-1 / (size - 1))
    )


def test_zero_states_are_no_nan() -> None:
    x = torch.zeros(4, 3)
    for centered in (True, False):
        for measure in CENTERED:
            assert measure(x, centered=centered).item() == 0


@pytest.mark.parametrize('centered', [True, False])
@pytest.mark.parametrize('measure', CENTERED)
def test_graphs_batches_and_gradients(measure: Any, centered: bool) -> None:
    graphs = [
        Data(
            x=states(size, 3, size),
            edge_index=torch.empty(2, 0, dtype=torch.int64),
        )
        for size in (4, 7)
    ]
    parts = torch.stack([measure(g.x, centered=centered) for g in graphs])
    layer = Batch.from_data_list(graphs)
    found = measure([layer, layer], centered=centered)
    torch.testing.assert_close(found, parts.mean().expand(2))
    torch.testing.assert_close(measure(graphs, centered=centered), parts)
    stacked = torch.stack([graphs[0].x, graphs[1].x[:4]])
    assert measure(stacked.unsqueeze(0), centered=centered).shape == (1, 2)
    assert measure(stacked.bfloat16()).dtype == torch.float32
    assert torch.autograd.gradcheck(
        lambda x: measure(x, centered=centered),
        states(5, 3, 8).requires_grad_(),
    )


def test_input_that_does_not_fit() -> None:
    for measure in CENTERED:
        with pytest.raises(ValueError, match=r'\[..., N, d\]'):
            measure(torch.ones(3), centered=True)
        with pytest.raises(TypeError, match='none'):
            measure([], centered=True)
    with pytest.raises(ValueError, match='two tokens'):
        mean_cosine(torch.ones(1, 3), centered=True)


@settings(deadline=None, max_examples=25, derandomize=True)
@given(
    size=st.integers(2, 9),
    channels=st.integers(1, 9),
    seed=st.integers(0, 99),
    scale=st.floats(0.01, 100),
)
def test_ranks_in_order_and_without_scale(
    size: int, channels: int, seed: int, scale: float
) -> None:
    x = states(size, channels, seed)
    for centered in (True, False):
        stable = stable_rank(x, centered=centered).item()
        effective = effective_rank(x, centered=centered).item()
        most = min(size - centered, channels)
        # Both ends are reached up to rounding.
        assert 1 - 1e-9 <= stable <= effective + 1e-9
        assert effective <= most + 1e-6
        for measure in CENTERED:
            torch.testing.assert_close(
                measure(scale * x, centered=centered),
                measure(x, centered=centered),
            )
    for measure in CENTERED:
        # A shift of all tokens is what centring takes off.
        torch.testing.assert_close(
            measure(x + scale, centered=True), measure(x, centered=True)
        )


def test_attention_alone_takes_the_residual_to_its_third_power() -> None:
    """Full attention without norms, MLPs and residuals (Dong et al., 2021)."""
    x, residuals = 0.7 * states(9, 6, 1), []
    for layer in range(3):
        turn = torch.linalg.qr(states(6, 6, 10 + layer))[0]
        score = x @ torch.linalg.qr(states(6, 6, 20 + layer))[0] @ x.mT
        x = (score / 6**0.5).softmax(-1) @ x @ turn
        residuals.append(rank_collapse(x).item())
    # 0.9, 0.07, 8e-6; the next one is at the rounding of float64.
    first, second, third = np.log(residuals)
    assert second < 3 * first
    assert third < 3 * second
