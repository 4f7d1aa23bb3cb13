import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matrices import random_causal, window
from torch import Tensor

from gnnbridge.spectral.cache import ResistanceCache
from gnnbridge.spectral.green import absorption_time, hitting_probability
from gnnbridge.spectral.lyapunov import lyapunov_resistance
from gnnbridge.spectral.resistance import effective_resistance

SETTINGS = settings(deadline=None, max_examples=25, derandomize=True)


def grown(A: Tensor, **options: Any) -> ResistanceCache:
    cache = ResistanceCache(**options)
    for i in range(A.size(-1)):
        cache.append(A[..., i, : i + 1])
    return cache


def check(cache: ResistanceCache, A: Tensor, **tolerance: float) -> None:
    """The cache holds what the functions of the whole graph give."""
    torch.testing.assert_close(
        cache.hitting_probability(), hitting_probability(A), **tolerance
    )
    torch.testing.assert_close(
        cache.absorption_time(), absorption_time(A), **tolerance
    )
    torch.testing.assert_close(
        cache.effective_resistance(), effective_resistance(A), **tolerance
    )
    torch.testing.assert_close(
        cache.effective_resistance(conductance=True),
        effective_resistance(A, conductance=True),
        **tolerance,
    )
    if cache.lyapunov:
        torch.testing.assert_close(
            cache.lyapunov_resistance(), lyapunov_resistance(A), **tolerance
        )


@SETTINGS
@given(size=st.integers(1, 9), seed=st.integers(0, 999))
def test_each_prefix(size: int, seed: int) -> None:
    A = random_causal(size, seed, density=0.6)
    cache = ResistanceCache(lyapunov=True)
    for i in range(size):
        cache.append(A[i, : i + 1])
        assert len(cache) == i + 1
        check(cache, A[: i + 1, : i + 1])


@pytest.mark.parametrize('size', [63, 64, 65, 130, 200])
def test_more_tokens_than_there_was_room_for(size: int) -> None:
    A = random_causal(size, size, density=0.5)
    check(grown(A, lyapunov=True), A)


def test_room_grows_in_the_middle_of_a_sequence() -> None:
    A = window(70, 5)
    cache = ResistanceCache(lyapunov=True)
    for i in range(70):
        cache.append(A[i, : i + 1])
        if i in (62, 63, 64, 65):
            check(cache, A[: i + 1, : i + 1])
    check(cache, A)


def test_batches_of_rows() -> None:
    A = torch.stack([random_causal(7, seed) for seed in range(6)])
    A = A.reshape(2, 3, 7, 7)
    cache = grown(A, lyapunov=True)
    assert cache.lyapunov_resistance().shape == (2, 3, 7, 7)
    assert cache.absorption_time().shape == (2, 3, 7)
    check(cache, A)


def test_float32() -> None:
    A = random_causal(70, 0, density=0.7)
    cache = grown(A, lyapunov=True, dtype=torch.float32)
    assert cache.hitting_probability().dtype == torch.float32
    for found, expected in (
        (cache.hitting_probability(), hitting_probability(A)),
        (cache.absorption_time(), absorption_time(A)),
        (cache.effective_resistance(), effective_resistance(A)),
        (cache.lyapunov_resistance(), lyapunov_resistance(A)),
    ):
        # All terms have one sign; a difference of pairs may lose a digit.
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_rows_of_half_precision(dtype: torch.dtype) -> None:
    A = random_causal(6, 1).to(dtype)
    check(grown(A), A)


def test_packed_documents_and_rows_of_any_sum() -> None:
    A = torch.block_diag(random_causal(4, 2), random_causal(3, 3))
    check(grown(A), A)
    scaled = A * torch.arange(1, 8).double().unsqueeze(1)
    check(grown(scaled), scaled)
    bare = random_causal(5, 4)
    bare[0, 0] = 0
    check(grown(bare, lyapunov=True), bare)
    check(grown(torch.eye(4)), torch.eye(4))


def test_unreachable_pairs() -> None:
    sink = torch.zeros(5, 5)
    sink[:, 0] = 1
    cache = grown(sink, lyapunov=True)
    check(cache, sink)
    R = cache.effective_resistance()
    assert R[4].tolist() == [1, math.inf, math.inf, math.inf, 0]
    assert not cache.effective_resistance(conductance=True).isnan().any()


def test_the_example() -> None:
    cache = ResistanceCache()
    cache.append(torch.tensor([1.0]))
    cache.append(torch.tensor([0.5, 0.5]))
    cache.append(torch.tensor([0.2, 0.3, 0.5]))
    found = cache.effective_resistance()[2, 1].item()
    assert found == pytest.approx(1 / 0.3, rel=1e-6)


def test_results_and_rows_are_not_shared_with_the_cache() -> None:
    A = random_causal(5, 5)
    before = A.clone()
    cache = grown(A, lyapunov=True)
    assert torch.equal(A, before)
    A.zero_()
    for name in (
        'hitting_probability',
        'absorption_time',
        'effective_resistance',
        'lyapunov_resistance',
    ):
        getattr(cache, name)().fill_(7)
    cache.effective_resistance(conductance=True).fill_(7)
    check(cache, before)


def test_old_values_stay_when_tokens_are_appended() -> None:
    A = random_causal(8, 6)
    cache = grown(A[:5, :5], lyapunov=True)
    old = cache.hitting_probability(), cache.lyapunov_resistance()
    for i in range(5, 8):
        cache.append(A[i, : i + 1])
    assert torch.equal(cache.hitting_probability()[:5, :5], old[0])
    assert torch.equal(cache.lyapunov_resistance()[:5, :5], old[1])


def test_rows_that_require_gradients_are_read_without() -> None:
    A = random_causal(4, 7).requires_grad_()
    cache = grown(A, lyapunov=True)
    assert not cache.effective_resistance().requires_grad
    check(cache, A.detach())


@pytest.mark.parametrize(
    ('row', 'match'),
    [
        (torch.ones(2), r'shape \[..., 4\].*got \[2\]'),
        (torch.ones(5), r'got \[5\]'),
        (torch.tensor(1.0), r'got \[\]'),
        (torch.ones(2, 4), r'leading dimensions \[\].*got \[2\]'),
        (torch.tensor([0.5, -0.1, 0.3, 0.3]), 'non-negative'),
        (torch.tensor([0.5, math.nan, 0.3, 0.3]), 'finite'),
        (torch.tensor([0.5, math.inf, 0.3, 0.3]), 'finite'),
        (torch.tensor([0.0, 0.0, 0.0, 1.0]), 'none into token 3'),
    ],
)
def test_rows_that_do_not_fit_leave_the_cache(row: Tensor, match: str) -> None:
    A = random_causal(3, 8)
    cache = grown(A, lyapunov=True)
    with pytest.raises(ValueError, match=match):
        cache.append(row)
    assert len(cache) == 3
    check(cache, A)


def test_other_errors() -> None:
    with pytest.raises(ValueError, match='float64'):
        ResistanceCache(dtype=torch.float16)
    cache = ResistanceCache()
    assert len(cache) == 0
    for name in (
        'hitting_probability',
        'absorption_time',
        'effective_resistance',
    ):
        with pytest.raises(ValueError, match='got none'):
            getattr(cache, name)()
    cache.append(torch.ones(1))
    with pytest.raises(ValueError, match='lyapunov=True'):
        cache.lyapunov_resistance()
    with pytest.raises(ValueError, match='got none'):
        ResistanceCache(lyapunov=True).lyapunov_resistance()
