import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matrices import random_causal
from torch import Tensor

from gnnbridge.spectral.green import absorption_time, hitting_probability

SETTINGS = settings(deadline=None, max_examples=25, derandomize=True)


def random_walk(size: int, seed: int) -> Tensor:
    """Random dense row-stochastic matrix: no root, not causal."""
    generator = torch.Generator().manual_seed(seed)
    A = torch.rand(size, size, generator=generator, dtype=torch.float64)
    return A / A.sum(1, keepdim=True)


def static_key(weight: Tensor) -> Tensor:
    A = weight.expand(len(weight), -1).tril()
    return A / A.sum(1, keepdim=True)


def hitting_by_powers(P: Tensor) -> Tensor:
    """Make each target absorbing in turn and let the walk run very long."""
    size = P.size(0)
    out = torch.empty_like(P)
    for j in range(size):
        stopped = P.clone()
        stopped[j] = torch.eye(size, dtype=P.dtype)[j]
        out[:, j] = torch.linalg.matrix_power(stopped, 2**14)[:, j]
    return out


WEIGHTS = {
    'uniform': torch.ones(9),
    'sink': torch.tensor([7.0, 1, 1, 1, 1, 1, 1]),
    'alibi': 0.7 ** -torch.arange(11.0),
    'random': torch.rand(8, generator=torch.Generator().manual_seed(3)) + 0.1,
}


@pytest.mark.parametrize('name', WEIGHTS)
def test_static_keys_in_closed_form(name: str) -> None:
    w = WEIGHTS[name].double()
    W = w.cumsum(0)
    size = len(w)
    expected = (w / W).expand(size, size).tril(-1) + torch.eye(size)
    torch.testing.assert_close(hitting_probability(static_key(w)), expected)
    # tau_i = W_i / W_{i-1} + sum_{1 <= j < i} w_j / W_{j-1}
    steps = [0.0] + [
        (W[i] / W[i - 1]).item()
        + sum((w[j] / W[j - 1]).item() for j in range(1, i))
        for i in range(1, size)
    ]
    torch.testing.assert_close(
        absorption_time(static_key(w)),
        torch.tensor(steps).double(),
        # The expected values passed through float32.
        rtol=1e-6,
        atol=0,
    )


def test_uniform_attention_takes_harmonic_time() -> None:
    time = absorption_time(static_key(torch.ones(13).double()))
    harmonic = sum(1 / k for k in range(1, 13))
    assert time[12].item() == pytest.approx(1 + harmonic, rel=1e-14)


def test_weak_sink_in_closed_form() -> None:
    size, eps = 8, 0.3
    A = torch.zeros(size, size, dtype=torch.float64)
    A[0, 0] = 1
    for i in range(1, size):
        A[i, 0] = 1 - eps
        A[i, 1 : i + 1] = eps / i
    h = hitting_probability(A)
    for i in range(2, size):
        for j in range(1, i):
            skip = math.prod(k / (k - eps) for k in range(j + 1, i))
            expected = eps / (i - eps) * skip
            assert h[i, j].item() == pytest.approx(expected, rel=1e-12)


def test_path_visits_every_token() -> None:
    edge_index = torch.tensor([[0, 1, 2, 3], [1, 2, 3, 4]])
    h = hitting_probability(edge_index)
    assert torch.equal(h, torch.ones(5, 5, dtype=torch.float64).tril())
    assert absorption_time(edge_index).tolist() == [0, 1, 2, 3, 4]


def test_equals_the_fundamental_matrix() -> None:
    A = random_causal(10, 0, density=0.5)
    Q = A[1:, 1:]
    N = torch.linalg.inv(torch.eye(9, dtype=torch.float64) - Q)
    h = hitting_probability(A)
    torch.testing.assert_close(h[1:, 1:], N / N.diagonal())
    torch.testing.assert_close(h[:, 0], torch.ones(10, dtype=torch.float64))
    torch.testing.assert_close(absorption_time(A)[1:], N.sum(1))


