"""Remedies on top of each other, on other architectures and in other modes."""

from __future__ import annotations

import itertools

import architectures
import pytest
import torch
import transformers
from remedied import CASES, IN_ATTENTION, gradients, relative, tokens
from remedied import with_remedy as changed

import gnnbridge as gb
import gnnbridge.remedies as R
import gnnbridge.transforms as T
from gnnbridge.models.convert import is_converted

TOGETHER = [
    'sink_logit', 'window_sinks', 'gated', 'runway', 'temperature', 'pause',
]  # fmt: skip


pytestmark = pytest.mark.usefixtures('quiet_transformers')


def stepwise(model, ids):
    """Logits by a KV cache that is filled token by token."""
    with torch.no_grad():
        out = model(ids[:, :4], use_cache=True)
        parts, cache = [out.logits], out.past_key_values
        for place in range(4, ids.size(1)):
            step = model(ids[:, place : place + 1], past_key_values=cache)
            parts.append(step.logits)
    return torch.cat(parts, dim=1)


def test_remedies_of_different_parts_add_up(tmp_path):
    model, ids = architectures.build('llama'), tokens()
    for name in TOGETHER:
        CASES[name].apply(model)
    assert R.applied(model) == [CASES[name] for name in TOGETHER]
    full = model(ids).logits
    assert relative(stepwise(model, ids), full) < 3e-6
    # The order in which they came does not matter.
    other = architectures.build('llama')
    for name in reversed(TOGETHER):
        CASES[name].apply(other)
    assert relative(other(ids).logits, full) < 1e-6
    model.save_pretrained(tmp_path)
    loaded = R.load(tmp_path)
    assert R.applied(loaded) == R.applied(model)
    assert relative(loaded(ids).logits, full) < 1e-6
    for name in TOGETHER:
        CASES[name].remove(other)
    expected = architectures.build('llama')(ids).logits
    assert torch.equal(other(ids).logits, expected)


@pytest.mark.parametrize('order', list(itertools.permutations([0, 1])))
def test_a_sigmoid_has_no_runway(order):
    pair = [CASES['sigmoid'], CASES['runway']]
    model = pair[order[0]].apply(architectures.build('llama'))
    with pytest.raises(NotImplementedError, match='Expected the softmax'):
        pair[order[1]].apply(model)
    assert R.applied(model) == [pair[order[0]]]
    pair[order[0]].remove(model)
    assert not is_converted(model)


def test_freezing_keeps_what_other_remedies_added():
    model = CASES['gated'].apply(architectures.build('llama'))
    sink = R.SinkLogit(frozen=True)
    sink.apply(model)
    learned = {n for n, p in model.named_parameters() if p.requires_grad}
    assert learned == {
        *sink.parameters(model), *CASES['gated'].parameters(model),
    }  # fmt: skip
    CASES['gated'].remove(model)
    learned = {n for n, p in model.named_parameters() if p.requires_grad}
    assert learned == set(sink.parameters(model))
    sink.remove(model)
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize(
    'architecture', ['gpt_neox', 'gemma2', 'mistral', 'qwen3']
)
@pytest.mark.parametrize('name', IN_ATTENTION)
def test_other_architectures(name, architecture, tmp_path):
    model, ids = changed(name, architecture), tokens(2, 9)
    full = model(ids).logits
    if name == 'runway' and architecture in ('gemma2', 'mistral'):
        with pytest.raises(NotImplementedError, match='keeps all keys'):
            stepwise(model, ids)
    else:
        # float32, whose sums have another order on every kind of processor.
        assert relative(stepwise(model, ids), full) < 1e-5
    model.save_pretrained(tmp_path)
    assert relative(R.load(tmp_path)(ids).logits, full) < 1e-6


@pytest.mark.parametrize(
    'name', [n for n in IN_ATTENTION if CASES[n].part == 'normalisation']
)
def test_models_with_sinks_need_no_other(name):
    model, ids = architectures.build('gpt_oss'), tokens()
    expected = model(ids).logits
    with pytest.raises(NotImplementedError, match='sink logits of its own'):
        CASES[name].apply(model)
    assert torch.equal(model(ids).logits, expected)


