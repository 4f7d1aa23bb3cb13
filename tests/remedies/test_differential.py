"""Differential attention by the interface of remedies."""

from __future__ import annotations

import architectures
import pytest
import torch
import transformers
from remedied import model_for, relative, tokens

import gnnbridge.remedies as R


def test_a_llama_gets_a_sibling():
    config = model_for('llama').config
    model = R.Differential().build(config, seed=2)
    assert isinstance(model, transformers.DiffLlamaForCausalLM)
    for key in (
        'vocab_size', 'hidden_size', 'num_hidden_layers',
        'num_attention_heads', 'num_key_value_heads', 'head_dim',
        'max_position_embeddings', 'rms_norm_eps', 'eos_token_id',
    ):  # fmt: skip
        assert getattr(model.config, key) == getattr(config, key), key
    llama = R.SoftmaxOne().build(config, seed=2)
    extra = model.num_parameters() - llama.num_parameters()
    assert extra == 3 * 4 * config.head_dim


@pytest.mark.parametrize('kind', ['decay', 'runway', 'layer'])
def test_without_a_share_history_is_none(kind):
    model, ids = model_for('diffllama'), tokens()
    expected = model(ids).logits
    R.Differential(kind, rho=0.0).apply(model)
    assert relative(model(ids).logits, expected) < 1e-5


def test_what_was_trained_stays_when_history_is_removed():
    remedy, ids = R.Differential('decay', rho=0.3), tokens()
    model = remedy.apply(model_for('diffllama'))
    generator = torch.Generator().manual_seed(0)
    added = remedy.parameters(model)
    with torch.no_grad():
        for key, value in model.named_parameters():
            if key not in added:
                noise = torch.randn(value.shape, generator=generator)
                value.add_(0.05 * noise)
    # The same weights with no history at all.
    for value in added.values():
        value.data.fill_(-torch.inf)
    expected = model(ids).logits
    remedy.remove(model)
    assert relative(model(ids).logits, expected) < 1e-5
    assert relative(model(ids).logits, model_for('diffllama')(ids).logits) > 0.1


def test_other_models_are_refused():
    with pytest.raises(NotImplementedError, match='DiffLlama'):
        R.Differential().apply(architectures.build('llama'))
    with pytest.raises(NotImplementedError, match="'gpt2'"):
        R.Differential().build(architectures.build('gpt2').config)
    config = transformers.LlamaConfig(
        hidden_size=24, num_attention_heads=3, num_key_value_heads=3
    )
    with pytest.raises(NotImplementedError, match='even numbers'):
        R.Differential().build(config)
    config = transformers.LlamaConfig(attention_dropout=0.1)
    with pytest.raises(NotImplementedError, match='dropout'):
        R.Differential().build(config)
    model = R.SinkLogit().apply(model_for('diffllama'))
    with pytest.raises(NotImplementedError, match='as it was built'):
        R.Differential('decay').apply(model)


def test_without_history_other_remedies_come_on_top():
    model = R.Differential().apply(model_for('diffllama'))
    R.GatedAttention().apply(model)
    assert len(R.applied(model)) == 2


def test_bad_settings():
    with pytest.raises(ValueError, match="'history'"):
        R.Differential('rows')
    with pytest.raises(ValueError, match="'rho'"):
        R.Differential('decay', rho=2.0)
    with pytest.raises(ValueError, match="'frozen'"):
        R.Differential(frozen=True)


def test_weights_come_back_in_their_order():
    config = transformers.LlamaConfig(
        vocab_size=61, hidden_size=32, intermediate_size=48,
        num_hidden_layers=2, num_attention_heads=8, num_key_value_heads=4,
    )  # fmt: skip
    plain, ids = R.Differential().build(config, seed=1), tokens()
    remedy = R.Differential('decay')
    model = remedy.build(config, seed=1)
    with torch.no_grad():
        for module in (model, plain):
            for layer in module.model.layers:
                for name, value in layer.self_attn.named_parameters():
                    if 'history' not in name:
                        value.mul_(3)
    remedy.remove(model)
    assert relative(model(ids).logits, plain(ids).logits) < 1e-6
    for key, value in plain.state_dict().items():
        if 'gnnbridge' not in key:
            assert torch.equal(model.state_dict()[key], value), key
