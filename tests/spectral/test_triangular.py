import pytest
import scipy.linalg
import torch
from torch import Tensor

from gnnbridge.spectral.triangular import inverse_lower

SIZES = [1, 2, 63, 64, 65, 130, 200]


def m_matrix(size: int, seed: int, *batch: int) -> Tensor:
    """One minus the jumps of a walk that may be killed, unit triangular."""
    generator = torch.Generator().manual_seed(seed)
    jump = torch.rand(*batch, size, size, generator=generator).double()
    jump = jump.tril(-1)
    jump = jump / (jump.sum(-1, keepdim=True) + 0.1)
    return torch.eye(size, dtype=torch.float64) - jump


@pytest.mark.parametrize('size', SIZES)
def test_equals_scipy(size: int) -> None:
    matrix = m_matrix(size, size)
    expected = scipy.linalg.solve_triangular(
        matrix.numpy(), torch.eye(size).double().numpy(), lower=True
    )
    # All terms are positive: each entry is right to its last digits.
    torch.testing.assert_close(
        inverse_lower(matrix), torch.from_numpy(expected), rtol=1e-13, atol=0
    )


@pytest.mark.parametrize('size', [3, 65, 130])
def test_signed_entries_and_any_diagonal(size: int) -> None:
    generator = torch.Generator().manual_seed(size)
    matrix = torch.randn(size, size, generator=generator).double().tril()
    matrix = matrix / size + 2 * torch.eye(size)
    torch.testing.assert_close(
        inverse_lower(matrix), torch.linalg.inv(matrix), rtol=1e-10, atol=1e-13
    )


@pytest.mark.parametrize('size', SIZES)
def test_float32_keeps_six_digits(size: int) -> None:
    matrix = m_matrix(size, size)
    inverse = inverse_lower(matrix.float())
    assert inverse.dtype == torch.float32
    # Rounding errors of a few times 2^-24 for each of some N terms at worst.
    torch.testing.assert_close(
        inverse.double(), inverse_lower(matrix), rtol=5e-6, atol=0
    )


@pytest.mark.parametrize('size', [5, 70])
def test_batches_are_inverted_one_by_one(size: int) -> None:
    matrix = m_matrix(size, 0, 2, 3)
    inverse = inverse_lower(matrix)
    assert inverse.shape == (2, 3, size, size)
    for i in range(2):
        for j in range(3):
            torch.testing.assert_close(
                inverse[i, j],
                torch.linalg.inv(matrix[i, j]),
                rtol=1e-11,
                atol=1e-14,
            )
    turned = inverse_lower(matrix.mT.contiguous().mT)
    torch.testing.assert_close(turned, inverse)


@pytest.mark.parametrize('size', [4, 66])
def test_reads_nothing_above_the_diagonal_and_leaves_its_input(
    size: int,
) -> None:
    matrix = m_matrix(size, 1)
    above = torch.ones(size, size).triu(1).bool()
    dirty = matrix.masked_fill(above, torch.nan)
    assert torch.equal(inverse_lower(dirty), inverse_lower(matrix))
    assert torch.equal(dirty.masked_fill(above, 0), matrix)


@pytest.mark.parametrize('size', SIZES)
def test_no_negative_zero_of_an_m_matrix(size: int) -> None:
    # 1 / -0.0 is minus infinity: resistances divide by these entries.
    sparse = m_matrix(size, 2)
    keep = torch.rand(size, size, generator=torch.Generator().manual_seed(3))
    sparse = torch.where(keep < 0.05, sparse, torch.eye(size).double())
    for matrix in (sparse, torch.eye(size).double(), m_matrix(size, 4)):
        for dtype in (torch.float64, torch.float32):
            assert not torch.signbit(inverse_lower(matrix.to(dtype))).any()


@pytest.mark.parametrize('size', [9, 131])
def test_tiny_leave_rates(size: int) -> None:
    # Static keys: N_ij = w_j / (W_j l_j), for leave rates down to 1e-12.
    generator = torch.Generator().manual_seed(5)
    w = torch.rand(size + 1, generator=generator, dtype=torch.float64) + 0.1
    W = w.cumsum(0)
    rate = 10 ** (-12 * torch.rand(size, generator=generator).double())
    jump = (w / W.roll(1).unsqueeze(1))[1:, 1:].tril(-1)
    grounded = rate.unsqueeze(1) * (torch.eye(size) - jump)
    hit = (w / W)[1:].expand(size, size).tril(-1) + torch.eye(size)
    torch.testing.assert_close(
        inverse_lower(grounded), hit / rate, rtol=1e-13, atol=0
    )


def test_gradients_of_both_orders() -> None:
    matrix = m_matrix(5, 6, 2).requires_grad_()
    assert torch.autograd.gradcheck(inverse_lower, matrix)
    assert torch.autograd.gradgradcheck(inverse_lower, matrix)


def test_gradients_across_blocks_equal_those_of_torch() -> None:
    generator = torch.Generator().manual_seed(7)
    weight = torch.randn(130, 130, generator=generator, dtype=torch.float64)
    found = []
    for inverse in (inverse_lower, lambda M: torch.linalg.inv(M.tril())):
        matrix = m_matrix(130, 8).requires_grad_()
        value = (inverse(matrix) * weight).sum()
        (grad,) = torch.autograd.grad(value, matrix, create_graph=True)
        (second,) = torch.autograd.grad((grad * weight).sum(), matrix)
        found.append((grad.detach(), second))
    # Sums of 130^2 terms of size up to 1e3 cancel.
    torch.testing.assert_close(*(f[0] for f in found), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(*(f[1] for f in found), rtol=1e-9, atol=1e-7)
