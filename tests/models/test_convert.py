"""Converted models give the numbers of the originals, and refuse otherwise."""

from __future__ import annotations

import copy
from typing import Any

import architectures
import pytest
import torch
import transformers as hf
from torch import Tensor

import gnnbridge as gb
from gnnbridge.models.slots import slots_of

ALL = [*architectures.DECODERS, *architectures.ENCODERS]
# Both sides are float32 and sum in another order; errors measured are 2e-7 to
# 8e-6 of the scale of the logits. A forgotten feature shows at 1e-2 and above.
TOLERANCE = 1e-5


def error(out: Tensor, reference: Tensor) -> float:
    return float((out - reference).abs().max() / reference.abs().max())


def eager(name: str, **changes: Any) -> hf.PreTrainedModel:
    model = architectures.build(name, **changes)
    model.set_attn_implementation('eager')
    return model


@pytest.mark.parametrize('name', ALL)
@torch.no_grad()
def test_logits_equal_the_original_and_restore_gives_them_back(name):
    model = architectures.build(name)
    inputs = architectures.inputs_for(model)
    original = model(**inputs)[0]
    reference = eager(name)(**inputs)[0]

    assert gb.convert(model) is model
    assert error(model(**inputs)[0], reference) < TOLERANCE
    assert gb.restore(model) is model
    assert torch.equal(model(**inputs)[0], original)


@pytest.mark.parametrize('name', ['bert', *architectures.DECODERS])
@torch.no_grad()
def test_left_padded_logits_equal_the_original(name):
    model = architectures.build(name)
    inputs = architectures.left_padded(model)
    # What eager attention computes for padding itself is arbitrary.
    real = inputs['attention_mask'].bool()
    reference = eager(name)(**inputs)[0][real]
    gb.convert(model)
    assert error(model(**inputs)[0][real], reference) < TOLERANCE


def generate(
    model: hf.PreTrainedModel, inputs: dict[str, Any], **options: Any
) -> Tensor:
    torch.manual_seed(5)
    return model.generate(
        input_ids=inputs['input_ids'],
        attention_mask=inputs['attention_mask'],
        max_new_tokens=8,
        **options,
    )


@pytest.mark.parametrize('name', ['t5', 'bart', *architectures.DECODERS])
def test_cached_generation_gives_the_same_tokens(name):
    model = architectures.build(name)
    inputs = architectures.left_padded(model)
    greedy = generate(model, inputs, do_sample=False)
    sampled = generate(model, inputs, do_sample=True)
    assert not torch.equal(greedy, sampled)
    gb.convert(model)
    assert torch.equal(generate(model, inputs, do_sample=False), greedy)
    assert torch.equal(generate(model, inputs, do_sample=True), sampled)


@pytest.mark.parametrize('name', ['llama', 'mistral', 'gemma3', 'gpt_oss'])
def test_generation_with_a_static_cache_gives_the_same_tokens(name):
    model = architectures.build(name)
    inputs = architectures.left_padded(model)
    options = {'do_sample': False, 'cache_implementation': 'static'}
    expected = generate(model, inputs, **options)
    gb.convert(model)
    assert torch.equal(generate(model, inputs, **options), expected)


@pytest.mark.parametrize('name', ['llama', 'gemma2', 'gpt_oss', 'gpt2'])
@torch.no_grad()
def test_every_feature_of_the_tiny_models_bites(name):
    """The parity tests would notice a backend that forgets a feature."""
    features = {
        'llama': ('attention_mask', None),
        'gemma2': ('softcap', None),
        'gpt_oss': ('s_aux', None),
        'gpt2': ('scaling', 1.0),
    }
    keyword, forgotten = features[name]
    model = gb.convert(architectures.build(name))
    inputs = architectures.inputs_for(model)
    reference = model(**inputs)[0]
    interface, backend = (
        hf.AttentionInterface(),
        model.config._attn_implementation,
    )
    honest = interface[backend]

    def forgetful(module, query, key, value, attention_mask=None, **kwargs):
        kwargs['attention_mask'] = attention_mask
        kwargs[keyword] = forgotten
        return honest(module, query, key, value, **kwargs)

    hf.AttentionInterface.register(backend, forgetful)
    try:
        wrong = model(**inputs)[0]
    finally:
        hf.AttentionInterface.register(backend, honest)
    assert error(wrong, reference) > 1000 * TOLERANCE


