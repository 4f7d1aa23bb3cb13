import copy

import pytest
import torch
from architectures import build
from tiny_decoder import tiny_decoder
from torch import Tensor

import gnnbridge as gb
from gnnbridge.profiling.sections import last_states
from gnnbridge.profiling.sections.last_states import (
    LastStates,
    dtype_name,
    in_dtype,
)


def ids_of(rows: int = 5, length: int = 9) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(2, 61, (rows, length), generator=generator)


@pytest.mark.parametrize('name', ['llama', 'gpt2', 'gemma2', 'gpt_oss'])
def test_states_are_what_the_head_reads_and_what_leaves_the_last_block(
    name: str,
) -> None:
    model, ids = build(name), ids_of()
    seen: dict[str, Tensor] = {}
    head = model.get_output_embeddings()
    handles = [
        head.register_forward_pre_hook(
            lambda module, args: seen.update(head=args[0])
        ),
        (model.base_model.h if name == 'gpt2' else model.base_model.layers)[
            -1
        ].register_forward_hook(
            lambda module, args, out: seen.update(
                block=out[0] if isinstance(out, tuple) else out
            )
        ),
    ]
    with torch.no_grad():
        model(input_ids=ids, attention_mask=torch.ones_like(ids))
    for handle in handles:
        handle.remove()
    gb.convert(model)
    # Three runs: two rows of nine tokens at a time.
    read = LastStates(model, most_tokens=18)
    states = read(ids)
    torch.testing.assert_close(
        states, seen['head'][:, -1], rtol=1e-3, atol=1e-4
    )
    [leaving] = read.leaving
    torch.testing.assert_close(
        leaving, seen['block'][:, -1], rtol=1e-3, atol=1e-4
    )
    assert torch.equal(read.states[0], states)


def test_a_copy_is_rounded_and_leaves_the_model_alone() -> None:
    model = gb.convert(tiny_decoder())
    before = copy.deepcopy(model.state_dict())
    twin = in_dtype(model, torch.bfloat16)
    assert twin.dtype == torch.bfloat16
    assert model.dtype == torch.float32
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
        assert torch.equal(twin.state_dict()[name], value.bfloat16())
    # Frequencies are computed on loading, in whatever precision is wanted.
    rotary = twin.base_model.rotary_emb
    assert rotary.inv_freq.dtype == torch.float32
    assert twin.base_model.layers[0] is not model.base_model.layers[0]
    read = LastStates(twin, most_tokens=99)
    coarse, fine = read(ids_of()), LastStates(model, 99)(ids_of())
    assert coarse.dtype == torch.bfloat16
    # 2^-8 of rounding in each of a few operations.
    error = (coarse.float() - fine).norm() / fine.norm()
    assert 1e-4 < error < 0.05
    assert in_dtype(model, torch.float32) is model


def test_a_copy_keeps_tied_weights_tied() -> None:
    twin = in_dtype(build('gpt2'), torch.bfloat16)
    head = twin.get_output_embeddings().weight
    assert head is twin.get_input_embeddings().weight


def test_what_cannot_be_copied_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = tiny_decoder()
    monkeypatch.setattr(last_states, 'free_memory', lambda device: 1000)
    with pytest.raises(NotImplementedError, match='memory for a copy'):
        in_dtype(model, torch.bfloat16)
    monkeypatch.setattr(last_states, 'free_memory', lambda device: None)
    assert in_dtype(model, torch.bfloat16).dtype == torch.bfloat16
    model.hf_device_map = {'model': 0, 'lm_head': 1}
    with pytest.raises(NotImplementedError, match='one device'):
        in_dtype(model, torch.bfloat16)


def test_a_model_without_states_is_refused() -> None:
    model = gb.convert(tiny_decoder())
    model.base_model.forward = lambda input_ids, attention_mask: {}
    with pytest.raises(NotImplementedError, match='last_hidden_state'):
        LastStates(model, 99)(ids_of())


def test_dtypes_have_names() -> None:
    assert dtype_name(torch.bfloat16) == 'bfloat16'
