r"""Statements of the theory that join several functions.

The letters are those of the note: :math:`A` attention, :math:`\ell` leave
rates, :math:`\tau` absorption times, :math:`N` the Green function, :math:`h`
hitting probabilities, :math:`R` resistances, :math:`r` the Lyapunov one.
"""

import math

import pytest
import scipy.integrate
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matrices import random_causal, random_walk, static_key, window
from torch import Tensor

from gnnbridge.spectral.green import absorption_time, hitting_probability
from gnnbridge.spectral.laplacian import laplacian, leave_rate
from gnnbridge.spectral.layered import layered_influence
from gnnbridge.spectral.lyapunov import lyapunov_resistance
from gnnbridge.spectral.resistance import (
    effective_resistance,
    total_resistance,
)
from gnnbridge.spectral.rollout import attention_rollout, rms_rollout

SETTINGS = settings(deadline=None, max_examples=25, derandomize=True)


def uniform(size: int) -> Tensor:
    return static_key(torch.ones(size))


def eye(size: int) -> Tensor:
    return torch.eye(size, dtype=torch.float64)


@SETTINGS
@given(
    size=st.integers(1, 8),
    seed=st.integers(0, 999),
    alpha=st.floats(0.05, 1.0),
    depth=st.floats(0.5, 20.0),
)
def test_random_depth_identity(
    size: int, seed: int, alpha: float, depth: float
) -> None:
    # E[M^L'] for a geometric depth of mean L is N_s / (1 + K), K = L alpha;
    # on any graph h_ij = N_ij / N_jj, on causal ones N_jj = 1 / l_j.
    A = random_walk(size, seed)
    M = (1 - alpha) * eye(size) + alpha * A
    more = depth / (1 + depth)
    mean = (1 - more) * torch.linalg.inv(eye(size) - more * M)
    hops = alpha * depth
    h = hitting_probability(A, hops=hops)
    torch.testing.assert_close(h, mean / mean.diagonal())
    green = torch.linalg.inv(eye(size) - hops / (1 + hops) * A)
    torch.testing.assert_close(green / (1 + hops), mean)


@SETTINGS
@given(size=st.integers(2, 8), seed=st.integers(0, 999), hops=st.floats(0.1, 9))
def test_mean_influence_is_one_over_rates_and_resistance(
    size: int, seed: int, hops: float
) -> None:
    # N_s,ij = 1 / (l_i l_j R_ij) with the rates of the killed walk.
    A = random_causal(size, seed)
    follow = hops / (1 + hops)
    N = torch.linalg.inv(eye(size) - follow * A)
    stay = 1 - follow * A.diagonal()
    flow = effective_resistance(A, hops=hops, conductance=True)
    below = torch.ones(size, size).tril(-1).bool()
    torch.testing.assert_close(
        (flow / (stay.unsqueeze(1) * stay))[below], N[below]
    )
    rate = effective_resistance(A, hops=hops, conductance=True).diagonal()
    torch.testing.assert_close(rate, stay)


@pytest.mark.parametrize('alpha', [0.3, 1.0])
@pytest.mark.parametrize(
    'A', [random_causal(7, 0, density=0.7), uniform(7), window(7, 3)]
)
def test_budget_of_a_receiver(A: Tensor, alpha: float) -> None:
    # sum_{j >= 1} sum_L (M^L)_ij = tau_i / alpha, and each N_ij / alpha is
    # 1 / (alpha l_i l_j R_ij).
    M = (1 - alpha) * eye(7) + alpha * A
    total = torch.linalg.inv(eye(6) - M[1:, 1:])
    time = absorption_time(A)[1:]
    torch.testing.assert_close(total.sum(1), time / alpha)
    rate = leave_rate(A)[1:]
    flow = effective_resistance(A, conductance=True)[1:, 1:]
    below = torch.ones(6, 6).tril(-1).bool()
    torch.testing.assert_close(
        total[below], (flow / (alpha * rate.unsqueeze(1) * rate))[below]
    )
    # All depths up to some 60 stay within the budget.
    spent = sum(
        attention_rollout([A] * depth, alpha)[1:, 1:].sum(1)
        for depth in range(1, 61)
    )
    assert (spent + 1 <= time / alpha + 1e-12).all()