@pytest.mark.parametrize('name', ['gpt2', 'llama'])
@torch.no_grad()
def test_double_precision(name):
    model = architectures.build(name).double()
    inputs = architectures.inputs_for(model)
    reference = model(**inputs)[0]
    gb.convert(model)
    # Attention itself is exact to rounding; both run the same other layers.
    assert error(model(**inputs)[0], reference) < 1e-12


@torch.no_grad()
def test_bfloat16_is_as_close_to_the_truth_as_eager():
    truth_model = architectures.build('llama')
    inputs = architectures.inputs_for(truth_model)
    truth = truth_model(**inputs)[0]
    model = copy.deepcopy(truth_model).bfloat16()
    model.set_attn_implementation('eager')
    eager_error = error(model(**inputs)[0].float(), truth)
    gb.convert(model)
    out = model(**inputs)[0]
    assert out.dtype == torch.bfloat16
    # Neither is the better one in general: both stay within rounding noise.
    assert error(out.float(), truth) < 2 * eager_error


def test_gradients_equal_the_original():
    model = architectures.build('gemma2')
    inputs = architectures.inputs_for(model)
    model(**inputs)[0].square().mean().backward()
    expected = {k: p.grad.clone() for k, p in model.named_parameters()}
    model.zero_grad()
    gb.convert(model)
    model(**inputs)[0].square().mean().backward()
    for name, parameter in model.named_parameters():
        assert error(parameter.grad, expected[name]) < 1e-4, name


def test_activation_checkpointing_gives_the_same_gradients():
    model = gb.convert(architectures.build('llama'))
    inputs = architectures.inputs_for(model)
    model.train()
    model(**inputs)[0].square().mean().backward()
    expected = model.model.layers[0].self_attn.q_proj.weight.grad.clone()
    model.zero_grad()
    model.activation_checkpointing_enable()
    model(**inputs, use_cache=False)[0].square().mean().backward()
    found = model.model.layers[0].self_attn.q_proj.weight.grad
    assert torch.equal(found, expected)


@pytest.mark.parametrize('name', ['llama', 'gpt2', 'opt', 'bert', 'diffllama'])
@torch.no_grad()
def test_attention_weights_are_returned_on_request(name):
    """GPT-2 and OPT do not tell the attention function about the request."""
    model = architectures.build(name)
    inputs = architectures.inputs_for(model)
    expected = eager(name)(**inputs, output_attentions=True).attentions
    gb.convert(model)
    found = model(**inputs, output_attentions=True).attentions
    assert len(found) == len(expected) == model.config.num_hidden_layers
    for one, other in zip(found, expected, strict=True):
        assert error(one, other) < TOLERANCE
    assert not model(**inputs).attentions


@torch.no_grad()
def test_a_four_dimensional_mask_of_the_user_is_honoured():
    model = architectures.build('llama')
    ids = architectures.inputs_for(model)['input_ids']
    keep = torch.ones(13, 13, dtype=torch.bool).tril()
    keep &= torch.rand(13, 13, generator=torch.Generator().manual_seed(0)) < 0.7
    keep |= torch.eye(13, dtype=torch.bool)
    mask = torch.zeros(2, 1, 13, 13).masked_fill(~keep, -torch.inf)
    mask = mask.clamp_min(torch.finfo(torch.float32).min)
    expected = eager('llama')(ids, attention_mask=mask)[0]
    gb.convert(model)
    for given in (mask, keep.expand(2, 1, 13, 13)):
        assert error(model(ids, attention_mask=given)[0], expected) < TOLERANCE


