from typing import Any

import pytest
import torch
from architectures import build
from torch import Generator, Tensor

from gnnbridge.diagnostics.jacobian import JacobianNorms, jacobian_norms
from gnnbridge.models.convert import converted
from gnnbridge.models.stack import Stack, block_stack
from gnnbridge.models.zoo.tiny import build as build_tiny

IDS = torch.tensor([[1, 17, 5, 40, 22, 9, 9, 31]])
MODELS = ['gpt2', 'llama', 'gemma2', 'gpt_oss', 'qwen3']
# Gradients in float32, in batches and one by one.
CLOSE = {'rtol': 1e-4, 'atol': 1e-6}


def brute_force(stack: Stack) -> Tensor:
    """Frobenius norms from the whole Jacobian ``[N, d, N, d]``."""
    J = torch.autograd.functional.jacobian(*stack)
    assert isinstance(J, Tensor)
    return J.double().square().sum((1, 3)).sqrt()


def exact(*args: Any, **options: Any) -> Tensor:
    found = jacobian_norms(*args, method='exact', **options)
    assert found.error is None
    assert found.probes is None
    assert found.norm.dtype == torch.float64
    return found.norm


@pytest.mark.parametrize('name', MODELS)
def test_exact_norms_are_those_of_the_whole_jacobian(name: str) -> None:
    with block_stack(build(name), IDS) as stack:
        expected = brute_force(stack)
        torch.testing.assert_close(exact(*stack), expected, **CLOSE)
        with_prefix = exact(*stack, prefix=stack.prefix)
        torch.testing.assert_close(with_prefix, expected, **CLOSE)
        assert not with_prefix.triu(1).any()
        one = stack.between(1, 2)
        torch.testing.assert_close(exact(*one), brute_force(one), **CLOSE)


@pytest.mark.parametrize('name', ['jamba', 'bamba', 'bloom'])
def test_blocks_of_other_kinds(name: str) -> None:
    with block_stack(build_tiny(name), IDS) as stack:
        found = exact(*stack, receivers=[-1, 3], prefix=stack.prefix)
        torch.testing.assert_close(found, brute_force(stack)[[-1, 3]], **CLOSE)


@pytest.mark.parametrize('name', MODELS)
def test_a_converted_model_gives_the_same(name: str) -> None:
    model = build(name)
    with block_stack(model, IDS) as stack:
        expected = exact(*stack)
    with converted(model), block_stack(model, IDS) as stack:
        found = exact(*stack, prefix=stack.prefix)
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


def test_tokens_that_all_see_each_other() -> None:
    with block_stack(build('bert'), IDS) as stack:
        found = exact(*stack)
        torch.testing.assert_close(found, brute_force(stack), **CLOSE)
        assert (found.triu(1)[0, 1:] > 0).all()


def linear(seed: int, size: int = 5, width: int = 40) -> tuple[Any, Tensor]:
    """A causal linear map with directions that decay, and its norms."""
    generator = Generator().manual_seed(seed)
    J = torch.randn(size, size, width, width, generator=generator).double()
    J = J * 0.9 ** torch.arange(width).reshape(-1, 1)
    J = J * torch.ones(size, size).tril().reshape(size, size, 1, 1)
    norms = J.square().sum((2, 3)).sqrt()
    return lambda x: torch.einsum('ijab,...jb->...ia', J, x), norms


def test_a_function_of_another_width() -> None:
    function, _ = linear(0, width=6)
    states = torch.ones(5, 6).double()
    narrow = exact(lambda x: function(x)[:, :2], states)
    wide = exact(lambda x: torch.cat([function(x)] * 2, 1), states)
    assert (narrow <= exact(function, states)).all()
    torch.testing.assert_close(wide, 2**0.5 * exact(function, states))


@pytest.mark.parametrize('probes', [2, 5, 12])
def test_estimates_are_unbiased_in_the_square(probes: int) -> None:
    function, true = linear(1)
    states = torch.randn(5, 40, generator=Generator().manual_seed(2)).double()
    total, claimed = torch.zeros(2, 5, 5).double()
    spread = torch.zeros(5, 5).double()
    draws = 120
    for seed in range(draws):
        found = jacobian_norms(
            function,
            states,
            method='hutchinson',
            probes=probes,
            generator=Generator().manual_seed(seed),
        )
        assert found.error is not None
        total += found.norm.square() / draws
        spread += (found.norm.square() - true.square()).square() / draws
        claimed += (2 * found.norm * found.error).square() / draws
    below = torch.ones(5, 5).tril().bool()
    standard = (spread / draws).sqrt()
    # Of fifteen means none is more than four standard errors off.
    off = (total - true.square()).abs()
    assert (off[below] < 4 * standard[below]).all()
    assert not total[~below].any()
    # The errors are right in the mean, to the precision of one ratio for all.
    calibration = (spread[below].sum() / claimed[below].sum()).item()
    assert 0.4 < calibration < 2.5


