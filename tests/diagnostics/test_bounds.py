"""The bounds as formulas; on models in tests/models/test_lipschitz.py."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gnnbridge.diagnostics.bounds import sensitivity_bound
from gnnbridge.spectral.green import hitting_probability
from gnnbridge.spectral.layered import envelope_hitting, layered_influence
from gnnbridge.spectral.rollout import attention_rollout

SIZE, DEPTH = 8, 4
BELOW = torch.ones(SIZE, SIZE).tril(-1).bool()


def attention(seed: int, depth: int = DEPTH) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    scores = 2 * torch.randn(depth, SIZE, SIZE, generator=generator).double()
    later = torch.ones(SIZE, SIZE).triu(1).bool()
    return scores.masked_fill(later, -math.inf).softmax(-1)


def uniform() -> Tensor:
    A = torch.ones(SIZE, SIZE).double().tril()
    return (A / A.sum(1, keepdim=True)).expand(DEPTH, SIZE, SIZE)


@given(seed=st.integers(0, 1000))
@settings(deadline=None, derandomize=True, max_examples=20)
def test_bounds_grow_from_the_layers_to_the_envelope(seed: int) -> None:
    A, generator = attention(seed), torch.Generator().manual_seed(seed)
    share = torch.rand(DEPTH, SIZE, generator=generator).double()
    c = 0.5 + 2 * torch.rand(DEPTH, SIZE, generator=generator).double()
    total = c.amax(1).prod()
    layers, visits, envelope = (
        sensitivity_bound(A, kind=kind, constants=c, mixing=share)
        for kind in ('layers', 'visits', 'envelope')
    )
    # Factors of receivers are never worse than the largest of each layer.
    assert (layers <= total * attention_rollout(A, share) * (1 + 1e-12)).all()
    torch.testing.assert_close(visits, total * layered_influence(A, share)[1])
    torch.testing.assert_close(envelope, total * envelope_hitting(A))
    assert (layers <= visits * (1 + 1e-12)).all()
    assert (visits <= envelope * (1 + 1e-12)).all()


def test_layers_of_attention_alone_are_bounded_without_slack() -> None:
    # x_i + g_i sum_k A_ik x_k has the Jacobian diag(c) M itself.
    A = attention(1)
    gain = torch.rand(DEPTH, SIZE, generator=torch.Generator().manual_seed(2))
    gain = gain.double()
    J = torch.eye(SIZE).double()
    for layer in range(DEPTH):
        J = (torch.eye(SIZE) + gain[layer].unsqueeze(1) * A[layer]) @ J
    bound = sensitivity_bound(
        A, kind='layers', constants=1 + gain, mixing=gain / (1 + gain)
    )
    torch.testing.assert_close(bound, J)


def test_uniform_attention_in_closed_form() -> None:
    # h_ij = 1 / (j + 1) for all i > j.
    column = (1 / torch.arange(1.0, SIZE + 1)).double().expand(SIZE, SIZE)
    for kind in ('resistance', 'envelope'):
        bound = sensitivity_bound(uniform(), kind=kind, constants=3.0)
        torch.testing.assert_close(bound[BELOW], 3**DEPTH * column[BELOW])
        torch.testing.assert_close(
            bound.diagonal(), torch.full((SIZE,), 81.0).double()
        )


def test_resistance_is_the_hitting_probability_of_shared_attention() -> None:
    A = attention(3, depth=1)
    shared = A.expand(DEPTH, SIZE, SIZE)
    bound = sensitivity_bound(shared, kind='resistance')
    torch.testing.assert_close(bound, hitting_probability(A[0]))
    torch.testing.assert_close(
        bound, sensitivity_bound(shared, kind='envelope')
    )
    with pytest.raises(ValueError, match="kind='envelope'"):
        sensitivity_bound(attention(3), kind='resistance')


def test_bounds_of_message_passing_on_one_graph() -> None:
    A = attention(4, depth=1)
    shared, one = A.expand(DEPTH, SIZE, SIZE), A[0].numpy()
    power = np.linalg.matrix_power
    eye = np.eye(SIZE)
    for kind, options, expected in (
        ('topping', {'constants': 0.7}, 0.7**DEPTH * power(one, DEPTH)),
        (
            'di_giovanni',
            {'constants': 0.5, 'weights': (2.0, 0.25)},
            0.5**DEPTH * power(2 * eye + 0.25 * one, DEPTH),
        ),
        ('barbero', {'constants': 1.5}, 1.5**DEPTH * power(one + eye, DEPTH)),
        (
            'black',
            {'constants': 0.8},
            1.6**DEPTH * sum(power(one, k) for k in range(DEPTH + 1)),
        ),
    ):
        bound = sensitivity_bound(shared, kind=kind, **options)
        np.testing.assert_allclose(bound.numpy(), expected, rtol=1e-12)


def test_bounds_of_message_passing_on_several_graphs() -> None:
    A, c = attention(5), torch.tensor([0.5, 2.0, 1.0, 3.0]).double()
    stay = torch.tensor([1.0, 0.5, 2.0, 1.5]).double()
    eye = torch.eye(SIZE).double()
    expected = eye
    for layer in range(DEPTH):
        step = stay[layer] * eye + 0.3 * A[layer]
        expected = c[layer] * step @ expected
    found = sensitivity_bound(
        A, kind='di_giovanni', constants=c, weights=(stay, 0.3)
    )
    torch.testing.assert_close(found, expected)
    # All ways to go through some of the layers, each size in the mean.
    total = torch.zeros(SIZE, SIZE).double()
    for number in range(2**DEPTH):
        chosen = [layer for layer in range(DEPTH) if number >> layer & 1]
        product = eye
        for layer in chosen:
            product = A[layer] @ product
        total += product / math.comb(DEPTH, len(chosen))
    found = sensitivity_bound(A, kind='black', constants=c)
    torch.testing.assert_close(found, (2 * c).prod() * total)
    barbero = sensitivity_bound(A, kind='barbero', constants=c)
    assert (barbero <= found * (1 + 1e-12)).all()


def test_logarithms_survive_what_numbers_do_not() -> None:
    deep = attention(6, depth=400)
    for kind in ('layers', 'visits', 'envelope', 'barbero', 'di_giovanni'):
        shallow = sensitivity_bound(attention(6), kind=kind, constants=2.0)
        logs = sensitivity_bound(
            attention(6), kind=kind, constants=2.0, log=True
        )
        torch.testing.assert_close(10**logs, shallow)
        assert (logs[~BELOW.T & ~torch.eye(SIZE).bool()] > -math.inf).all()
        assert (logs[BELOW.T] == -math.inf).all()
        logs = sensitivity_bound(deep, kind=kind, constants=1e3, log=True)
        assert logs[-1].isfinite().all()
        assert logs[-1, 0] > 1190  # 400 layers of 1e3, less what is mixed
        assert sensitivity_bound(deep, kind=kind, constants=1e3)[-1, 0].isinf()


def test_without_constants_it_is_a_shape() -> None:
    A = attention(7)
    torch.testing.assert_close(
        sensitivity_bound(A, kind='layers'), attention_rollout(A)
    )
    torch.testing.assert_close(
        sensitivity_bound(list(A.float()), kind='layers', mixing=0.2),
        attention_rollout(A.float(), 0.2),
    )


@pytest.mark.parametrize(
    ('given', 'options', 'match'),
    [
        (attention(0), {'kind': 'ours'}, "got 'ours'"),
        (attention(0)[None], {'kind': 'layers'}, r'\[L, N, N\]'),
        ([], {'kind': 'layers'}, 'attentions'),
        (attention(0), {'kind': 'layers', 'constants': -1.0}, 'not negative'),
        (
            attention(0),
            {'kind': 'visits', 'constants': torch.ones(3)},
            r"'constants'.*\(3,\)",
        ),
        (
            attention(0),
            {'kind': 'di_giovanni', 'weights': (1.0, math.nan)},
            "'weights'",
        ),
        (attention(0), {'kind': 'layers', 'mixing': 1.5}, 'between 0 and 1'),
    ],
)
def test_arguments_that_do_not_fit(
    given: Any, options: dict[str, Any], match: str
) -> None:
    with pytest.raises(ValueError, match=match):
        sensitivity_bound(given, **options)