@pytest.mark.parametrize(
    'A',
    [
        pytest.param(random_causal(8, 1), id='causal'),
        pytest.param(
            torch.block_diag(random_causal(3, 2), random_causal(4, 3)),
            id='two_roots',
        ),
        pytest.param(
            torch.cat([torch.eye(7)[:2].double(), random_walk(7, 4)[2:]]),
            id='two_roots_not_causal',
        ),
    ],
)
def test_equals_long_walks(A: Tensor) -> None:
    # Long enough that less than 1e-12 of the walk is still on its way.
    torch.testing.assert_close(
        hitting_probability(A), hitting_by_powers(A), rtol=1e-10, atol=1e-12
    )


def test_killed_walk_equals_long_walks_with_a_cemetery() -> None:
    A, hops = random_walk(6, 5), 2.5
    follow = hops / (1 + hops)
    P = torch.zeros(7, 7, dtype=torch.float64)
    P[0, 0] = 1
    P[1:, 0] = 1 - follow
    P[1:, 1:] = follow * A
    torch.testing.assert_close(
        hitting_probability(A, hops=hops), hitting_by_powers(P)[1:, 1:]
    )


def test_random_depth_identity() -> None:
    # A depth that is geometric with mean `depth`, and mixing alpha.
    A, alpha, depth = random_causal(7, 6), 0.4, 5.0
    hops = alpha * depth
    eye = torch.eye(7, dtype=torch.float64)
    M = (1 - alpha) * eye + alpha * A
    more = depth / (1 + depth)
    power, mean = eye, torch.zeros_like(eye)
    for k in range(400):  # more^400 < 1e-31
        mean = mean + (1 - more) * more**k * power
        power = power @ M
    rate = 1 - hops / (1 + hops) * A.diagonal()
    green = hitting_probability(A, hops=hops) / rate
    torch.testing.assert_close(green / (1 + hops), mean)


def test_hops_interpolates_between_direct_attention_and_no_limit() -> None:
    A = random_causal(9, 7)
    few = hitting_probability(A, hops=1e-7) / 1e-7
    # The next order in hops is of relative size 1e-7 times the size.
    torch.testing.assert_close(few.tril(-1), A.tril(-1), rtol=1e-5, atol=1e-6)
    many = hitting_probability(A, hops=1e9)
    torch.testing.assert_close(
        many, hitting_probability(A), rtol=1e-7, atol=1e-7
    )
    assert torch.equal(
        hitting_probability(A, hops=0), torch.eye(9, dtype=torch.float64)
    )


def test_identity_attention_never_moves() -> None:
    eye = torch.eye(4, dtype=torch.float64)
    assert torch.equal(hitting_probability(eye), eye)
    assert torch.equal(hitting_probability(eye, hops=3), eye)
    assert torch.equal(absorption_time(eye), torch.zeros(4).double())


def test_a_token_without_edges_is_a_root() -> None:
    A = random_causal(5, 8)
    bare = A.clone()
    bare[0, 0] = 0
    for hops in (None, 4.0):
        torch.testing.assert_close(
            hitting_probability(bare, hops=hops),
            hitting_probability(A, hops=hops),
        )


def test_rows_are_read_up_to_their_sum() -> None:
    A = random_causal(6, 9)
    scaled = A * torch.arange(1, 7).double().unsqueeze(1)
    for hops in (None, 4.0):
        torch.testing.assert_close(
            hitting_probability(scaled, hops=hops),
            hitting_probability(A, hops=hops),
        )
    torch.testing.assert_close(absorption_time(scaled), absorption_time(A))


def test_float32_attention_loses_no_digits_near_identity() -> None:
    # Diagonal entries round to one; the off-diagonal ones hold the walk.
    w = torch.tensor([1.0, 2.0, 3.0, 4.0])
    A = (1e-9 * w.expand(4, 4)).tril(-1) + torch.eye(4)
    h = hitting_probability(A)
    # h_ij = w_j / (w_0 + ... + w_j), as for static keys
    expected = (w / w.cumsum(0)).double()
    for j in range(3):
        # The weights are float32.
        torch.testing.assert_close(
            h[j + 1 :, j], expected[j].expand(3 - j), rtol=1e-6, atol=0
        )


def test_edges_and_batches_agree_with_a_matrix() -> None:
    A = torch.stack([random_causal(6, 10), random_causal(6, 11)])
    h = hitting_probability(A)
    target, source = A[1].nonzero(as_tuple=True)
    from_edges = hitting_probability(
        torch.stack([source, target]), A[1, target, source]
    )
    assert h.dtype == torch.float64
    torch.testing.assert_close(h[1], from_edges)
    torch.testing.assert_close(absorption_time(A)[0], absorption_time(A[0]))
    assert hitting_probability(A[0].float()).dtype == torch.float64


