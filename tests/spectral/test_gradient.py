import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matrices import edges_of, random_causal, static_key, window
from torch import Tensor

from gnnbridge.spectral.gradient import resistance_gradient
from gnnbridge.spectral.green import hitting_probability
from gnnbridge.spectral.laplacian import leave_rate
from gnnbridge.spectral.resistance import (
    effective_resistance,
    total_resistance,
)

SETTINGS = settings(deadline=None, max_examples=25, derandomize=True)


def by_autograd(
    A: Tensor, hops: float | None = None, pairs: Tensor | None = None
) -> Tensor:
    """Of the weighted sum of resistances, below and on the diagonal."""
    A = A.clone().requires_grad_()
    R = effective_resistance(A, hops=hops).tril(-1)
    total = R.sum() if pairs is None else (pairs.tril(-1) * R).sum()
    (grad,) = torch.autograd.grad(total, A)
    return grad.tril()


def weighted_total(
    A: Tensor, pairs: Tensor, hops: float | None = None
) -> Tensor:
    return (pairs.tril(-1) * effective_resistance(A, hops=hops).tril(-1)).sum()


@SETTINGS
@given(
    size=st.integers(1, 10),
    seed=st.integers(0, 999),
    hops=st.one_of(st.none(), st.floats(0.1, 50)),
)
def test_equals_autograd(size: int, seed: int, hops: float | None) -> None:
    A = random_causal(size, seed)
    torch.testing.assert_close(
        resistance_gradient(A, hops=hops),
        by_autograd(A, hops),
        rtol=1e-8,
        atol=1e-8,
    )


@pytest.mark.parametrize('hops', [None, 4.0])
def test_weights_of_pairs(hops: float | None) -> None:
    A = random_causal(8, 0)
    pairs = torch.rand(8, 8, generator=torch.Generator().manual_seed(1))
    pairs = pairs.double() - 0.3  # some negative
    torch.testing.assert_close(
        resistance_gradient(A, hops=hops, pairs=pairs),
        by_autograd(A, hops, pairs),
    )


def test_one_pair() -> None:
    A = random_causal(7, 2, density=0.6)
    R = effective_resistance(A)
    for i, j in [(6, 2), (4, 1), (5, 0)]:
        if R[i, j].isinf():
            continue
        pairs = torch.zeros(7, 7)
        pairs[i, j] = 1
        found = resistance_gradient(A, pairs=pairs)
        torch.testing.assert_close(found, by_autograd(A, pairs=pairs.double()))
        # More weight for an edge into a receiver past i changes nothing.
        assert not found[i + 1 :].any()


@pytest.mark.parametrize('hops', [None, 4.0])
def test_finite_differences_of_edges_that_are_absent(
    hops: float | None,
) -> None:
    A = window(9, 4)
    gradient = resistance_gradient(A, hops=hops)
    total = total_resistance(A, hops=hops)
    step = 1e-6
    for a, l in [(8, 0), (5, 1), (7, 2), (4, 3), (8, 7), (6, 6)]:
        more = A.clone()
        more[a, l] += step
        change = total_resistance(more, hops=hops) - total
        # The second order is of relative size 1e-6 times some ten.
        assert change.item() / step == pytest.approx(
            gradient[a, l].item(), rel=1e-4, abs=1e-4
        )
    assert (A[8, 0] == 0) & (gradient[8, 0] != 0)


def test_moving_mass_is_lemma_5() -> None:
    # d h_ij / d eta = N_ia (h_lj - h_kj) for j < a; N_ia = h_ia / l_a.
    A, step = random_causal(8, 3), 1e-7
    h, rate = hitting_probability(A), leave_rate(A)
    a, k, l = 5, 2, 4
    moved = A.clone()
    moved[a, k] -= step
    moved[a, l] += step
    slope = (hitting_probability(moved) - h) / step
    expected = (h[:, a] / rate[a]).unsqueeze(1) * (h[l] - h[k])
    torch.testing.assert_close(
        slope[:, :a], expected[:, :a], rtol=1e-4, atol=1e-6
    )
    gradient = resistance_gradient(A)
    change = total_resistance(moved) - total_resistance(A)
    worth = gradient[a, l] - gradient[a, k]
    assert change.item() / step == pytest.approx(worth.item(), rel=1e-4)


def test_the_best_move_is_the_best_move() -> None:
    A, step = random_causal(6, 4), 1e-5
    gradient = resistance_gradient(A)
    base = total_resistance(A)
    worth, change = [], []
    for a in range(2, 6):
        for l in range(a):
            moved = A.clone()
            moved[a] *= 1 - step
            moved[a, l] += step
            change.append((total_resistance(moved) - base).item() / step)
            worth.append((gradient[a, l] - gradient[a] @ A[a]).item())
    assert worth == pytest.approx(change, rel=2e-2)