@torch.no_grad()
def test_right_padding_changes_nothing_for_real_tokens():
    model = gb.convert(architectures.build('llama'))
    ids = architectures.inputs_for(model)['input_ids']
    mask = torch.ones_like(ids)
    mask[1, 9:] = 0
    alone = model(ids[1:, :9])[0]
    assert error(model(ids, attention_mask=mask)[0][1:, :9], alone) < TOLERANCE


@torch.no_grad()
def test_a_model_that_shares_the_config_is_left_alone():
    config = architectures.build('llama').config
    first, second = hf.LlamaForCausalLM(config), hf.LlamaForCausalLM(config)
    assert first.config is second.config
    before = second.config._attn_implementation
    gb.convert(first)
    assert first.config is not second.config
    assert second.config._attn_implementation == before
    assert second.model.layers[0].self_attn.config is config
    gb.restore(first)
    assert first.config is config


def test_converting_twice_is_converting_once():
    model = gb.convert(architectures.build('llama'))
    slots = slots_of(model)
    assert slots_of(gb.convert(model)) == slots
    gb.restore(model)
    assert slots_of(model) == {}
    with pytest.raises(ValueError, match='Expected a converted model'):
        gb.restore(model)


def test_conversion_leaves_no_trace():
    model = architectures.build('qwen3').train()
    model.model.layers[1].eval()
    training = {name: m.training for name, m in model.named_modules()}
    state, names = model.state_dict(), set(dir(model))
    hooks = sum(len(m._forward_pre_hooks) for m in model.modules())
    random_state = torch.get_rng_state()
    gb.convert(model)
    assert {n: m.training for n, m in model.named_modules()} == training
    assert model.state_dict().keys() == state.keys()
    gb.restore(model)
    assert set(dir(model)) == names
    assert sum(len(m._forward_pre_hooks) for m in model.modules()) == hooks
    assert torch.equal(torch.get_rng_state(), random_state)


@torch.no_grad()
def test_a_copy_of_a_converted_model_is_independent(tmp_path):
    model = gb.convert(architectures.build('mistral'))
    inputs = architectures.inputs_for(model)
    reference = model(**inputs)[0]
    twin = copy.deepcopy(model)
    gb.restore(model)
    assert torch.equal(twin(**inputs)[0], reference)
    gb.restore(twin)
    twin.save_pretrained(tmp_path)
    assert 'gnnbridge' not in (tmp_path / 'config.json').read_text()


@torch.no_grad()
def test_a_converted_model_is_saved_as_the_original(tmp_path):
    model = gb.convert(architectures.build('llama'))
    inputs = architectures.inputs_for(model)
    model.save_pretrained(tmp_path)
    assert 'gnnbridge' not in (tmp_path / 'config.json').read_text()
    loaded = hf.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert error(loaded(**inputs)[0], model(**inputs)[0]) < TOLERANCE


def test_dropout_is_applied_in_training():
    model = architectures.build('gpt2', attn_pdrop=0.5).train()
    model.transformer.drop.p = 0.0
    for block in model.transformer.h:
        block.attn.resid_dropout.p = block.mlp.dropout.p = 0.0
    inputs = architectures.inputs_for(model)
    gb.convert(model)
    torch.manual_seed(0)
    one, other = model(**inputs)[0], model(**inputs)[0]
    assert not torch.equal(one, other)
    torch.manual_seed(0)
    assert torch.equal(model(**inputs)[0], one)
    model.eval()
    assert torch.equal(model(**inputs)[0], model(**inputs)[0])


