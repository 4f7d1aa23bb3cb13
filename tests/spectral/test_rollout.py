import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matrices import random_causal, random_walk
from torch import Tensor

from gnnbridge.spectral.green import hitting_probability
from gnnbridge.spectral.rollout import attention_rollout, rms_rollout


def random_layers(layers: int, size: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    A = torch.rand(layers, size, size, generator=generator).double().tril()
    return A / A.sum(-1, keepdim=True)


def test_later_layers_act_on_the_left() -> None:
    # Layer 1 copies token 0 to 1, layer 2 copies token 1 to 2.
    first = torch.tensor([[1.0, 0, 0], [1, 0, 0], [0, 0, 1]])
    second = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 1, 0]])
    assert attention_rollout([first, second], 1.0)[2].tolist() == [1, 0, 0]
    assert attention_rollout([second, first], 1.0)[2].tolist() == [0, 1, 0]


def test_counts_paths() -> None:
    # Row n of tril(1)^L counts the causal walks: C(n - i + L - 1, L - 1).
    layers, size = 4, 6
    ones = torch.ones(layers, size, size).tril()
    expected = [
        math.comb(size - 1 - i + layers - 1, layers - 1) for i in range(size)
    ]
    assert attention_rollout(ones, 1.0)[-1].tolist() == expected


def test_one_matrix_mixes_as_a_binomial() -> None:
    A = random_layers(1, 7, 0)[0]
    depth, m = 5, 0.3
    expected = sum(
        math.comb(depth, k)
        * m**k
        * (1 - m) ** (depth - k)
        * torch.linalg.matrix_power(A, k)
        for k in range(depth + 1)
    )
    torch.testing.assert_close(attention_rollout([A] * depth, m), expected)


def test_is_the_hitting_probability_on_the_unrolled_graph() -> None:
    layers, size = 3, 5
    A = random_layers(layers, size, 1)
    mixing = torch.rand(
        layers, size, generator=torch.Generator().manual_seed(2)
    ).double()
    unrolled = torch.zeros((layers + 1) * size, (layers + 1) * size).double()
    for layer in range(layers):
        below = slice(layer * size, (layer + 1) * size)
        above = slice((layer + 1) * size, (layer + 2) * size)
        m = mixing[layer].unsqueeze(1)
        unrolled[above, below] = (1 - m) * torch.eye(size) + m * A[layer]
    expected = hitting_probability(unrolled)[-size:, :size]
    torch.testing.assert_close(attention_rollout(A, mixing), expected)


def test_mixing_per_layer_is_mixing_of_all_receivers() -> None:
    A = random_layers(3, 4, 3)
    mixing = torch.tensor([0.1, 0.6, 0.9])
    each = mixing.unsqueeze(1).expand(3, 4)
    torch.testing.assert_close(
        attention_rollout(A, mixing), attention_rollout(A, each)
    )
    torch.testing.assert_close(
        attention_rollout(A), attention_rollout(A, torch.full((3,), 0.5))
    )


def test_heads_are_a_batch() -> None:
    A = torch.stack([random_layers(3, 5, 4), random_layers(3, 5, 5)], dim=1)
    mixing = torch.rand(3, 5, generator=torch.Generator().manual_seed(6))
    out = attention_rollout(A.float(), mixing)
    assert out.shape == (2, 5, 5)
    assert out.dtype == torch.float64
    torch.testing.assert_close(
        out[1], attention_rollout(A[:, 1].float(), mixing)
    )


def test_gradients() -> None:
    weights = random_layers(2, 3, 7).requires_grad_()
    mixing = torch.tensor([0.2, 0.7], dtype=torch.float64, requires_grad=True)

    def rollout(weights: Tensor, mixing: Tensor) -> Tensor:
        return attention_rollout(weights.square(), mixing)

    assert torch.autograd.gradcheck(rollout, (weights, mixing))


