from typing import Any

import pytest
import torch
from architectures import build, inputs_for, left_padded
from torch import Tensor
from transformers import PreTrainedModel

import gnnbridge as gb
from gnnbridge.models.capture import capture
from gnnbridge.models.convert import conversion_mode, converted, is_converted
from gnnbridge.models.slots import slots_of
from gnnbridge.models.stack import (
    block_stack,
    block_states,
    find_blocks,
    unconverted,
)
from gnnbridge.models.zoo.tiny import build as build_tiny

IDS = torch.tensor([[1, 17, 5, 40, 22, 9, 9, 31, 2, 58, 13]])
BUILT = ['gpt2', 'llama', 'gemma2', 'gpt_oss', 'qwen3', 'gpt_neox']
# Hybrids with Mamba blocks, and attention that only masks can reach.
FROM_ZOO = ['jamba', 'bamba', 'falcon_h1', 'bloom']
MODELS = [*BUILT, *FROM_ZOO]


def decoder(name: str) -> PreTrainedModel:
    model = build(name) if name in BUILT else build_tiny(name)
    return model.eval()


def run(
    model: PreTrainedModel,
    ids: Tensor,
    states: Tensor | None = None,
    block: int = 0,
) -> tuple[list[Tensor], Tensor]:
    """What enters each block and leaves the last, with states put in."""
    entered: list[Tensor] = []
    left: list[Tensor] = []

    def enter(module: Any, args: Any, kwargs: Any) -> Any:
        own = len(entered) == block and states is not None
        given = args[0] if args else kwargs['hidden_states']
        given = states if own else given
        assert given is not None
        entered.append(given)
        if args:
            return (given, *args[1:]), kwargs
        return args, {**kwargs, 'hidden_states': given}

    def leave(module: Any, args: Any, output: Any) -> None:
        left.append(output[0] if isinstance(output, tuple) else output)

    blocks = find_blocks(model)
    handles = [
        x.register_forward_pre_hook(enter, with_kwargs=True) for x in blocks
    ]
    handles.append(blocks[-1].register_forward_hook(leave))
    try:
        model(ids, attention_mask=torch.ones_like(ids), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return entered, left[0]


@pytest.mark.parametrize('name', MODELS)
def test_the_function_is_the_model_with_other_states(name: str) -> None:
    model = decoder(name)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad(), block_stack(model, IDS) as stack:
        entered, left = run(model, IDS)
        torch.testing.assert_close(stack.states, entered[0][0])
        torch.testing.assert_close(stack.outgoing, left[0])
        noise = torch.randn(stack.states.shape, generator=generator)
        x = stack.states + 0.3 * noise
        _, left = run(model, IDS, x.unsqueeze(0))
        # Of the same operations in the same order.
        torch.testing.assert_close(
            stack.function(x), left[0], rtol=1e-5, atol=1e-5
        )
        assert len(stack.layers) == len(find_blocks(model))


@pytest.mark.parametrize('name', MODELS)
def test_derivatives_are_those_of_the_model(name: str) -> None:
    model = decoder(name)
    with block_stack(model, IDS) as stack:
        x = stack.states.clone().requires_grad_()
        (found,) = torch.autograd.grad(stack.function(x)[-1].sum(), x)
        _, left = run(model, IDS, x.unsqueeze(0))
        (expected,) = torch.autograd.grad(left[0, -1].sum(), x)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('name', MODELS)
def test_copies_of_a_sequence_do_not_see_each_other(name: str) -> None:
    with torch.no_grad(), block_stack(decoder(name), IDS) as stack:
        generator = torch.Generator().manual_seed(1)
        noise = torch.randn(3, *stack.states.shape, generator=generator)
        several = stack.states + noise
        found = stack.function(several)
        for states, one in zip(several, found, strict=True):
            torch.testing.assert_close(
                stack.function(states), one, rtol=1e-4, atol=1e-4
            )
    assert stack.function.takes_batches


@pytest.mark.parametrize('name', MODELS)
def test_a_prefix_is_the_beginning(name: str) -> None:
    with torch.no_grad(), block_stack(decoder(name), IDS) as stack:
        part = stack.prefix(4)
        function, states = part
        assert states.shape == (4, stack.states.size(1))
        torch.testing.assert_close(
            function(states), stack.outgoing[:4], rtol=1e-4, atol=1e-4
        )
        for length in (0, 12):
            with pytest.raises(ValueError, match='between 1 and 11'):
                stack.prefix(length)


def test_blocks_one_after_the_other_are_the_stack() -> None:
    model = decoder('llama')
    with torch.no_grad(), block_stack(model, IDS) as stack:
        lower, upper = stack.between(0, 1), stack.between(1, 3)
        middle = lower.function(stack.states)
        torch.testing.assert_close(middle, upper.states)
        torch.testing.assert_close(upper.function(middle), stack.outgoing)
        assert list(upper.layers) == [1, 2]
        with block_stack(model, IDS[0], first=1, last=2) as alone:
            torch.testing.assert_close(alone.states, upper.states)
            torch.testing.assert_close(
                alone.function(alone.states), stack.between(1, 2).outgoing
            )
            with pytest.raises(ValueError, match='between 1 and 2'):
                alone.between(0, 2)


@pytest.mark.parametrize('name', ['gpt2', 'llama', 'gemma2', 'gpt_oss'])
def test_a_converted_model_gives_the_same(name: str) -> None:
    model = decoder(name)
    with torch.no_grad(), block_stack(model, IDS) as stack:
        x, expected = stack.states, stack.outgoing
    with converted(model), torch.no_grad(), block_stack(model, IDS) as stack:
        torch.testing.assert_close(
            stack.function(x), expected, rtol=1e-4, atol=1e-4
        )


def test_masks_in_place_of_messages() -> None:
    model = decoder('bloom')
    with torch.no_grad(), block_stack(model, IDS) as stack:
        expected = stack.outgoing
    with converted(model, 'mask'), block_stack(model, IDS) as stack:
        torch.testing.assert_close(stack.outgoing, expected)


@pytest.mark.parametrize('fails', [False, True])
def test_the_model_is_left_as_it_was(fails: bool) -> None:
    model = decoder('llama')
    model.train()
    model.model.layers[1].eval()
    model.lm_head.weight.requires_grad_(False)
    usual = model.config._attn_implementation
    hooks = sum(len(m._forward_hooks) for m in model.modules())

    def use() -> None:
        with block_stack(model, IDS):
            assert not model.training
            assert model.config._attn_implementation == 'eager'
            assert not any(p.requires_grad for p in model.parameters())
            if fails:
                raise ZeroDivisionError

    if fails:
        with pytest.raises(ZeroDivisionError):
            use()
    else:
        use()
    assert model.training
    assert not model.model.layers[1].training
    assert model.config._attn_implementation == usual
    frozen = [n for n, p in model.named_parameters() if not p.requires_grad]
    assert frozen == ['lm_head.weight']
    assert sum(len(m._forward_hooks) for m in model.modules()) == hooks


@pytest.mark.parametrize('name', ['gpt2', 'llama', 'gemma2', 'gpt_oss'])
def test_states_are_those_that_capture_sees(name: str) -> None:
    model = decoder(name)
    states = block_states(model, IDS)
    assert len(states) == 4
    for graph, x in zip(capture(model, IDS), states, strict=False):
        # Of two attention kernels.
        torch.testing.assert_close(graph.x, x[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(states[-1], run(model, IDS)[1])
    torch.testing.assert_close(block_states(model, IDS[0])[1], states[1])


def test_states_of_a_padded_batch() -> None:
    model = decoder('llama')
    inputs = left_padded(model)
    found = block_states(model, **inputs)
    whole = block_states(model, inputs_for(model)['input_ids'])
    short = block_states(model, inputs['input_ids'][1:, 4:])
    for padded, first, second in zip(found, whole, short, strict=True):
        torch.testing.assert_close(padded[0], first[0])
        torch.testing.assert_close(padded[1, 4:], second[0])


def test_a_conversion_is_undone_for_a_while() -> None:
    model = gb.convert(decoder('llama'), backend='scatter')
    with torch.no_grad():
        expected = model(IDS).logits
    with unconverted(model) as inside:
        assert inside is model
        assert not is_converted(model)
    assert conversion_mode(model) == 'messages'
    slot = next(iter(slots_of(model).values()))
    assert slot.shared.backend == 'scatter'
    with torch.no_grad():
        torch.testing.assert_close(model(IDS).logits, expected)
    plain = decoder('llama')
    with unconverted(plain):
        assert not is_converted(plain)
    assert not is_converted(plain)


def test_what_is_not_one_function_of_the_states_is_refused() -> None:
    with (
        pytest.raises(NotImplementedError, match='something else that depends'),
        block_stack(build_tiny('zamba2'), IDS),
    ):
        pass
    # Each of its blocks is one of what enters it, all else being constant.
    with block_stack(build_tiny('zamba2'), IDS, first=1, last=2) as stack:
        assert len(stack.layers) == 1
    with pytest.raises(NotImplementedError, match='encoder-decoder'):
        block_states(build('t5'), IDS)
    with (
        block_stack(build('bert'), IDS) as stack,
        pytest.raises(NotImplementedError, match='causal'),
    ):
        stack.prefix(5)


def test_a_block_that_remembers_is_refused() -> None:
    model = decoder('llama')
    calls = []

    def forget(module: Any, args: Any, output: Any) -> Any:
        calls.append(0)
        return output if len(calls) < 3 else output + 1

    # The first calls are the model's own.
    handle = model.model.layers[0].register_forward_hook(forget)
    with (
        pytest.raises(NotImplementedError, match='only pass on their states'),
        block_stack(model, IDS),
    ):
        pass
    handle.remove()


@pytest.mark.parametrize(
    ('ids', 'bounds', 'match'),
    [
        (IDS.expand(2, -1), {}, r'\[N\] or \[1, N\]'),
        (IDS[:, :0], {}, r'\[1, 0\]'),
        (IDS, {'first': 3}, 'among 3 blocks'),
        (IDS, {'first': -1}, 'got -1'),
        (IDS, {'last': 4}, 'got 0 and 4'),
    ],
)
def test_arguments_that_do_not_fit(
    ids: Tensor, bounds: dict[str, int], match: str
) -> None:
    with (
        pytest.raises(ValueError, match=match),
        block_stack(decoder('llama'), ids, **bounds),
    ):
        pass
