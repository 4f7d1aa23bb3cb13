"""What leaves the last block, also where blocks are unlike Llama's."""

import architectures
import pytest
import torch
from torch import Tensor

import gnnbridge as gb
from gnnbridge.models.outgoing import outgoing_states
from gnnbridge.models.zoo.tiny import build

NORMS = {
    'llama': 'model.norm',
    'gpt2': 'transformer.ln_f',
    'gemma2': 'model.norm',
    'gpt_oss': 'model.norm',
    'gpt_neox': 'gpt_neox.final_layer_norm',
}


@pytest.mark.parametrize('name', NORMS)
def test_it_is_what_the_final_norm_reads(name: str) -> None:
    model = gb.convert(architectures.build(name))
    read: list[Tensor] = []
    norm = model.get_submodule(NORMS[name])
    norm.register_forward_pre_hook(lambda module, args: read.append(args[0]))
    ids = torch.arange(1, 15).view(2, 7)
    with torch.no_grad(), outgoing_states(model) as found:
        model(ids)
        model(ids)
    assert len(found) == 2
    torch.testing.assert_close(found[0], read[0], rtol=0, atol=0)
    with torch.no_grad():
        model(ids)
    assert len(found) == 2


def test_states_are_sequences_first_where_blocks_have_tokens_first() -> None:
    model = gb.convert(build('xlnet'), mode='mask')
    ids = torch.arange(1, 11).view(2, 5)
    with torch.no_grad(), outgoing_states(model) as found:
        model(ids)
    assert found[0].shape[:2] == (2, 5)


def test_a_hybrid_ends_with_its_last_block_of_any_kind() -> None:
    model = gb.convert(build('jamba'))
    read: list[Tensor] = []
    norm = model.model.final_layernorm
    norm.register_forward_pre_hook(lambda module, args: read.append(args[0]))
    with torch.no_grad(), outgoing_states(model) as found:
        model(torch.arange(1, 6).unsqueeze(0))
    torch.testing.assert_close(found[0], read[0], rtol=0, atol=0)