@pytest.mark.parametrize(
    ('mixing', 'match'),
    [(1.5, 'between 0 and 1'), (torch.ones(4), 'shapes'), (math.nan, '0')],
)
def test_wrong_mixing(mixing: float | Tensor, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        attention_rollout(random_layers(3, 5, 8), mixing)


def test_wrong_layers() -> None:
    with pytest.raises(ValueError, match='each layer'):
        attention_rollout([])
    with pytest.raises(ValueError, match='each layer'):
        attention_rollout([torch.eye(3), torch.eye(4)])


@settings(deadline=None, max_examples=25, derandomize=True)
@given(
    layers=st.integers(1, 5),
    size=st.integers(1, 7),
    seed=st.integers(0, 99),
    mixing=st.floats(0, 1),
)
def test_rows_sum_to_one_and_causality_holds(
    layers: int, size: int, seed: int, mixing: float
) -> None:
    out = attention_rollout(random_layers(layers, size, seed), mixing)
    torch.testing.assert_close(out.sum(-1), torch.ones(size).double())
    assert not out.triu(1).any()


def random_heads(layers: int, heads: int, size: int, seed: int) -> Tensor:
    graphs = [
        random_causal(size, 50 * seed + k, 0.7) for k in range(layers * heads)
    ]
    return torch.stack(graphs).reshape(layers, heads, size, size)


def random_gains(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator, dtype=torch.float64) + 0.3


def by_all_signs(A: Tensor, beta: Tensor, gain: Tensor) -> Tensor:
    """The mean over every choice of signs, `beta` [L, H, N], `gain` [L, N]."""
    layers, heads, size, _ = A.shape
    eye = torch.eye(size, dtype=torch.float64)
    total = torch.zeros(size, size, dtype=torch.float64)
    choices = list(itertools.product([-1.0, 1.0], repeat=layers * heads))
    for choice in choices:
        signs = torch.tensor(choice).double().reshape(layers, heads)
        product = eye
        for l in range(layers):
            mixed = eye.clone()
            for h in range(heads):
                mixed = mixed + signs[l, h] * A[l, h] * beta[l, h]
            product = gain[l].unsqueeze(1) * (mixed @ product)
        total = total + product.square()
    return (total / len(choices)).sqrt()


@pytest.mark.parametrize(('layers', 'heads'), [(1, 1), (3, 1), (2, 3), (4, 2)])
def test_exact_is_the_mean_over_all_signs(layers: int, heads: int) -> None:
    A = random_heads(layers, heads, 5, 0)
    beta = random_gains(layers, heads, 5, seed=1)
    gain = random_gains(layers, 5, seed=2)
    found = rms_rollout(A, beta, token_gains=gain, method='exact')
    torch.testing.assert_close(found, by_all_signs(A, beta, gain))
    ones = torch.ones(layers, 5, dtype=torch.float64)
    torch.testing.assert_close(
        rms_rollout(A, beta, method='exact'), by_all_signs(A, beta, ones)
    )


@pytest.mark.parametrize('shape', [(), (3,), (3, 2), (3, 2, 5)])
def test_gains_by_layer_head_and_source(shape: tuple[int, ...]) -> None:
    A = random_heads(3, 2, 5, 3)
    beta = random_gains(*shape, seed=4)
    each = beta.reshape(*shape, *[1] * (3 - len(shape))).expand(3, 2, 5)
    ones = torch.ones(3, 5, dtype=torch.float64)
    given = beta.item() if shape == () else beta
    found = rms_rollout(A, given, method='exact')
    torch.testing.assert_close(found, by_all_signs(A, each, ones))


def test_is_the_sum_over_patterns_of_heads() -> None:
    # Theorem F: squares of products along each choice of a head or none.
    A, beta = random_heads(3, 2, 5, 5), random_gains(3, 2, seed=6)
    eye = torch.eye(5, dtype=torch.float64)
    total = torch.zeros_like(eye)
    for pattern in itertools.product([None, 0, 1], repeat=3):
        product, weight = eye, torch.ones((), dtype=torch.float64)
        for l, head in enumerate(pattern):
            if head is not None:
                product = A[l, head] @ product
                weight = weight * beta[l, head] ** 2
        total = total + weight * product.square()
    found = rms_rollout(A, beta, method='exact')
    torch.testing.assert_close(found, total.sqrt())


@pytest.mark.parametrize('method', ['exact', 'mean'])
def test_one_common_matrix(method: Any) -> None:
    # sum_k C(L, k) beta^2k ((A^k)_ij)^2
    A, depth, beta = random_causal(7, 7), 6, 0.8
    expected = sum(
        math.comb(depth, k)
        * beta ** (2 * k)
        * torch.linalg.matrix_power(A, k).square()
        for k in range(depth + 1)
    )
    found = rms_rollout([A.unsqueeze(0)] * depth, beta, method=method)
    torch.testing.assert_close(found.square(), expected)


def test_mean_with_gains_by_layer_and_head() -> None:
    A, beta = random_causal(6, 8), random_gains(3, 2, seed=9)
    layers = A.expand(3, 2, 6, 6)
    # Elementary symmetric polynomials of sum_h beta_lh^2 over the layers.
    square = beta.square().sum(1).tolist()
    expected = sum(
        sum(math.prod(c) for c in itertools.combinations(square, k))
        * torch.linalg.matrix_power(A, k).square()
        for k in range(4)
    )
    found = rms_rollout(layers, beta, method='mean')
    torch.testing.assert_close(found.square(), expected)
    torch.testing.assert_close(found, rms_rollout(layers, beta, method='exact'))


def test_mean_takes_the_gain_weighted_mean() -> None:
    A, beta = random_heads(2, 2, 5, 10), random_gains(2, 2, seed=11)
    weight = beta.square() / beta.square().sum()
    mean = torch.einsum('lh,lhij->ij', weight, A)
    torch.testing.assert_close(
        rms_rollout(A, beta, method='mean'),
        rms_rollout(mean.expand(2, 2, 5, 5), beta, method='mean'),
    )


def test_is_the_jacobian_of_random_weights() -> None:
    # Theorem F: E ||J_ij||_F^2 / d for x_i + sum_h sum_k A_ik W x_k.
    layers, heads, size, d, draws = 3, 2, 5, 12, 400
    A, beta = random_heads(layers, heads, size, 12), random_gains(3, 2, seed=13)
    generator = torch.Generator().manual_seed(14)
    eye = torch.eye(size * d, dtype=torch.float64)
    total = torch.zeros(size, size, dtype=torch.float64)
    for _ in range(draws):
        J = eye
        for l in range(layers):
            step = eye
            for h in range(heads):
                W = torch.randn(d, d, generator=generator, dtype=torch.float64)
                W = W * beta[l, h] / math.sqrt(d)
                step = step + torch.kron(A[l, h].contiguous(), W)
            J = step @ J
        blocks = J.reshape(size, d, size, d)
        total = total + blocks.square().sum((1, 3)) / d
    expected = rms_rollout(A, beta, method='exact').square()
    below = torch.ones(size, size).tril().bool()
    # Blocks hold d^2 entries, so that 400 draws leave some 1 or 2 percent.
    torch.testing.assert_close(
        (total / draws)[below], expected[below], rtol=0.06, atol=0
    )


def test_rademacher_is_unbiased() -> None:
    A = random_heads(3, 2, 6, 15)
    beta, gain = random_gains(3, 2, 6, seed=16), random_gains(3, 6, seed=17)
    exact = rms_rollout(A, beta, token_gains=gain, method='exact').square()
    runs = torch.stack(
        [
            rms_rollout(
                A,
                beta,
                token_gains=gain,
                num_samples=8,
                generator=torch.Generator().manual_seed(seed),
            ).square()
            for seed in range(300)
        ]
    )
    below = torch.ones(6, 6).tril().bool()
    error = (runs.std(0) / math.sqrt(300))[below]
    # 21 pairs, four standard errors.
    assert ((runs.mean(0) - exact)[below].abs() <= 4 * error + 1e-12).all()


def test_reproducible() -> None:
    A = random_heads(3, 2, 6, 18)
    assert torch.equal(rms_rollout(A), rms_rollout(A))
    drawn = [
        rms_rollout(A, generator=torch.Generator().manual_seed(seed))
        for seed in (0, 0, 1)
    ]
    assert torch.equal(drawn[0], rms_rollout(A))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    generator = torch.Generator().manual_seed(5)
    first = rms_rollout(A, generator=generator)
    assert not torch.equal(first, rms_rollout(A, generator=generator))


def test_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(3)
    state = torch.get_rng_state()
    assert rms_rollout(random_heads(2, 2, 4, 19)).isfinite().all()
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize('method', ['rademacher', 'exact', 'mean'])
@pytest.mark.parametrize('rows', [3, -1, [0, 2], torch.tensor([-2]), []])
def test_rows(method: Any, rows: Any) -> None:
    A = random_heads(3, 2, 6, 20)
    index = torch.as_tensor(rows).long() % 6
    found = rms_rollout(A, method=method, rows=rows)
    expected = rms_rollout(A, method=method)[index]
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize('method', ['rademacher', 'exact', 'mean'])
def test_float32_and_gains_of_zero(method: Any) -> None:
    A = random_heads(2, 2, 5, 21)
    found = rms_rollout(A.float(), 0.5, method=method, dtype=torch.float32)
    assert found.dtype == torch.float32
    torch.testing.assert_close(
        found.double(),
        rms_rollout(A, 0.5, method=method),
        rtol=1e-5,
        atol=1e-7,
    )
    eye = torch.eye(5, dtype=torch.float64)
    if method != 'mean':
        assert torch.equal(rms_rollout(A, 0.0, method=method), eye)


def test_gains_of_zero_leave_the_stream() -> None:
    A = random_heads(2, 2, 5, 22)
    found = rms_rollout(A, 0.0, method='mean')
    assert torch.equal(found, torch.eye(5, dtype=torch.float64))


def test_needs_no_causality() -> None:
    A = torch.stack([random_walk(4, 23), random_walk(4, 24)]).unsqueeze(1)
    ones = torch.ones(2, 1, 4, dtype=torch.float64)
    found = rms_rollout(A, method='exact')
    torch.testing.assert_close(found, by_all_signs(A, ones, ones[:, 0]))


@pytest.mark.parametrize('method', ['rademacher', 'exact'])
@pytest.mark.parametrize('causal', [True, False])
def test_gradients_of_the_root_mean_square(method: Any, causal: bool) -> None:
    graphs = [
        random_causal(3, seed) if causal else random_walk(3, seed)
        for seed in range(4)
    ]
    A = torch.stack(graphs).reshape(2, 2, 3, 3).requires_grad_()
    beta = random_gains(2, 2, 3, seed=26).requires_grad_()
    finite = torch.ones(3, 3).tril().bool()

    def rollout(A: Tensor, beta: Tensor) -> Tensor:
        A = A.tril() if causal else A
        found = rms_rollout(A, beta, method=method)
        return found[finite] if causal else found

    assert torch.autograd.gradcheck(rollout, (A, beta))


@pytest.mark.parametrize(
    ('options', 'match'),
    [
        ({'gains': torch.ones(5)}, "'gains'"),
        ({'token_gains': torch.ones(2)}, "'token_gains' of shape"),
        ({'method': 'sample'}, "'rademacher', 'exact', 'mean'"),
        (
            {'method': 'exact', 'num_samples': 9},
            r"no 'num_samples' .*'rademacher' instead",
        ),
        ({'num_samples': 0}, "'num_samples' to be at least 1"),
        ({'rows': 4}, "'rows' between -4 and 3"),
        (
            {'method': 'mean', 'gains': random_gains(2, 2, 4, seed=0)},
            'by token',
        ),
        ({'method': 'mean', 'token_gains': 2 * torch.ones(2, 4)}, 'by token'),
        ({'dtype': torch.bfloat16}, 'float64'),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        rms_rollout(random_heads(2, 2, 4, 27), **options)


def test_heads_are_required() -> None:
    with pytest.raises(ValueError, match=r'\[L, H, N, N\]'):
        rms_rollout([random_causal(4, 0)] * 2)
    with pytest.raises(ValueError, match='each layer'):
        rms_rollout([])