def test_budget_of_uniform_attention_grows_as_a_logarithm() -> None:
    time = absorption_time(uniform(4096))
    harmonic = (1 / torch.arange(1, 4096).double()).cumsum(0)
    torch.testing.assert_close(time[1:], 1 + harmonic)
    assert time[-1].item() == pytest.approx(math.log(4095) + 1.5772, abs=1e-3)


@pytest.mark.parametrize('seed', range(3))
def test_pseudo_inverse_of_the_laplacian_is_no_resistance(seed: int) -> None:
    # (e_i - e_j)^T L^+ (e_i - e_j) = 1 / l_i + (1 - h_ij) / l_j
    A = random_causal(7, seed)
    inverse = torch.linalg.pinv(laplacian(A))
    own = inverse.diagonal()
    found = own.unsqueeze(1) + own - inverse - inverse.mT
    rate, h = leave_rate(A)[1:], hitting_probability(A)[1:, 1:]
    expected = 1 / rate.unsqueeze(1) + (1 - h) / rate
    below = torch.ones(6, 6).tril(-1).bool()
    torch.testing.assert_close(found[1:, 1:][below], expected[below])


def test_pseudo_inverse_breaks_the_triangle_inequality() -> None:
    # Token 1 hardly lets go and token 2 is almost a copy of it: the values
    # for (3, 1) are large, and both legs over 2 or 3 need not be.
    A = torch.zeros(4, 4, dtype=torch.float64)
    A[0, 0] = 1
    A[1, :2] = torch.tensor([0.01, 0.99]).double()
    A[2, :2] = torch.tensor([0.01, 0.99]).double()
    A[3, :3] = torch.tensor([0.5, 0.25, 0.25]).double()
    rate, h = leave_rate(A), hitting_probability(A)

    def pseudo(i: int, j: int) -> float:
        return (1 / rate[i] + (1 - h[i, j]) / rate[j]).item()

    inverse = torch.linalg.pinv(laplacian(A))
    for i, j in [(2, 1), (3, 1), (3, 2)]:
        d = eye(4)[i] - eye(4)[j]
        assert (d @ inverse @ d).item() == pytest.approx(pseudo(i, j))
    # 1 / l_3 + (1 - h_31) / l_1 is some 50, over token 2 some 4.
    assert pseudo(3, 1) > 5 * (pseudo(3, 2) + pseudo(2, 1))
    # Both metrics of the library keep it.
    R = effective_resistance(A, kind='restart')
    root = lyapunov_resistance(A).sqrt()
    assert R[3, 1] <= R[3, 2] + R[2, 1]
    assert root[3, 1] <= root[3, 2] + root[2, 1]


@pytest.mark.parametrize('power', [1, 2, 5, 9])
def test_powers_of_uniform_attention(power: int) -> None:
    # C(i, j) int_0^1 x^j (1 - x)^(i - j) ln(1 / x)^(k - 1) / (k - 1)! dx
    found = attention_rollout([uniform(8)] * power, 1.0)
    for i, j in [(0, 0), (3, 1), (5, 0), (7, 4), (7, 7), (6, 2)]:
        # With x = e^-u: a sum of gamma integrals, by quadrature.
        value, _ = scipy.integrate.quad(
            lambda u, i=i, j=j: (
                math.exp(-(j + 1) * u)
                * (1 - math.exp(-u)) ** (i - j)
                * u ** (power - 1)
            ),
            0,
            math.inf,
            epsabs=1e-13,
        )
        expected = math.comb(i, j) * value / math.factorial(power - 1)
        assert found[i, j].item() == pytest.approx(expected, rel=1e-7, abs=1e-9)