def test_more_probes_have_less_error() -> None:
    with block_stack(build('llama'), IDS) as stack:
        true = exact(*stack)
        below = torch.ones_like(true).tril().bool()
        errors, claims = [], []
        for probes in (2, 4, 8, 16):
            found = jacobian_norms(*stack, method='hutchinson', probes=probes)
            relative = (found.norm / true - 1)[below].abs().median()
            errors.append(relative.item())
            claims.append(found.relative_error)
    assert errors == sorted(errors, reverse=True)
    assert claims == sorted(claims, reverse=True)
    # Of 36 pairs that share their probes by receiver.
    for error, claim in zip(errors, claims, strict=True):
        assert 0.2 < error / claim < 1.5


def test_estimates_by_prefix_and_in_any_pieces_are_the_same() -> None:
    with block_stack(build('gpt2'), IDS) as stack:
        found = [
            jacobian_norms(*stack, method='hutchinson', probes=6, **options)
            for options in (
                {},
                {'prefix': stack.prefix},
                {'chunk': 1},
                {'chunk': 7, 'prefix': stack.prefix},
            )
        ]
    for other in found[1:]:
        torch.testing.assert_close(other.norm, found[0].norm, **CLOSE)
        torch.testing.assert_close(other.error, found[0].error, **CLOSE)


def test_chance_comes_from_the_generator() -> None:
    function, _ = linear(3)
    states = torch.ones(5, 40).double()

    def norms(*seed: int) -> JacobianNorms:
        generator = Generator().manual_seed(*seed) if seed else None
        return jacobian_norms(
            function, states, method='hutchinson', generator=generator
        )

    assert norms(4).norm.equal(norms(4).norm)
    assert not norms(4).norm.equal(norms(5).norm)
    assert norms().norm.equal(norms(0).norm)


def test_method_by_the_work() -> None:
    function, true = linear(6)
    states = torch.ones(5, 40).double()
    # 200 passes in all.
    found = jacobian_norms(function, states)
    assert found.error is None
    torch.testing.assert_close(found.norm, true)
    assert found.receivers.tolist() == [0, 1, 2, 3, 4]
    assert found.relative_error == 0.0
    function, true = linear(6, size=30)
    states = torch.ones(30, 40).double()
    assert jacobian_norms(function, states).probes == 8
    assert jacobian_norms(function, states, probes=40).error is None
    for some in (7, [3, -1]):
        found = jacobian_norms(function, states, receivers=some)
        assert found.error is None
        torch.testing.assert_close(found.norm, true[found.receivers])


def test_receivers_keep_their_order() -> None:
    function, true = linear(7)
    states = torch.ones(5, 40).double()
    for method in ('exact', 'hutchinson'):
        found = jacobian_norms(
            function, states, receivers=[3, -5, 4], method=method, probes=12
        )
        assert found.receivers.tolist() == [3, 0, 4]
        assert found.norm.shape == (3, 5)
        assert (found.norm > 0).equal(true[[3, 0, 4]] > 0)


def test_a_function_without_influence() -> None:
    states = torch.ones(4, 50)
    found = jacobian_norms(lambda x: 0 * x, states, method='hutchinson')
    assert not found.norm.any()
    assert found.error is not None
    assert not found.error.any()
    assert found.relative_error == 0.0


def test_states_are_left_alone() -> None:
    function, _ = linear(8)
    states = torch.ones(5, 40).double()
    for method in ('exact', 'hutchinson'):
        jacobian_norms(function, states, method=method)
    assert states.equal(torch.ones(5, 40).double())
    assert not states.requires_grad
    with torch.no_grad():
        assert jacobian_norms(function, states, receivers=0).norm[0, 0] > 0


@pytest.mark.parametrize(
    ('states', 'options', 'match'),
    [
        (torch.ones(2, 3, 4), {}, r'\[N, d\]'),
        (torch.ones(0, 3), {}, r'\[0, 3\]'),
        (torch.ones(2, 3).long(), {}, 'int64'),
        (torch.ones(2, 3), {'method': 'sketch'}, "got 'sketch'"),
        (torch.ones(2, 3), {'probes': 1}, 'at least 2'),
        (torch.ones(2, 3), {'chunk': 0}, 'chunk'),
        (torch.ones(2, 3), {'receivers': 2}, 'among 2 tokens'),
        (torch.ones(2, 3), {'receivers': []}, r'got \[\]'),
        (torch.ones(2, 3), {'receivers': [1, -1]}, 'once'),
    ],
)
def test_arguments_that_do_not_fit(
    states: Tensor, options: dict[str, Any], match: str
) -> None:
    with pytest.raises(ValueError, match=match):
        jacobian_norms(lambda x: x, states, **options)