@pytest.mark.parametrize(
    ('model_class', 'config'),
    [
        (
            hf.BloomForCausalLM,
            hf.BloomConfig(vocab_size=61, hidden_size=32, n_layer=2, n_head=4),
        ),
        (
            hf.MambaForCausalLM,
            hf.MambaConfig(vocab_size=61, hidden_size=32, num_hidden_layers=2),
        ),
    ],
    ids=['bloom', 'mamba'],
)
@torch.no_grad()
def test_attention_that_is_never_called_refuses(model_class, config):
    model = model_class(config).eval()
    ids = torch.arange(9).unsqueeze(0)
    before = model(ids)[0]
    with pytest.raises(NotImplementedError, match=model_class.__name__):
        gb.convert(model)
    assert torch.equal(model(ids)[0], before)
    assert model.config is config


def test_a_keyword_that_is_not_honoured_is_named():
    model = gb.convert(architectures.build('llama'))
    inputs = architectures.inputs_for(model)
    with pytest.raises(NotImplementedError) as caught:
        model(**inputs, kernel_options=torch.zeros(1))
    for part in ('kernel_options', 'LlamaForCausalLM', 'layer 0'):
        assert part in str(caught.value)


def test_a_backend_chosen_at_loading_refuses_to_run():
    gb.convert(architectures.build('llama'))
    config = copy.deepcopy(architectures.build('llama').config)
    config._attn_implementation = 'gnnbridge'
    model = hf.LlamaForCausalLM(config)
    with pytest.raises(RuntimeError, match=r'converted by gnnbridge\.convert'):
        model(torch.arange(5).unsqueeze(0))


def test_wrong_numbers_undo_the_conversion(monkeypatch):
    from gnnbridge.models import backend

    monkeypatch.setattr(backend, '_INERT', backend._INERT | {'softcap'})
    honest = backend.graph_attention

    def forgetful(*args, softcap=None, **kwargs):
        return honest(*args, **kwargs)

    monkeypatch.setattr(backend, 'graph_attention', forgetful)
    model = architectures.build('gemma2')
    with pytest.raises(RuntimeError, match='relative error'):
        gb.convert(model)
    assert model.config._attn_implementation != 'gnnbridge'
    assert slots_of(model) == {}


def test_something_else_than_a_model_is_refused():
    with pytest.raises(TypeError, match='PreTrainedModel'):
        gb.convert(torch.nn.Linear(2, 2))


@torch.no_grad()
def test_packed_sequences_do_not_see_each_other():
    """Positions that start anew pack two sequences into one, without a mask."""
    model = architectures.build('llama')
    ids = architectures.inputs_for(model)['input_ids'][:1]
    position = torch.tensor([[*range(6), *range(7)]])
    inputs = {'position_ids': position, 'use_cache': False}
    expected = eager('llama')(ids, **inputs)[0]
    gb.convert(model)
    packed = model(ids, **inputs)[0]
    alone = torch.cat([model(ids[:, :6])[0], model(ids[:, 6:])[0]], dim=1)
    assert error(packed, alone) < TOLERANCE
    assert error(packed, expected) < TOLERANCE


@pytest.mark.parametrize(
    'backend', ['dense', 'row_window', 'csr_cpu', 'scatter']
)
@pytest.mark.parametrize('name', ['llama', 'gemma2', 'gpt_oss', 'bert'])
@torch.no_grad()
def test_every_backend_gives_the_same_numbers(name, backend):
    model = architectures.build(name)
    reference = architectures.build(name)
    reference.set_attn_implementation('eager')
    inputs = architectures.inputs_for(model)
    expected = reference(**inputs)[0]
    assert gb.convert(model, backend=backend) is model
    found = model(**inputs)[0]
    # float32 rounding through three layers.
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()
    assert gb.convert(model) is model
    assert gb.convert(model, backend=backend) is model
    with pytest.raises(ValueError, match=f"backend '{backend}'"):
        gb.convert(model, backend='flex')
    with pytest.raises(ValueError, match="'backend' to be one of auto, dense"):
        gb.convert(gb.restore(model), backend='fastest')
