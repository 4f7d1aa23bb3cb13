"""Attention is found by running a model; what is not routed is refused."""

from __future__ import annotations

import architectures
import pytest
import torch
import transformers as hf

import gnnbridge as gb
from gnnbridge.models.slots import self_attention_slots, slots_of
from gnnbridge.models.support import (
    evaluation_mode,
    refuse_unrouted,
    run_once,
    trace_attention,
    trace_inputs,
)

VISION = {
    'hidden_size': 32,
    'num_hidden_layers': 2,
    'num_attention_heads': 4,
    'intermediate_size': 48,
    'image_size': 12,
    'patch_size': 4,
}


def layers(model):
    return [slot.layer for slot in self_attention_slots(model).values()]


def test_cross_attention_is_told_from_self_attention():
    model = gb.convert(architectures.build('t5'))
    names = [slot.name for slot in slots_of(model).values() if slot.cross]
    assert names == [
        f'decoder.block.{i}.layer.1.EncDecAttention' for i in range(3)
    ]
    assert layers(model) == list(range(6))


def test_a_hybrid_model_has_its_softmax_layers_only():
    config = hf.MiniMaxConfig(
        **{**architectures.BASE, 'head_dim': 8, 'num_local_experts': 4}
    )
    model = gb.convert(hf.MiniMaxForCausalLM(config).eval())
    kinds = enumerate(config.layer_types)
    expected = [i for i, kind in kinds if kind == 'full_attention']
    assert layers(model) == expected
    assert len(expected) < config.num_hidden_layers


def test_a_vision_language_model_is_converted_in_its_language_part():
    model = hf.LlavaForConditionalGeneration(
        hf.LlavaConfig(
            vision_config=hf.CLIPVisionConfig(**VISION),
            text_config=hf.LlamaConfig(**architectures.BASE),
            image_token_index=60,
        )
    ).eval()
    gb.convert(model)
    names = [slot.name for slot in slots_of(model).values()]
    assert names == [
        f'model.language_model.layers.{i}.self_attn' for i in range(3)
    ]
    vision = model.model.vision_tower.config
    assert vision._attn_implementation != 'gnnbridge'


def test_a_vision_model_is_converted():
    model = hf.CLIPVisionModel(hf.CLIPVisionConfig(**VISION)).eval()
    assert len(slots_of(gb.convert(model))) == 2


def test_a_model_that_is_routed_in_part_is_refused():
    model = architectures.build('llama')

    class OtherAttention(torch.nn.Module):
        def forward(self, x):
            return x

    model.model.layers[2].mlp.extra = OtherAttention()
    model.model.layers[2].mlp.register_forward_hook(
        lambda module, args, output: module.extra(output)
    )
    with pytest.raises(NotImplementedError, match=r'layers\.2\.mlp\.extra'):
        gb.convert(model)
    assert slots_of(model) == {}


def test_inputs_that_are_not_known_are_asked_for():
    config = hf.WhisperConfig(
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=40,
        decoder_ffn_dim=40,
        vocab_size=61,
        max_source_positions=20,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    )
    model = hf.WhisperForConditionalGeneration(config).eval()
    with pytest.raises(NotImplementedError, match='example_inputs'):
        gb.convert(model)
    inputs = {
        'input_features': torch.randn(1, config.num_mel_bins, 40),
        'decoder_input_ids': torch.arange(3, 7).unsqueeze(0),
    }
    with torch.no_grad():
        expected = model(**inputs)[0]
        found = gb.convert(model, example_inputs=inputs)(**inputs)[0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_evaluation_mode_comes_and_goes():
    model = architectures.build('llama').train()
    model.model.layers[0].eval()
    with evaluation_mode(model):
        assert not any(module.training for module in model.modules())
    assert model.training
    assert not model.model.layers[0].training
    assert model.model.layers[1].mlp.training


def test_a_trace_names_what_ran_and_leaves_nothing_behind():
    model = architectures.build('gpt2')
    inputs = trace_inputs(model)
    hooks = sum(len(m._forward_pre_hooks) for m in model.modules())
    trace = trace_attention(model, inputs, 'auto')
    assert trace.routed == {}
    assert model.transformer.h[1].attn in trace.executed
    assert torch.equal(trace.output, run_once(model, inputs))
    assert slots_of(model) == {}
    assert sum(len(m._forward_pre_hooks) for m in model.modules()) == hooks
    with pytest.raises(NotImplementedError, match=r'to use a phone \(got 3'):
        refuse_unrouted(model, trace, 'a phone', 'Write a letter.')


def test_characters_need_no_vocabulary():
    config = hf.CanineConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=4,
        intermediate_size=48,
    )  # fmt: skip
    inputs = trace_inputs(hf.CanineModel(config))
    assert inputs['input_ids'].shape == (1, 8)
    assert inputs['input_ids'].max() < 64


def test_the_encoder_alone_gets_no_decoder_input():
    config = hf.UMT5Config(
        d_model=32, num_layers=1, num_heads=4, d_kv=8, d_ff=48, vocab_size=61
    )
    assert 'decoder_input_ids' not in trace_inputs(hf.UMT5EncoderModel(config))
    whole = hf.UMT5ForConditionalGeneration(config)
    assert trace_inputs(whole)['decoder_input_ids'].shape == (1, 5)
