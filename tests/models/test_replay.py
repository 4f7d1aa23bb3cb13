import itertools
from typing import Any

import pytest
import torch
from architectures import build

from gnnbridge.models.replay import (
    BlockMap,
    find_blocks,
    record_calls,
    run_blocks,
)
from gnnbridge.models.zoo.tiny import build as build_tiny

IDS = torch.tensor([[1, 17, 5, 40, 22]])


@pytest.mark.parametrize(
    ('name', 'where'),
    [
        ('gpt2', 'transformer.h'),
        ('llama', 'model.layers'),
        ('bert', 'bert.encoder.layer'),
        ('opt', 'model.decoder.layers'),
        # Experts are lists as well, inside of the blocks.
        ('deepseek_v2', 'model.layers'),
    ],
)
def test_blocks_are_the_outermost_list(name: str, where: str) -> None:
    model = build(name)
    assert find_blocks(model) is model.get_submodule(where)


def test_blocks_of_what_sees_text() -> None:
    model = build_tiny('gemma3')
    blocks = find_blocks(model)
    name = next(n for n, module in model.named_modules() if module is blocks)
    assert 'language_model' in name


def test_models_without_one_list_of_blocks() -> None:
    with pytest.raises(NotImplementedError, match='encoder-decoder'):
        find_blocks(build('bart'))
    model = build('llama')
    del model.model.layers
    with pytest.raises(NotImplementedError, match='a list of blocks'):
        find_blocks(model)


@pytest.mark.parametrize('name', ['gpt2', 'llama', 'gpt_oss'])
def test_calls_are_those_of_the_run(name: str) -> None:
    model = build(name)
    calls = record_calls(model, IDS, range(3))
    assert [call.block for call in calls] == list(find_blocks(model))
    for lower, upper in itertools.pairwise(calls):
        torch.testing.assert_close(lower.returned, upper.given)
    for call in calls:
        with torch.no_grad():
            torch.testing.assert_close(call.again(call.given), call.returned)
        # The states of the run are not kept twice.
        kept = call.args[:1] or (call.kwargs['hidden_states'],)
        assert kept == (None,)
    assert [c.block for c in record_calls(model, IDS, range(1, 2))] == [
        find_blocks(model)[1]
    ]


def test_copies_are_recorded_once_and_few_are_kept() -> None:
    model = build('llama')
    runs = []
    handle = model.model.register_forward_hook(
        lambda module, args, output: runs.append(0)
    )
    blocks = BlockMap(model, IDS, range(3))
    for batch in (1, 2, 1, 2):
        assert blocks.calls(batch)[0].given.size(0) == batch
    assert len(runs) == 2
    for batch in (3, 4, 5, 6):
        blocks.calls(batch)
    assert len(blocks._recorded) <= 3
    assert 6 in blocks._recorded
    handle.remove()


def test_what_enters_is_kept_though_a_block_adds_to_it() -> None:
    model = build('llama')

    def add(module: Any, args: Any, kwargs: Any) -> None:
        states = args[0] if args else kwargs['hidden_states']
        states += 1

    usual = record_calls(model, IDS, range(3))[1]
    inner = model.model.layers[1].input_layernorm
    inner.register_forward_pre_hook(add, with_kwargs=True)
    changed = record_calls(model, IDS, range(3))[1]
    torch.testing.assert_close(changed.given, usual.given)
    assert not torch.allclose(changed.returned, usual.returned)
    # A replay leaves what it is given alone as well.
    function = BlockMap(model, IDS, range(3))
    states = usual.given[0].clone()
    with torch.no_grad():
        function(states)
    torch.testing.assert_close(states, usual.given[0])


def test_blocks_that_do_not_run_once_each() -> None:
    model = build('llama')
    model.model.layers[2] = model.model.layers[1]
    with pytest.raises(NotImplementedError, match='run once'):
        record_calls(model, IDS, range(1, 2))
    with pytest.raises(NotImplementedError, match='run once'):
        record_calls(build_tiny('cpmant'), IDS, range(2))


def test_options_that_a_model_does_not_take_are_left_out() -> None:
    model = build('bert')
    with torch.no_grad():
        run_blocks(model, IDS)
        run_blocks(model, IDS, torch.ones_like(IDS))
    # A wrapper that takes everything and hands it on.
    with torch.no_grad():
        run_blocks(build_tiny('opt'), IDS)
