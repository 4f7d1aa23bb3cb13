import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gnnbridge.spectral.green import hitting_probability
from gnnbridge.spectral.rollout import attention_rollout


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
