import math
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from gnnbridge.diagnostics import pullback as module
from gnnbridge.diagnostics.pullback import Pullback, Source

SIZE, WIDTH = 7, 5
STATES = torch.randn(
    SIZE, WIDTH, generator=torch.Generator().manual_seed(0)
).double()


def layer(x: Tensor) -> Tensor:
    """Causal attention and a nonlinearity, for any number of tokens."""
    hidden = torch.ones(x.size(-2), x.size(-2)).triu(1).bool()
    scores = (x @ x.mT).masked_fill(hidden, -math.inf)
    return torch.tanh(x + scores.softmax(-1) @ x)


class Batched:
    """The same, saying that it takes batches; counts what it is given."""

    takes_batches = True

    def __init__(self) -> None:
        self.given: list[tuple[int, ...]] = []

    def __call__(self, x: Tensor) -> Tensor:
        self.given.append(tuple(x.shape))
        return layer(x)


class Cube(torch.autograd.Function):
    """A derivative of its own, which vmap does not know."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return 3 * x**2 * gradient


def jacobian(function: Any) -> Tensor:
    J = torch.autograd.functional.jacobian(function, STATES)
    assert isinstance(J, Tensor)
    return J


@pytest.mark.parametrize('copies', [1, 3, 64])
@pytest.mark.parametrize(
    'function',
    [layer, Batched(), lambda x: Cube.apply(x) @ x.mT @ x],
    ids=['plain', 'batches', 'own derivative'],
)
def test_rows_are_those_of_the_jacobian(function: Any, copies: int) -> None:
    J = jacobian(function)
    receivers = torch.arange(SIZE).repeat_interleave(WIDTH)
    vectors = torch.eye(WIDTH).repeat(SIZE, 1)
    rows = Pullback(function, STATES, copies).rows(receivers, vectors)
    torch.testing.assert_close(rows, J.flatten(0, 1))


def test_attention_whose_backward_pass_is_repeated_without_a_word() -> None:
    def fused(x: Tensor) -> Tensor:
        one = x.unsqueeze(0).unsqueeze(0)
        return F.scaled_dot_product_attention(one, one, one, is_causal=True)[
            0, 0
        ]

    # Warnings are errors in these tests.
    vectors = torch.eye(WIDTH).double()
    rows = Pullback(fused, STATES, 4).rows(torch.full((WIDTH,), 3), vectors)
    torch.testing.assert_close(rows, jacobian(fused)[3])


def test_states_that_are_not_used() -> None:
    constant = torch.ones(SIZE, 2).double()
    pull = Pullback(lambda x: constant + 0 * x[:, :2], STATES, 2)
    assert pull.width == 2
    assert not pull.rows(torch.tensor([1]), torch.ones(1, 2)).any()


def test_a_function_of_another_number_of_tokens() -> None:
    with pytest.raises(ValueError, match=r'one state per token, \[7\]'):
        Pullback(lambda x: x[:3], STATES, 2)


def prefix(length: int) -> Iterable[Any]:
    return layer, STATES[:length]


def test_groups_of_receivers_see_no_more_than_they_need() -> None:
    source = Source(layer, STATES, prefix)
    parts = list(source.parts([6, 0, 3, 2], passes=64))
    assert [part.receivers.tolist() for part in parts] == [[0], [2], [3], [6]]
    J = jacobian(layer)
    for part in parts:
        (receiver,) = part.receivers.tolist()
        vectors = torch.eye(WIDTH).double()
        rows = part.pullback.rows(part.receivers.expand(WIDTH), vectors)
        assert rows.size(1) == receiver + 1
        torch.testing.assert_close(rows, J[receiver, :, : receiver + 1])


def test_receivers_of_few_passes_share_a_prefix() -> None:
    source = Source(layer, STATES, prefix)
    parts = list(source.parts(range(SIZE), passes=16))
    assert [len(part.receivers) for part in parts] == [4, 3]
    (whole,) = Source(layer, STATES).parts(range(SIZE), passes=1)
    assert whole.receivers.tolist() == list(range(SIZE))


def test_copies_follow_memory_and_divide_the_passes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def copies(passes: int, budget: int) -> int:
        monkeypatch.setitem(module._BYTES, 'cpu', budget)
        (part,) = Source(Batched(), STATES).parts(range(SIZE), passes)
        return part.pullback.copies

    assert copies(16, 1) == 1
    # A quarter of the 112 passes, whole receivers.
    assert copies(16, 2**30) == 16
    assert copies(400, 2**30) == 58  # 400 in seven backward passes
    kept = [copies(400, 2**k) for k in range(10, 16)]
    assert kept == sorted(kept)
    (part,) = Source(Batched(), STATES, chunk=3).parts([0], 16)
    assert part.pullback.copies == 3


def test_responses_are_directional_derivatives() -> None:
    J = jacobian(layer)
    generator = torch.Generator().manual_seed(3)
    found = Source(layer, STATES).responses(5, generator)
    assert found.shape == (SIZE, 5, WIDTH)
    generator = torch.Generator().manual_seed(3)
    step = torch.finfo(torch.float64).eps ** (1 / 3)
    length = STATES.norm(dim=-1, keepdim=True) / WIDTH**0.5
    for number in range(5):
        drawn = torch.randn(SIZE, WIDTH, generator=generator)
        some = torch.rand(SIZE, 1, generator=generator) < 0.25
        change = (drawn * some).double() * step * length
        expected = torch.einsum('iajb,jb->ia', J, change)
        # The next term is smaller by the step, some 1e-5.
        torch.testing.assert_close(
            found[:, number], expected, rtol=1e-3, atol=1e-9
        )


def test_a_prefix_of_another_length() -> None:
    source = Source(layer, STATES, lambda length: (layer, STATES))
    with pytest.raises(ValueError, match=r'states of 3 tokens \(got 7\)'):
        list(source.parts([2], passes=64))
