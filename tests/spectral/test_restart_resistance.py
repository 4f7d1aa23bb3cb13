import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matrices import random_causal, random_digraph
from torch import Tensor

from gnnbridge.spectral.green import absorption_time, hitting_probability
from gnnbridge.spectral.laplacian import laplacian, leave_rate
from gnnbridge.spectral.resistance import effective_resistance
from gnnbridge.spectral.restart import commute_time

SETTINGS = settings(deadline=None, max_examples=25, derandomize=True)
EYE = torch.eye(16, dtype=torch.float64)


def hitting_times(P: Tensor) -> Tensor:
    """Expected steps from i to j in an irreducible chain, one by one."""
    size = P.size(0)
    out = torch.zeros_like(P)
    for j in range(size):
        rest = [k for k in range(size) if k != j]
        system = EYE[: size - 1, : size - 1] - P[rest][:, rest]
        ones = torch.ones(size - 1, dtype=P.dtype)
        out[rest, j] = torch.linalg.solve(system, ones)
    return out


def commute_by_definition(A: Tensor, rho: Tensor) -> Tensor:
    """Close the chain: each root steps to a token drawn from rho."""
    P = A.clone()
    P[leave_rate(A) == 0] = rho
    times = hitting_times(P)
    return times + times.mT


def off_diagonal(pairs: Tensor) -> Tensor:
    return pairs[~torch.eye(len(pairs), dtype=torch.bool)]


def test_causal_commute_identity() -> None:
    # After absorption the walk asks again at i: C(i, j) = vol_i R_ij.
    A = random_causal(7, 4)
    R, rate, time = effective_resistance(A), leave_rate(A), absorption_time(A)
    for i in range(2, 7):
        commute = commute_by_definition(A[: i + 1, : i + 1], EYE[i, : i + 1])
        volume = rate[i] * (1 + time[i])
        torch.testing.assert_close(commute[i, :i], volume * R[i, :i])


@pytest.mark.parametrize('restart', ['uniform', 'last', 'tensor'])
def test_restart_is_a_commute_time(restart: str) -> None:
    A = random_causal(7, 5)
    generator = torch.Generator().manual_seed(5)
    rho = {
        'uniform': torch.full((7,), 1 / 7, dtype=torch.float64),
        'last': EYE[6, :7],
        'tensor': torch.rand(7, generator=generator).double().softmax(0),
    }[restart]
    choice = rho if restart == 'tensor' else restart
    R = effective_resistance(A, kind='restart', restart=choice)
    expected = commute_by_definition(A, rho)
    torch.testing.assert_close(commute_time(A, restart=choice), expected)
    cycle = 1 + rho @ absorption_time(A)
    torch.testing.assert_close(cycle * R, expected)


@pytest.mark.parametrize(
    'A',
    [
        pytest.param(
            torch.block_diag(random_causal(3, 6), random_causal(4, 7)),
            id='two_roots',
        ),
        pytest.param(
            random_digraph(6, 8) / random_digraph(6, 8).sum(1, keepdim=True),
            id='not_causal',
        ),
    ],
)
def test_restart_beyond_one_causal_root(A: Tensor) -> None:
    rho = torch.full((len(A),), 1 / len(A), dtype=torch.float64)
    expected = commute_by_definition(A, rho)
    torch.testing.assert_close(commute_time(A), expected)


def test_restart_is_the_eulerian_resistance() -> None:
    A = random_causal(8, 9)
    L = laplacian(A)[1:, 1:]
    N = torch.linalg.inv(L)
    rho = torch.full((7,), 1 / 8, dtype=torch.float64)
    G = torch.linalg.inv(torch.diag(rho @ N) @ L)
    own = G.diagonal()
    R = effective_resistance(A, kind='restart')
    torch.testing.assert_close(
        R[1:, 1:], own.unsqueeze(0) + own.unsqueeze(1) - G - G.mT
    )
    torch.testing.assert_close(R[1:, 0], own)


