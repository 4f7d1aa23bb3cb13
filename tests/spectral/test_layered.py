import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matrices import random_causal, static_key, window
from torch import Tensor

from gnnbridge.spectral.arguments import Tokens
from gnnbridge.spectral.green import absorption_time, hitting_probability
from gnnbridge.spectral.laplacian import leave_rate
from gnnbridge.spectral.layered import envelope_hitting, layered_influence
from gnnbridge.spectral.rollout import attention_rollout

SETTINGS = settings(deadline=None, max_examples=25, derandomize=True)


def random_layers(layers: int, size: int, seed: int) -> Tensor:
    graphs = [
        random_causal(size, 100 * seed + layer, 0.7) for layer in range(layers)
    ]
    return torch.stack(graphs)


def random_mixing(layers: int, size: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(layers, size, generator=generator, dtype=torch.float64)


def steps_of(A: Tensor, mixing: Tensor) -> list[Tensor]:
    """The matrices M_l, first layer first."""
    eye = torch.eye(A.size(-1), dtype=torch.float64)
    m = mixing.unsqueeze(-1)
    return list((1 - m) * eye + m * A)


def visits_by_paths(steps: list[Tensor]) -> Tensor:
    """Probability to meet each token, over all walks one by one."""
    size = steps[0].size(0)
    found = torch.zeros(size, size, dtype=torch.float64)
    for walk in itertools.product(range(size), repeat=len(steps) + 1):
        chance = math.prod(
            M[k, j].item()
            for M, (k, j) in zip(
                reversed(steps), itertools.pairwise(walk), strict=True
            )
        )
        for token in set(walk):
            found[walk[0], token] += chance
    return found


def visits_by_stopping(steps: list[Tensor]) -> Tensor:
    """The same with each token made absorbing in turn."""
    size = steps[0].size(0)
    found = torch.zeros(size, size, dtype=torch.float64)
    eye = torch.eye(size, dtype=torch.float64)
    for j in range(size):
        value = eye[j]
        for M in steps:
            value = torch.where(eye[j] == 1, eye[j], M @ value)
        found[:, j] = value
    return found


def test_all_walks_one_by_one() -> None:
    A, mixing = random_layers(3, 4, 0), random_mixing(3, 4, 1)
    steps = steps_of(A, mixing)
    T, V = layered_influence(A, mixing)
    torch.testing.assert_close(T, steps[2] @ steps[1] @ steps[0])
    torch.testing.assert_close(V, visits_by_paths(steps))
    torch.testing.assert_close(visits_by_stopping(steps), V)


@pytest.mark.parametrize(
    'mixing',
    [
        pytest.param(0.5, id='number'),
        pytest.param(1.0, id='attention'),
        pytest.param(0.0, id='stream'),
        pytest.param(torch.tensor([0.1, 0.6, 0.9, 0.3]), id='layer'),
        pytest.param(random_mixing(4, 9, 2), id='receiver'),
    ],
)
def test_mixing(mixing: Any) -> None:
    A = random_layers(4, 9, 3)
    T, V = layered_influence(A, mixing)
    torch.testing.assert_close(T, attention_rollout(A, mixing))
    shares = torch.as_tensor(mixing, dtype=torch.float64)
    if shares.dim() < 2:
        shares = shares.reshape(-1, 1).expand(4, 9)
    torch.testing.assert_close(V, visits_by_stopping(steps_of(A, shares)))


@pytest.mark.parametrize('rows', [3, -1, [0, 5, 5], torch.tensor([2, -3]), []])
def test_rows(rows: Tokens) -> None:
    A, mixing = random_layers(3, 8, 4), random_mixing(3, 8, 5)
    full = layered_influence(A, mixing)
    index = torch.as_tensor(rows)
    index = index.long() % 8
    for found, expected in zip(
        layered_influence(A, mixing, rows=rows), full, strict=True
    ):
        assert found.shape == expected[index].shape
        torch.testing.assert_close(found, expected[index])


def test_heads_are_a_batch_and_layers_may_be_a_list() -> None:
    A = torch.stack([random_layers(3, 6, 6), random_layers(3, 6, 7)], dim=1)
    mixing = random_mixing(3, 6, 8)
    stacked = layered_influence(A, mixing, rows=[2, -1])
    listed = layered_influence(list(A), mixing, rows=[2, -1])
    for head in range(2):
        one = layered_influence(A[:, head], mixing, rows=[2, -1])
        for found, other, expected in zip(stacked, listed, one, strict=True):
            assert found.shape == (2, 2, 6)
            torch.testing.assert_close(found[head], expected)
            assert torch.equal(found, other)
    h = envelope_hitting(A)
    assert h.shape == (2, 6, 6)
    torch.testing.assert_close(h[1], envelope_hitting(list(A[:, 1])))


@SETTINGS
@given(
    layers=st.integers(1, 4), size=st.integers(1, 8), seed=st.integers(0, 999)
)
def test_ends_are_met_and_meetings_are_below_the_envelope(
    layers: int, size: int, seed: int
) -> None:
    A, mixing = (
        random_layers(layers, size, seed),
        random_mixing(layers, size, 9),
    )
    T, V = layered_influence(A, mixing)
    h = envelope_hitting(A)
    assert (T <= V + 1e-14).all()
    assert (h + 1e-14 >= V).all()
    torch.testing.assert_close(T.sum(-1), torch.ones(size).double())
    torch.testing.assert_close(V.diagonal(), torch.ones(size).double())
    assert not V.triu(1).any()


@SETTINGS
@given(size=st.integers(2, 8), seed=st.integers(0, 999))
def test_the_envelope_of_equal_layers_is_the_hitting_probability(
    size: int, seed: int
) -> None:
    A = random_causal(size, seed, density=0.6)
    eye = torch.eye(size, dtype=torch.float64)
    lazy = 0.7 * eye + 0.3 * A
    expected = hitting_probability(A)
    torch.testing.assert_close(envelope_hitting([A]), expected)
    torch.testing.assert_close(envelope_hitting([A, lazy, A]), expected)
    # Layers in which no token moves do not count.
    torch.testing.assert_close(envelope_hitting([eye, A]), expected)


def test_the_envelope_is_the_best_choice_of_layers() -> None:
    # Every receiver may take any layer: all 3^4 ways to do so.
    A = random_layers(3, 5, 10)
    best = torch.zeros(5, 5, dtype=torch.float64)
    for choice in itertools.product(range(3), repeat=4):
        mixed = A[0].clone()
        for receiver, layer in enumerate(choice, start=1):
            mixed[receiver] = A[layer, receiver]
        best = torch.maximum(best, hitting_probability(mixed))
    torch.testing.assert_close(envelope_hitting(A), best)


def test_the_envelope_does_not_depend_on_order_or_residual() -> None:
    A = random_layers(3, 7, 11)
    expected = envelope_hitting(A)
    torch.testing.assert_close(envelope_hitting(A.flip(0)), expected)
    lazy = 0.4 * A
    lazy = lazy + 0.6 * torch.eye(7, dtype=torch.float64)
    torch.testing.assert_close(envelope_hitting(lazy), expected)


@pytest.mark.parametrize('alpha', [0.25, 0.5, 1.0])
@pytest.mark.parametrize('depth', [1, 3, 10, 40])
@pytest.mark.parametrize(
    'A',
    [
        pytest.param(random_causal(9, 12, density=0.6), id='random'),
        pytest.param(static_key(torch.ones(9)), id='uniform'),
        pytest.param(window(9, 3), id='window'),
    ],
)
def test_depth_bounds(A: Tensor, alpha: float, depth: int) -> None:
    T, V = layered_influence([A] * depth, alpha)
    h, rate, time = hitting_probability(A), leave_rate(A), absorption_time(A)
    # V (1 - alpha l_j)^L <= T <= V <= h, h - V <= tau_i / (alpha L)
    assert (V * (1 - alpha * rate) ** depth <= T + 1e-14).all()
    assert (T <= V + 1e-14).all()
    assert (h + 1e-14 >= V).all()
    bound = time / (alpha * depth)
    assert (h - V <= bound.unsqueeze(1) + 1e-14).all()


def test_deep_stacks_tend_to_the_hitting_probability() -> None:
    A = random_causal(8, 13)
    _, V = layered_influence([A] * 3000, 0.5)
    torch.testing.assert_close(V, hitting_probability(A))


def test_uniform_attention_at_realistic_depth() -> None:
    # The note: V / h = 0.82, 0.97 at 6 and 12 layers, n = 2048, last token.
    A = static_key(torch.ones(2048))
    h = (1 / torch.arange(1, 2049).double())[1:-1]
    for depth, share in ((6, 0.82), (12, 0.97)):
        _, V = layered_influence([A] * depth, 0.5, rows=-1)
        assert (V[1:-1] / h).mean().item() == pytest.approx(share, abs=0.005)


def test_a_window_does_not_reach_beyond_depth_times_width() -> None:
    size, width = 40, 4
    T, V = layered_influence([window(size, width)] * 3, 0.5)
    far = torch.ones(size, size).tril(-3 * (width - 1) - 1).bool()
    near = torch.ones(size, size).tril().triu(-3 * (width - 1)).bool()
    for influence in (T, V):
        assert not influence[far].any()
        assert (influence[near] > 0).all()


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_rows_of_half_precision_are_taken_or_divided(
    dtype: torch.dtype,
) -> None:
    A = random_layers(3, 6, 14)
    coarse = A.to(dtype)
    assert not torch.equal(coarse.double().sum(-1), A.sum(-1))
    for T, V in (
        layered_influence(coarse),
        layered_influence(coarse, renormalize=True),
    ):
        exact = layered_influence(A)
        # Three layers of rows that are off by up to 2^-8 of themselves.
        torch.testing.assert_close(T, exact[0], rtol=0.03, atol=1e-3)
        torch.testing.assert_close(V, exact[1], rtol=0.03, atol=1e-3)
    T, _ = layered_influence(coarse, renormalize=True)
    torch.testing.assert_close(T.sum(-1), torch.ones(6).double())


def test_float32_rows_may_be_off_by_their_rounding() -> None:
    A = random_layers(2, 6, 15).float()
    T, V = layered_influence(A, dtype=torch.float32)
    assert T.dtype == V.dtype == torch.float32
    assert envelope_hitting(A, dtype=torch.float32).dtype == torch.float32
    exact = layered_influence(A.double(), renormalize=True)
    torch.testing.assert_close(T.double(), exact[0], rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(V.double(), exact[1], rtol=1e-5, atol=1e-7)


def test_renormalize_divides_rows() -> None:
    A = random_layers(3, 5, 16)
    scaled = A * torch.arange(1, 6).double().unsqueeze(1)
    with pytest.raises(ValueError, match='renormalize=True'):
        layered_influence(scaled)
    for found, expected in zip(
        layered_influence(scaled, renormalize=True),
        layered_influence(A),
        strict=True,
    ):
        torch.testing.assert_close(found, expected)
    torch.testing.assert_close(envelope_hitting(scaled), envelope_hitting(A))


def test_gradients() -> None:
    mask = torch.ones(4, 4).triu(1).bool()
    generator = torch.Generator().manual_seed(17)
    logits = torch.randn(2, 4, 4, generator=generator, dtype=torch.float64)
    mixing = torch.rand(2, 4, generator=generator, dtype=torch.float64)

    def influence(logits: Tensor, mixing: Tensor) -> tuple[Tensor, Tensor]:
        A = logits.masked_fill(mask, -math.inf).softmax(-1)
        return layered_influence(A, mixing)

    def envelope(logits: Tensor) -> Tensor:
        A = logits.masked_fill(mask, -math.inf).softmax(-1)
        return envelope_hitting(A)

    given = (logits.requires_grad_(), mixing.requires_grad_())
    assert torch.autograd.gradcheck(influence, given)
    assert torch.autograd.gradgradcheck(influence, given)
    assert torch.autograd.gradcheck(envelope, logits)


def test_the_envelope_is_the_same_with_gradients() -> None:
    A = torch.stack([random_layers(3, 6, 18), random_layers(3, 6, 19)], dim=1)
    found = envelope_hitting(A.clone().requires_grad_())
    assert found.requires_grad
    assert torch.equal(found.detach(), envelope_hitting(A))


BAD: dict[str, tuple[Any, dict[str, Any], str]] = {
    'none': ([], {}, 'each layer'),
    'shapes': ([torch.eye(3), torch.eye(4)], {}, 'each layer'),
    'not_causal': (
        [torch.eye(3), torch.full((3, 3), 1 / 3)],
        {},
        'later token 1 to token 0 in layer 1',
    ),
    'negative': ([-torch.eye(3)], {}, 'non-negative'),
    'nan': ([torch.eye(3) * math.nan], {}, 'finite'),
    'dtype': ([torch.eye(3)], {'dtype': torch.float16}, 'float64'),
}


@pytest.mark.parametrize('name', BAD)
@pytest.mark.parametrize('function', [layered_influence, envelope_hitting])
def test_errors(function: Any, name: str) -> None:
    layers, options, match = BAD[name]
    with pytest.raises(ValueError, match=match):
        function(layers, **options)


@pytest.mark.parametrize(
    ('options', 'match'),
    [
        ({'mixing': 1.5}, 'between 0 and 1'),
        ({'mixing': torch.ones(4)}, 'shapes'),
        ({'rows': 3}, "'rows' between -3 and 2"),
        ({'rows': [0, -4]}, "'rows' between -3 and 2"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        layered_influence([torch.eye(3)] * 2, **options)


def test_the_error_names_the_row() -> None:
    A = random_layers(2, 4, 20)
    A[1, 2] *= 1.5
    with pytest.raises(ValueError, match=r'1\.5 for receiver 2 of layer 1'):
        layered_influence(A)
