import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor

from gnnbridge.diagnostics import probing
from gnnbridge.diagnostics.probing import Probes, learned_probes


def responses(
    size: int, count: int, width: int, seed: int = 0, decay: float = 0.6
) -> Tensor:
    """Responses whose directions decay, of another kind at each receiver."""
    generator = Generator().manual_seed(100)
    turn = torch.randn(size, width, width, generator=generator).double()
    generator.manual_seed(seed)
    drawn = torch.randn(size, count, width, generator=generator).double()
    strength = decay ** torch.arange(width)
    return (drawn * strength) @ torch.linalg.qr(turn).Q


def positive(width: int, seed: int) -> Tensor:
    J = torch.randn(width, 3, generator=Generator().manual_seed(seed)).double()
    return J @ J.mT


@given(
    width=st.integers(2, 12),
    known=st.integers(2, 14),
    count=st.integers(2, 9),
    seed=st.integers(0, 100),
)
@settings(deadline=None, derandomize=True, max_examples=25)
def test_probes_are_complete_in_the_mean(
    width: int, known: int, count: int, seed: int
) -> None:
    # The diagonal of sum_c w_c w_c^T in any basis has the mean one, and what
    # lies in the basis of the responses has it exactly.
    probes = Probes(responses(1, known, width, seed), count)
    generator = Generator().manual_seed(seed)
    basis = probing._strongest_first(probes.responses)[0]
    torch.testing.assert_close(
        basis.mT @ basis, torch.eye(min(known, width)).double()
    )
    total, draws = torch.zeros(width, width).double(), 200
    for _ in range(draws):
        (w,) = probes.draw(torch.tensor([0]), generator)
        assert w.shape == (count, width)
        total += w.mT @ w
        inside = basis.mT @ w.mT @ w @ basis
        # Every direction of the basis is in one group, with its sign squared.
        torch.testing.assert_close(
            inside.diagonal(), torch.ones(len(inside)).double()
        )
    # Five standard errors; an entry has a variance of at most a few.
    assert (total / draws - torch.eye(width)).abs().max() < 5 * (4 / draws) ** (
        0.5
    )


def test_as_many_groups_as_directions_leave_nothing_to_chance() -> None:
    known = responses(2, 20, 6)
    probes = learned_probes(known, 6, Generator().manual_seed(0))
    assert probes.ratio < 1e-20
    drawn = probes.draw(torch.tensor([1, 0]), Generator().manual_seed(1))
    whole = drawn.mT @ drawn
    torch.testing.assert_close(whole, torch.eye(6).double().expand(2, 6, 6))


def test_strong_directions_are_kept_apart() -> None:
    assert probing._dealt(9, 5, 1).tolist() == [0, 1, 2, 3, 4, 4, 3, 2, 1]
    assert probing._dealt(2, 8, 4).tolist() == [0, 1]
    for width, count, alone in ((20, 8, 2), (5, 2, 0), (33, 16, 4)):
        group = probing._dealt(width, count, alone)
        sizes = torch.bincount(group, minlength=count)
        assert (sizes[:alone] == 1).all()
        assert sizes[alone:].max() - sizes[alone:].min() <= 1


@pytest.mark.parametrize('known', [4, 30])
def test_estimates_have_no_bias_and_the_variance_they_claim(known: int) -> None:
    width, draws, sources = 10, 600, 40
    left = responses(3, known, width, decay=0.7)
    generator = Generator().manual_seed(2)
    probes = learned_probes(left, 4, generator)
    # Jacobians of few dimensions with the same left directions, as models
    # have them, for many sources.
    J = responses(3, sources * 3, width, seed=1, decay=0.7).mT
    J = J.unflatten(2, (sources, 3)).transpose(1, 2)
    true = J.square().sum((2, 3))
    receivers = torch.arange(3)
    total, spread, claimed = torch.zeros(3, 3, sources).double()
    for _ in range(draws):
        w = probes.draw(receivers, generator)
        rows = torch.einsum('ika,ijab->ikjb', w, J)
        square, variance = probes.estimate(rows)
        total += square / draws
        spread += (square - true).square() / draws
        claimed += variance / draws
    # Of 120 means the largest is seldom four standard errors off.
    assert ((total - true).abs() < 5 * (spread / draws).sqrt()).all()
    # There is one ratio for all of them: right in the mean.
    calibration = (spread / claimed).mean().item()
    assert 0.5 < calibration < 2


def test_far_too_small_rows_keep_their_digits() -> None:
    probes = Probes(responses(1, 4, 6), 3, ratio=0.5)
    rows = torch.randn(1, 3, 2, 6, generator=Generator().manual_seed(0))
    square, variance = probes.estimate(rows)
    tiny = probes.estimate(1e-30 * rows)
    torch.testing.assert_close(tiny[0] * 1e60, square)
    torch.testing.assert_close(tiny[1] * 1e120, variance)
    none = probes.estimate(0 * rows)
    assert not none[0].any()
    assert not none[1].any()


def test_receivers_without_a_response() -> None:
    probes = learned_probes(torch.zeros(3, 4, 5), 2, Generator().manual_seed(0))
    assert probes.ratio == 0.0
    drawn = probes.draw(torch.tensor([2]), Generator().manual_seed(0))
    assert drawn.isfinite().all()
    # Unbiased without knowing anything.
    total = torch.zeros(5, 5).double()
    generator = Generator().manual_seed(1)
    for _ in range(2000):
        (w,) = probes.draw(torch.tensor([0]), generator)
        total += w.mT @ w / 2000
    # Five standard errors of products of signs.
    assert (total - torch.eye(5)).abs().max() < 5 / 2000**0.5


def test_scale_of_responses_does_not_matter() -> None:
    known = responses(4, 6, 5)
    scale = torch.tensor([1.0, 1e-8, 1e5, 3.0]).reshape(-1, 1, 1)
    one, other = (
        learned_probes(x, 3, Generator().manual_seed(0))
        for x in (known, scale * known)
    )
    assert one.ratio == pytest.approx(other.ratio)
    torch.testing.assert_close(one.responses, other.responses)
