"""What holds with every version of transformers that the package allows.

`make versions` runs this file with the oldest, with 5.0 and with the newest.
A model converts to equal numbers or is refused; these convert with all.
"""

from __future__ import annotations

import architectures
import pytest
import torch
import transformers

import gnnbridge as gb
from gnnbridge.graph import sliding_window_graph

CORE = [
    'llama', 'mistral', 'qwen2', 'qwen2_window', 'qwen3', 'gemma2', 'gemma3',
    'gpt2', 'gpt_neox', 'opt', 'phi3', 'gpt_oss', 'mixtral', 'deepseek_v2',
]  # fmt: skip
# Older versions compute these outside of the attention interface.
OTHERS = [x for x in architectures.DECODERS if x not in CORE]
OTHERS += architectures.ENCODERS
# Logits relative to the largest, float32.
TOLERANCE = 1e-5


def build(name):
    model = architectures.build(name)
    # Other kernels drop features of some architectures in some versions.
    model.set_attn_implementation('eager')
    return model


def error(ours, theirs):
    return float((ours - theirs).abs().max() / theirs.abs().max())


def generated(model, inputs, **options):
    return model.generate(
        **inputs, max_new_tokens=6, min_new_tokens=6, do_sample=False,
        pad_token_id=0, **options,
    )  # fmt: skip


@pytest.mark.parametrize('name', CORE)
@torch.no_grad()
def test_logits_and_generation_equal_the_original(name):
    model = build(name)
    inputs = architectures.left_padded(model)
    real = inputs['attention_mask'].bool()
    expected = model(**inputs)[0][real]
    tokens = generated(model, inputs)
    gb.convert(model)
    assert error(model(**inputs)[0][real], expected) < TOLERANCE
    assert torch.equal(generated(model, inputs), tokens)
    gb.restore(model)
    assert torch.equal(model(**inputs)[0][real], expected)


@pytest.mark.parametrize('name', OTHERS)
@torch.no_grad()
def test_other_models_are_equal_or_refused(name):
    model = build(name)
    inputs = architectures.inputs_for(model)
    expected = model(**inputs)[0]
    refusal = None
    try:
        gb.convert(model)
    except (NotImplementedError, RuntimeError) as found:
        refusal = str(found)
    if refusal is None:
        assert error(model(**inputs)[0], expected) < TOLERANCE
        return
    # With the newest all of them convert.
    version = transformers.__version__.split('.')
    assert tuple(map(int, version[:2])) < (5, 23)
    assert type(model).__name__ in refusal
    assert torch.equal(model(**inputs)[0], expected)


@pytest.mark.parametrize('cache', ['dynamic', 'static'])
@pytest.mark.parametrize('name', ['llama', 'mistral', 'gpt2', 'gpt_oss'])
@torch.no_grad()
def test_rewired_generation_is_that_of_the_whole_graph(name, cache):
    """With a cache, tokens are those of a pass over the rewired sequence."""
    model = build(name)
    inputs = architectures.inputs_for(model)
    length = inputs['input_ids'].size(1) + 6
    graph = sliding_window_graph(length, 3)
    with gb.rewire(model, graph):
        tokens = generated(model, inputs, cache_implementation=cache)
        logits = model(tokens, use_cache=False)[0]
    start = inputs['input_ids'].size(1)
    assert torch.equal(logits[:, start - 1 : -1].argmax(-1), tokens[:, start:])
    plain = generated(model, inputs, cache_implementation=cache)
    assert not torch.equal(plain, tokens)


@pytest.mark.parametrize('name', ['llama', 'mistral', 'gpt2', 'gpt_neox'])
@torch.no_grad()
def test_captured_attention_is_that_of_eager(name):
    model = build(name)
    inputs = architectures.inputs_for(model)
    attentions = model(**inputs, output_attentions=True).attentions
    graphs = gb.capture(model, inputs['input_ids'])
    for graph, attention in zip(graphs, attentions, strict=True):
        alpha = graph.to_data_list()[0].edge_attr
        key, query = graph.to_data_list()[0].edge_index
        # Attention in [0, 1] by two float32 paths.
        assert (alpha.t() - attention[0][:, query, key]).abs().max() < 2e-5


def test_the_embedded_model_loads_and_profiles():
    model, tokenizer = gb.load_embedded()
    found = gb.profile(model, tokenizer, 'a b c d e f', baseline=False)
    assert found.to_dict()