@pytest.mark.parametrize(
    'A',
    [
        pytest.param(random_causal(7, 5, density=0.3), id='sparse'),
        pytest.param(
            torch.block_diag(random_causal(3, 6), random_causal(4, 7)),
            id='packed',
        ),
        pytest.param(torch.eye(4), id='identity'),
        pytest.param(
            torch.cat([torch.ones(6, 1), torch.zeros(6, 5)], dim=1), id='sink'
        ),
    ],
)
def test_edges_that_join_are_worth_infinitely_much(A: Tensor) -> None:
    gradient = resistance_gradient(A)
    apart = effective_resistance(A).tril(-1).isinf().sum()
    assert apart > 0
    assert not gradient.isnan().any()
    assert not gradient.triu().any()
    for a in range(len(A)):
        for l in range(a):
            more = A.clone()
            more[a, l] += 1
            left = effective_resistance(more).tril(-1).isinf().sum()
            joins = gradient[a, l].item() == -math.inf
            assert joins == bool(left < apart), (a, l)


def test_infinite_pairs_do_not_spoil_the_others() -> None:
    A = random_causal(7, 8, density=0.3)
    finite = effective_resistance(A).tril(-1).isfinite()
    pairs = finite.double().tril(-1)
    found = resistance_gradient(A, pairs=pairs)
    assert found.isfinite().all()
    torch.testing.assert_close(found, by_autograd_of_finite(A))
    mixed = resistance_gradient(A)
    kept = mixed.isfinite()
    torch.testing.assert_close(mixed[kept], found[kept])


def by_autograd_of_finite(A: Tensor) -> Tensor:
    A = A.clone().requires_grad_()
    R = effective_resistance(A).tril(-1)
    (grad,) = torch.autograd.grad(R[R.isfinite()].sum(), A)
    return grad.tril()


@pytest.mark.parametrize('hops', [None, 3.0])
def test_batches_and_edges(hops: float | None) -> None:
    A = torch.stack([random_causal(6, seed) for seed in range(6)])
    A = A.reshape(2, 3, 6, 6)
    pairs = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(9))
    found = resistance_gradient(A, hops=hops, pairs=pairs)
    shared = resistance_gradient(A, hops=hops, pairs=pairs[1, 2])
    for i in range(2):
        for j in range(3):
            torch.testing.assert_close(
                found[i, j],
                by_autograd(A[i, j], hops, pairs[i, j].double()),
            )
            torch.testing.assert_close(
                shared[i, j],
                by_autograd(A[i, j], hops, pairs[1, 2].double()),
            )
    edge_index, weight = edges_of(A[0, 0])
    torch.testing.assert_close(
        resistance_gradient(edge_index, weight, hops=hops),
        resistance_gradient(A[0, 0], hops=hops),
    )


def test_the_scale_of_rows_and_self_loops() -> None:
    A = random_causal(6, 10)
    gradient = resistance_gradient(A)
    # Resistance has the inverse of the scale of A, its slope of the square.
    torch.testing.assert_close(resistance_gradient(4 * A), gradient / 16)
    loops = A + torch.diag(torch.arange(6).double())
    torch.testing.assert_close(resistance_gradient(loops), gradient)
    assert not gradient.diagonal().any()
    # A self-loop has no part in the walk but in its killing.
    assert resistance_gradient(A, hops=2).diagonal()[1:5].abs().min() > 0


def test_the_example() -> None:
    A = torch.tensor([[1, 0, 0], [0.5, 0.5, 0], [0.2, 0.3, 0.5]])
    found = resistance_gradient(A)
    # R_10 = 1 / a, R_20 = 1 / (b + c), R_21 = 1 / c for a = A_10, b, c.
    expected = torch.tensor([[0, 0, 0], [-4, 0, 0], [-1 / 0.25, 0, 0]]).double()
    expected[2, 0] = -1 / 0.5**2
    expected[2, 1] = -1 / 0.5**2 - 1 / 0.3**2
    # A holds float32.
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)


def test_float32() -> None:
    A = static_key(torch.ones(20))
    found = resistance_gradient(A, dtype=torch.float32)
    assert found.dtype == torch.float32
    torch.testing.assert_close(
        found.double(), resistance_gradient(A), rtol=1e-4, atol=1e-2
    )


def test_more_tokens_than_a_block_of_the_inverse() -> None:
    A = random_causal(80, 11)
    torch.testing.assert_close(resistance_gradient(A), by_autograd(A))


@pytest.mark.parametrize(
    ('A', 'options', 'match'),
    [
        (torch.ones(3, 3), {}, 'later token 1 to token 0'),
        (-torch.ones(3, 3).tril(), {}, 'non-negative'),
        (torch.eye(3), {'pairs': torch.ones(2, 2)}, r"'pairs' of shape \[3, 3"),
        (torch.eye(3), {'hops': -1.0}, 'hops'),
        (torch.eye(3), {'dtype': torch.float16}, 'float64'),
    ],
)
def test_errors(A: Tensor, options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        resistance_gradient(A, **options)
