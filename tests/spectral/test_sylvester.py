from typing import Any

import pytest
import scipy.linalg
import torch
from matrices import random_causal
from torch import Tensor

from gnnbridge.spectral.laplacian import laplacian
from gnnbridge.spectral.sylvester import solve_lyapunov

# Around one, two, three and four leaves of 32.
SIZES = [1, 2, 31, 32, 33, 64, 65, 97, 100, 130]
METHODS = ['recursive', 'smith']


def grounded(size: int, seed: int) -> Tensor:
    return laplacian(random_causal(size + 1, seed, density=0.8))[1:, 1:]


def noise(size: int) -> Tensor:
    return 2 * torch.eye(size, dtype=torch.float64) + 2


def signed(size: int, seed: int, *batch: int) -> Tensor:
    """Random symmetric matrices."""
    generator = torch.Generator().manual_seed(seed)
    right = torch.randn(*batch, size, size, generator=generator).double()
    return right + right.mT


def by_scipy(matrix: Tensor, right: Tensor) -> Tensor:
    # Bartels and Stewart, by a Schur decomposition.
    return torch.from_numpy(
        scipy.linalg.solve_continuous_lyapunov(matrix.numpy(), right.numpy())
    )


@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize('size', SIZES)
def test_equals_scipy(method: Any, size: int) -> None:
    matrix = grounded(size, size)
    for right in (noise(size), signed(size, size)):
        found = solve_lyapunov(matrix, right, method)
        expected = by_scipy(matrix, right)
        # The Schur form of scipy is orthogonal: errors relative to the whole.
        torch.testing.assert_close(
            found, expected, rtol=1e-9, atol=1e-12 * expected.abs().max().item()
        )
        torch.testing.assert_close(found, found.mT, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize('size', SIZES)
def test_float32_keeps_digits_of_every_entry(method: Any, size: int) -> None:
    matrix = grounded(size, size).float()
    found = solve_lyapunov(matrix, noise(size).float(), method)
    assert found.dtype == torch.float32
    expected = solve_lyapunov(matrix.double(), noise(size), 'recursive')
    # One sign everywhere: some ten roundings of 2^-24 in a row.
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize('size', [5, 40])
def test_batches(method: Any, size: int) -> None:
    matrix = torch.stack([grounded(size, seed) for seed in range(6)])
    matrix = matrix.reshape(2, 3, size, size)
    right = signed(size, 0, 2, 3)
    shared = right[0, 0].expand(2, 3, size, size)
    for given in (right, shared):
        found = solve_lyapunov(matrix, given, method)
        for i in range(2):
            for j in range(3):
                torch.testing.assert_close(
                    found[i, j],
                    by_scipy(matrix[i, j], given[i, j]),
                    rtol=1e-9,
                    atol=1e-10,
                )
    turned = matrix.mT.contiguous().mT
    torch.testing.assert_close(
        solve_lyapunov(turned, right, method),
        solve_lyapunov(matrix, right, method),
    )


@pytest.mark.parametrize('method', METHODS)
def test_inputs_stay_as_they_are(method: Any) -> None:
    matrix, right = grounded(40, 1), signed(40, 2)
    before = matrix.clone(), right.clone()
    assert solve_lyapunov(matrix, right, method).isfinite().all()
    assert torch.equal(matrix, before[0])
    assert torch.equal(right, before[1])


def test_smith_needs_no_triangle() -> None:
    generator = torch.Generator().manual_seed(3)
    matrix = torch.randn(9, 9, generator=generator).double() + 9 * torch.eye(9)
    right = signed(9, 4)
    torch.testing.assert_close(
        solve_lyapunov(matrix, right, 'smith'), by_scipy(matrix, right)
    )


@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize('slow', [1e-3, 1e-6, 1e-9, 1e-12])
def test_rates_of_very_different_size(method: Any, slow: float) -> None:
    # Two tokens: 2 a S_11 = w, (a + c) S_21 = w + b S_11, by hand.
    a, b, c, w = slow, 0.5, 1.0, 3.0
    matrix = torch.tensor([[a, 0.0], [-b, c]], dtype=torch.float64)
    right = torch.full((2, 2), w, dtype=torch.float64)
    first = w / (2 * a)
    cross = (w + b * first) / (a + c)
    last = (w + 2 * b * cross) / (2 * c)
    expected = torch.tensor(
        [[first, cross], [cross, last]], dtype=torch.float64
    )
    # Smith's step is 1 - 2 a / c at the slow token, which rounds.
    rtol = 1e-14 if method == 'recursive' else 1e-15 / slow
    torch.testing.assert_close(
        solve_lyapunov(matrix, right, method), expected, rtol=rtol, atol=0
    )


def test_smith_refuses_a_walk_without_end() -> None:
    matrix = torch.tensor([[1.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
    with pytest.raises(ValueError, match='slower'):
        solve_lyapunov(matrix, noise(2), 'smith')


@pytest.mark.parametrize('method', METHODS)
def test_gradients_of_both_orders(method: Any) -> None:
    matrix, right = grounded(4, 5), signed(4, 6)

    def solve(matrix: Tensor, right: Tensor) -> Tensor:
        return solve_lyapunov(matrix.tril(), right + right.mT, method)

    given = (matrix.requires_grad_(), right.requires_grad_())
    assert torch.autograd.gradcheck(solve, given)
    assert torch.autograd.gradgradcheck(solve, given)


def test_gradients_of_both_methods_agree_beyond_a_leaf() -> None:
    right, weight = noise(70), signed(70, 7)
    grads = []
    for method in ('recursive', 'smith'):
        matrix = grounded(70, 8).requires_grad_()
        value = (solve_lyapunov(matrix, right, method) * weight).sum()  # type: ignore[arg-type]
        grads.append(torch.autograd.grad(value, matrix)[0].tril())
    torch.testing.assert_close(*grads, rtol=1e-8, atol=1e-8)