def test_restart_is_a_power_series() -> None:
    A = random_causal(6, 10)
    Q = A[1:, 1:]
    rho = torch.full((5,), 1 / 6, dtype=torch.float64)
    powers = [EYE[:5, :5]]
    for _ in range(2000):  # the largest A_ii^2000 is far below 1e-16
        powers.append(powers[-1] @ Q)
    total = torch.stack(powers).sum(0)
    scaled = total / (rho @ total)
    own = scaled.diagonal()
    torch.testing.assert_close(
        effective_resistance(A, kind='restart')[1:, 1:],
        own.unsqueeze(0) + own.unsqueeze(1) - scaled - scaled.mT,
    )


def test_restart_is_the_limit_of_teleports() -> None:
    A, eps = random_causal(6, 11), 1e-7
    rho = torch.full((6,), 1 / 6, dtype=torch.float64)
    times = hitting_times((1 - eps) * A + eps * rho)
    # The next order is of relative size eps times the absorption time.
    torch.testing.assert_close(
        eps * (times + times.mT),
        effective_resistance(A, kind='restart'),
        rtol=1e-5,
        atol=1e-5,
    )


def test_restart_is_below_the_symmetrised_flow() -> None:
    A = random_causal(7, 12)
    rho = torch.full((7,), 1 / 7, dtype=torch.float64)
    N = torch.linalg.inv(laplacian(A)[1:, 1:])
    flow = torch.zeros_like(A)
    flow[1:] = (rho[1:] @ N).unsqueeze(1) * A[1:]
    flow[0] = rho
    undirected = effective_resistance((flow + flow.mT) / 2, kind='undirected')
    R = effective_resistance(A, kind='restart')
    assert (undirected + 1e-12 >= R).all()
    assert (undirected - 1e-3 > R).any()


def test_restart_at_one_query() -> None:
    A = random_causal(7, 13)
    R = effective_resistance(A, kind='restart', restart='last')
    expected = leave_rate(A)[-1] * effective_resistance(A)[-1, :-1]
    torch.testing.assert_close(R[-1, :-1], expected)


def test_restart_out_of_reach_is_infinite() -> None:
    sink = torch.zeros(4, 4)
    sink[:, 0] = 1
    R = effective_resistance(sink, kind='restart', restart='last')
    assert R[1].isinf().tolist() == [True, False, True, True]
    assert R[3].tolist() == [1, math.inf, math.inf, 0]
    C = effective_resistance(
        sink, kind='restart', restart='last', conductance=True
    )
    assert C.isfinite().all()
    assert C[3].tolist() == [1, 0, 0, 0]


@SETTINGS
@given(size=st.integers(2, 9), seed=st.integers(0, 999))
def test_restart_is_a_metric_of_negative_type(size: int, seed: int) -> None:
    A = random_causal(size, seed, density=0.6)
    R = effective_resistance(A, kind='restart')
    torch.testing.assert_close(R, R.mT)
    assert (off_diagonal(R) > 0).all()
    through = R.unsqueeze(2) + R.unsqueeze(0)  # [i, k, j]: i to k to j
    assert (through.amin(1) + 1e-10 >= R).all()
    centre = EYE[:size, :size] - 1 / size
    gram = -centre @ R @ centre / 2
    assert torch.linalg.eigvalsh(gram).min() >= -1e-10 * R.max()


@SETTINGS
@given(size=st.integers(2, 9), seed=st.integers(0, 999))
def test_restart_is_affine_in_the_hitting_probability(
    size: int, seed: int
) -> None:
    A = random_causal(size, seed)
    h, R = hitting_probability(A), effective_resistance(A, kind='restart')
    b = h.mean(0)
    back = b * (1 / b.unsqueeze(1) + 1 / b - R)
    torch.testing.assert_close(back.tril(-1), h.tril(-1))