@pytest.mark.parametrize('width', [2, 3, 5])
def test_a_window_saturates_with_distance(width: int) -> None:
    A = window(200, width)
    h, R = hitting_probability(A), effective_resistance(A)
    # Renewal theory: one over the mean jump of w / 2.
    assert h[-1, 50:100].tolist() == pytest.approx([2 / width] * 50, rel=1e-9)
    expected = width**2 / (2 * (width - 1))
    assert R[-1, 50:100].tolist() == pytest.approx([expected] * 50, rel=1e-9)
    # Depth has no part in it: three layers do not reach half as far.
    _, V = layered_influence([A] * 3, rows=-1)
    assert not V[50:100].any()


@pytest.mark.parametrize('size', [2, 5, 9])
def test_bidirectional_uniform_attention_has_two_ohms(size: int) -> None:
    A = torch.full((size, size), 1 / size, dtype=torch.float64)
    expected = 2 * (1 - eye(size))
    for kind in ('undirected', 'escape', 'lyapunov'):
        R = effective_resistance(A, kind=kind)  # type: ignore[arg-type]
        torch.testing.assert_close(R, expected)
    # Causality costs a factor of about (j + 1) / 2.
    causal = effective_resistance(uniform(size))
    for i in range(2, size):
        for j in range(1, i):
            ratio = causal[i, j].item() / 2
            assert ratio == pytest.approx((j + 1) / 2 * (i + 1) / i)


@pytest.mark.parametrize('size', [2, 7, 20])
def test_kirchhoff_index_of_uniform_attention(size: int) -> None:
    total = total_resistance(uniform(size), kind='restart').item()
    assert total == pytest.approx(size**2 * (size - 1) / 2)
    pairs = size * (size - 1) / 2
    assert total / pairs == pytest.approx(size)


def test_alibi_interpolates_between_a_path_and_uniform_attention() -> None:
    size = 9
    i = torch.arange(size).double()

    def alibi(slope: float) -> Tensor:
        A = (slope ** (i.unsqueeze(1) - i).clamp(min=0)).tril()
        return A / A.sum(1, keepdim=True)

    for slope in (0.2, 0.7, 0.95):
        found = effective_resistance(alibi(slope))
        for a, b in [(3, 1), (8, 2), (8, 7)]:
            h = (1 - slope) / (1 - slope ** (b + 1))
            expected = (1 - slope ** (a + 1)) / (slope * (1 - slope**a)) / h
            assert found[a, b].item() == pytest.approx(expected)
    near = hitting_probability(alibi(1 - 1e-9))
    torch.testing.assert_close(
        near, hitting_probability(uniform(size)), rtol=1e-7, atol=1e-12
    )


@pytest.mark.parametrize('alpha', [0.1, 0.5])
def test_a_residual_connection_rescales(alpha: float) -> None:
    A = random_causal(7, 1)
    M = (1 - alpha) * eye(7) + alpha * A
    for kind in ('causal', 'escape', 'lyapunov'):
        torch.testing.assert_close(
            alpha * effective_resistance(M, kind=kind),  # type: ignore[arg-type]
            effective_resistance(A, kind=kind),  # type: ignore[arg-type]
        )
    torch.testing.assert_close(
        effective_resistance(M, kind='restart'),
        effective_resistance(A, kind='restart'),
    )


@SETTINGS
@given(
    first=st.integers(2, 5), second=st.integers(1, 5), seed=st.integers(0, 999)
)
def test_minus_log_h_adds_up_across_a_cut(
    first: int, second: int, seed: int
) -> None:
    # Tokens past `first` see the ones before only through it.
    size = first + 1 + second
    A = random_causal(size, seed)
    A[first + 1 :, :first] = 0
    d = -hitting_probability(A).log()
    through = d[first + 1 :, first].unsqueeze(1) + d[first, :first]
    torch.testing.assert_close(d[first + 1 :, :first], through)


@SETTINGS
@given(size=st.integers(3, 9), seed=st.integers(0, 999))
def test_minus_log_h_is_a_quasi_metric(size: int, seed: int) -> None:
    d = -hitting_probability(random_causal(size, seed, density=0.6)).log()
    through = d.unsqueeze(2) + d.unsqueeze(0)
    # Rounding of the logarithms.
    assert (through.amin(1) + 1e-13 >= d).all()
    assert (d.diagonal() == 0).all()