def test_closed_classes_of_several_tokens() -> None:
    # 0 and 1 reach each other alone; 2 is a root; 3 to 5 are on the way.
    A = torch.zeros(6, 6, dtype=torch.float64)
    A[0, 1] = A[1, 0] = A[2, 2] = 1
    A[3, [0, 2, 4]] = torch.tensor([0.25, 0.25, 0.5]).double()
    A[4, [3, 2]] = 0.5
    A[5, 4] = 3  # rows need not sum to one
    torch.testing.assert_close(
        hitting_probability(A),
        hitting_by_powers(A / A.sum(1, keepdim=True)),
    )
    # tau_3 = 1 + tau_4 / 2, tau_4 = 1 + tau_3 / 2, tau_5 = 1 + tau_4.
    assert absorption_time(A).tolist() == pytest.approx([0, 0, 0, 2, 2, 3])


@pytest.mark.parametrize('hops', [-1.0, math.inf, math.nan])
def test_hops_out_of_range(hops: float) -> None:
    with pytest.raises(ValueError, match='hops'):
        hitting_probability(random_causal(3, 0), hops=hops)


@pytest.mark.parametrize('hops', [None, 3.0])
@pytest.mark.parametrize('causal', [True, False])
def test_gradients(hops: float | None, causal: bool) -> None:
    generator = torch.Generator().manual_seed(12)
    logits = torch.randn(5, 5, generator=generator, dtype=torch.float64)
    mask = torch.ones(5, 5).tril() if causal else torch.ones(5, 5)
    mask[0, 1:] = 0

    def h(logits: Tensor) -> Tensor:
        masked = logits.masked_fill(mask == 0, -math.inf)
        return hitting_probability(masked.softmax(-1), hops=hops)

    assert torch.autograd.gradcheck(h, logits.requires_grad_())


def test_gradient_of_the_absorption_time() -> None:
    generator = torch.Generator().manual_seed(13)
    logits = torch.randn(5, 5, generator=generator, dtype=torch.float64)
    mask = torch.ones(5, 5).triu(1).bool()

    def time(logits: Tensor) -> Tensor:
        masked = logits.masked_fill(mask, -math.inf)
        return absorption_time(masked.softmax(-1))

    assert torch.autograd.gradcheck(time, logits.requires_grad_())


@SETTINGS
@given(size=st.integers(2, 10), seed=st.integers(0, 999))
def test_prefixes_are_consistent(size: int, seed: int) -> None:
    A = random_causal(size + 3, seed, density=0.7)
    torch.testing.assert_close(
        hitting_probability(A)[:size, :size],
        hitting_probability(A[:size, :size]),
    )
    torch.testing.assert_close(
        absorption_time(A)[:size], absorption_time(A[:size, :size])
    )


@SETTINGS
@given(
    size=st.integers(2, 10),
    seed=st.integers(0, 999),
    alpha=st.floats(0.01, 1.0),
)
def test_a_residual_connection_changes_nothing(
    size: int, seed: int, alpha: float
) -> None:
    A = random_causal(size, seed)
    M = (1 - alpha) * torch.eye(size) + alpha * A
    torch.testing.assert_close(hitting_probability(M), hitting_probability(A))
    # Laziness stretches time.
    torch.testing.assert_close(absorption_time(M) * alpha, absorption_time(A))


@SETTINGS
@given(size=st.integers(3, 9), seed=st.integers(0, 999), cut=st.integers(1, 7))
def test_bottleneck_law(size: int, seed: int, cut: int) -> None:
    h = hitting_probability(random_causal(size, seed, density=0.6))
    for k in range(size):
        through = h[k:, k].unsqueeze(1) * h[k, : k + 1]
        # The two sides round apart.
        assert (h[k:, : k + 1] >= through - 1e-14).all()
    cut = min(cut, size - 2)
    A = random_causal(size, seed)
    A[cut + 1 :, :cut] = 0
    h = hitting_probability(A)
    torch.testing.assert_close(
        h[cut + 1 :, :cut], h[cut + 1 :, cut : cut + 1] * h[cut : cut + 1, :cut]
    )