def test_unconvertible_models_are_refused():
    config = transformers.BloomConfig(
        vocab_size=61, hidden_size=32, n_layer=2, n_head=4
    )
    with pytest.raises(NotImplementedError, match='attention interface'):
        R.SinkLogit().build(config)


@pytest.mark.parametrize('name', IN_ATTENTION)
def test_beams(name):
    model, ids = changed(name, 'llama'), tokens(2, 6)
    options = {'num_beams': 3, 'max_new_tokens': 6, 'do_sample': False}
    expected = model.generate(ids, use_cache=False, **options)
    if name == 'runway':
        with pytest.raises(NotImplementedError, match='only grown'):
            model.generate(ids, **options)
        return
    assert torch.equal(model.generate(ids, **options), expected)


@pytest.mark.parametrize('name', IN_ATTENTION)
def test_layers_are_recomputed_in_the_backward_pass(name):
    model, ids = changed(name, 'llama'), tokens()
    model.train()
    model(ids, labels=ids).loss.backward()
    expected = gradients(model)
    model.zero_grad()
    for module in model.modules():
        if hasattr(module, 'gradient_checkpointing'):
            module.gradient_checkpointing = True
            module._gradient_checkpointing_func = checkpointed
    model(ids, labels=ids, use_cache=False).loss.backward()
    found = gradients(model)
    assert set(found) == set(expected)
    for key, value in expected.items():
        if value.abs().max() > 1e-4:
            assert relative(found[key], value) < 1e-5, key


def checkpointed(function, *args, **kwargs):
    return torch.utils.checkpoint.checkpoint(
        function, *args, use_reentrant=False, **kwargs
    )


@pytest.mark.parametrize('name', IN_ATTENTION)
def test_layers_of_changed_models_are_converted(name):
    model, ids = changed(name, 'llama'), tokens(1)
    layer = gb.convert_layer(model, 1)
    states = model(ids, output_hidden_states=True).hidden_states
    graph = gb.capture(model, ids)[1]
    out = layer(states[1][0], graph.edge_index)
    assert relative(out, states[2][0]) < 1e-6


@pytest.mark.parametrize('name', IN_ATTENTION)
def test_long_sequences_are_captured_block_by_block(name):
    model, ids = changed(name, 'llama'), tokens(1, 300)
    graph = gb.capture(model, ids)[1]
    weights = model(ids, output_attentions=True).attentions[1][0]
    dense = torch.zeros_like(weights[0])
    dense[graph.edge_index[1], graph.edge_index[0]] = graph.edge_weight
    assert relative(dense, weights.mean(0)) < 3e-6


@pytest.mark.parametrize('name', IN_ATTENTION)
@pytest.mark.parametrize('what', [T.AttentionSinks(4, 1), T.TopK(2)], ids=repr)
def test_rewired_inside(name, what):
    model, ids = changed(name, 'llama'), tokens()
    with gb.rewire(model, what, heads=[1, 2]):
        full = model(ids).logits
        assert relative(stepwise(model, ids), full) < 5e-6
    assert relative(full, model(ids).logits) > 1e-3


@pytest.mark.parametrize('name', IN_ATTENTION)
def test_kernels_agree(name):
    ids, models = tokens(), []
    for backend in ('auto', 'scatter'):
        model = gb.convert(architectures.build('llama'), backend=backend)
        models.append(CASES[name].apply(model))
    one, other = (model(ids).logits for model in models)
    assert relative(one, other) < 3e-6


@pytest.mark.parametrize('name', IN_ATTENTION)
def test_half_precision(name):
    model, ids = changed(name, 'llama'), tokens()
    expected = model(ids).logits
    out = model.to(torch.bfloat16)(ids).logits
    assert out.dtype == torch.bfloat16
    assert relative(out.float(), expected) < 0.1