def test_the_causal_kind_itself_is_no_quasi_metric() -> None:
    # On a path with h_21 = h_32 = 1/10 the two legs are 10 each, 100 in all.
    A = torch.zeros(4, 4, dtype=torch.float64)
    A[0, 0] = A[1, 0] = 1
    A[2, :2] = A[3, [0, 2]] = torch.tensor([0.9, 0.1]).double()
    R = effective_resistance(A)
    legs = [R[2, 1].item(), R[3, 2].item(), R[3, 1].item()]
    assert legs == pytest.approx([10, 10, 100])


@pytest.mark.parametrize('seed', range(3))
def test_collapse_is_not_sensitivity(seed: int) -> None:
    # A pure sink: r = 2 for every pair, and nobody hears anyone else.
    sink = torch.zeros(6, 6, dtype=torch.float64)
    sink[:, 0] = 1
    r, h = lyapunov_resistance(sink), hitting_probability(sink)
    assert r[2, 1].item() == pytest.approx(2)
    assert h[2, 1] == 0
    # Uniform attention: more r, 19/7, and more sensitivity, 1/2.
    r, h = lyapunov_resistance(uniform(6)), hitting_probability(uniform(6))
    assert r[2, 1].item() == pytest.approx(19 / 7)
    assert h[2, 1].item() == pytest.approx(1 / 2)


def test_neighbours_in_uniform_attention_tend_to_two() -> None:
    r = lyapunov_resistance(uniform(400))
    gaps = (r.diagonal(-1) - 2).abs()
    assert gaps[-1] < 0.02
    assert (gaps[2:].diff() < 1e-12).all()
    # r_i0 grows as a logarithm: a constant for each doubling.
    steps = (r[[100, 200, 399], 0]).diff()
    assert steps[0].item() == pytest.approx(steps[1].item(), rel=0.05)


def test_leaving_out_the_root_only_lowers_the_resistance() -> None:
    A = random_causal(8, 2)
    keep = lyapunov_resistance(A)
    leak = lyapunov_resistance(A, root='leak')
    assert (leak <= keep + 1e-12).all()
    # With all on the root nothing else is seen: 2 int 2 e^{-2t} halves of it.
    sink = torch.zeros(4, 4)
    sink[:, 0] = 1
    r = lyapunov_resistance(sink, root='leak')
    assert r[1].tolist() == pytest.approx([1, 0, 2, 2])


@pytest.mark.parametrize('depth', [1, 3, 6])
def test_noise_at_every_layer_is_a_stein_equation(depth: int) -> None:
    # With M = I - s L small steps of noise build up to s^-1 of the Lyapunov
    # solution: S <- M S M^T + W from zero, W = s 2 (I + 1 1^T), k -> infinity.
    A, size = random_causal(5, depth), 4
    L = laplacian(A)[1:, 1:]
    step = 1e-3
    M = eye(size) - step * L
    total = step * 2 * (eye(size) + 1)
    for _ in range(24):  # 2^24 layers
        total = total + M @ total @ M.mT
        M = M @ M
    own = total.diagonal()
    r = lyapunov_resistance(A)
    # First order in the step.
    torch.testing.assert_close(own, r[1:, 0], rtol=3e-3, atol=0)


def test_incoherent_influence_is_below_the_coherent_one() -> None:
    # The root mean square over signs of gain beta, against all signs plus.
    A, beta = random_causal(7, 3), 0.7
    rms = rms_rollout([A.unsqueeze(0)] * 4, beta, method='exact')
    M = eye(7) + beta * A
    coherent = torch.linalg.matrix_power(M, 4)
    assert (rms <= coherent + 1e-12).all()
    share = beta / (1 + beta)
    T = attention_rollout([A] * 4, share) * (1 + beta) ** 4
    torch.testing.assert_close(T, coherent)
