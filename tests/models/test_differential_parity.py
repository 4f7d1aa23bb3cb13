"""Differential attention and its history against DiffLlama of transformers."""

from __future__ import annotations

import copy

import architectures
import pytest
import torch
import transformers

from gnnbridge.graph import causal_graph, sliding_window_graph
from gnnbridge.models.differential import (
    diffllama_attentions,
    from_diffllama,
)
from gnnbridge.models.differential_llama import add_history
from gnnbridge.nn import HistoryState, plan_attention

# Relative to the largest number, float32.
TOLERANCE = 1e-5
GRAPHS = {
    'causal': lambda n: causal_graph(n).edge_index,
    'window': lambda n: sliding_window_graph(n, 4, sinks=1).edge_index,
}
WEIGHTS = {
    'lin_query': 'q_proj',
    'lin_key': 'k_proj',
    'lin_value': 'v_proj',
    'lin_out': 'o_proj',
}
LAMBDAS = ('lambda_q1', 'lambda_k1', 'lambda_q2', 'lambda_k2')


def build(heads=8, kv_heads=4, **changes):
    model = architectures.build(
        'diffllama',
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        hidden_size=40,
        head_dim=6,
        **changes,
    )
    model.set_attn_implementation('eager')
    generator = torch.Generator().manual_seed(3)
    for module in diffllama_attentions(model):
        for name in LAMBDAS:
            vector = torch.randn(6, generator=generator) * 0.3
            getattr(module, name).data.copy_(vector)
        # The first row is 1 - lambda times a value before the norm: a small
        # difference of rounded numbers must not decide the comparison.
        assert abs(1 - factor(module)) > 0.3
    return model


def factor(module):
    q1, k1, q2, k2 = (
        getattr(module, name).detach().double() for name in LAMBDAS
    )
    return float((q1 @ k1).exp() - (q2 @ k2).exp() + module.lambda_init)


def error(ours, theirs):
    return float(((ours - theirs).abs().max() / theirs.abs().max()).detach())


def additive(edge_index, length):
    mask = torch.full((1, 1, length, length), torch.finfo(torch.float32).min)
    mask[0, 0, edge_index[1], edge_index[0]] = 0.0
    return mask


def theirs(model, module, x, edge_index):
    """The module's output, and queries, keys and values that it projects."""
    seen = {}

    def keep(name):
        def hook(_, __, out):
            out.retain_grad()
            seen[name] = out

        return hook

    handles = [
        module.get_submodule(name).register_forward_hook(keep(name))
        for name in ('q_proj', 'k_proj', 'v_proj')
    ]
    position = torch.arange(x.size(0)).unsqueeze(0)
    rotation = model.model.rotary_emb(x.unsqueeze(0), position)
    out, _ = module(x.unsqueeze(0), rotation, additive(edge_index, x.size(0)))
    for handle in handles:
        handle.remove()
    return out[0], seen


@pytest.mark.parametrize('graph', GRAPHS)
@pytest.mark.parametrize('layer', [0, 2])
@pytest.mark.parametrize('length', [1, 7, 13, 129])
@pytest.mark.parametrize(('heads', 'kv_heads'), [(8, 4), (2, 2), (6, 2)])
def test_outputs_and_gradients_equal_the_module(
    heads, kv_heads, length, layer, graph
):
    model = build(heads, kv_heads, attention_bias=layer == 2)
    module = diffllama_attentions(model)[layer]
    attention = from_diffllama(model, layer)
    edge_index = GRAPHS[graph](length)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(length, 40, generator=generator)
    cotangent = torch.randn(length, 40, generator=generator)

    expected, seen = theirs(model, module, x, edge_index)
    expected.backward(cotangent)
    projected = attention.project(x)
    for part in projected:
        part.retain_grad()
    out = attention.attend(*projected, edge_index)
    out.backward(cotangent)
    assert error(out, expected) < TOLERANCE
    assert error(attention(x, edge_index), expected) < TOLERANCE

    value, kv = seen['v_proj'].grad[0], kv_heads // 2
    value = value.view(length, 2, kv, 6).transpose(1, 2).flatten(2)
    assert error(projected[2].grad, value) < TOLERANCE
    pairs = [
        (getattr(attention.conv, name).grad, getattr(module, name).grad)
        for name in LAMBDAS
    ]
    for ours, other in WEIGHTS.items():
        weight = getattr(module, other).weight.grad
        if other == 'v_proj':
            weight = weight.view(2, kv, 6, 40).transpose(0, 1).reshape(-1, 40)
        pairs.append((getattr(attention, ours).weight.grad, weight))
    if length == 1:
        # The maps of a single key are constant: all gradients in scores
        # vanish but for rounding.
        pairs = pairs[-2:]
    for ours, other in pairs:
        assert error(ours, other) < TOLERANCE


def test_gradients_of_queries_and_keys_equal_those_of_the_module():
    """After rotation, as the attention function gets them."""
    model, length = build(), 13
    module, given = diffllama_attentions(model)[1], []
    attention = from_diffllama(model, 1)
    original = transformers.models.diffllama.modeling_diffllama
    rotate = original.apply_rotary_pos_emb

    def kept(*args, **kwargs):
        given.extend(rotate(*args, **kwargs))
        for x in given:
            x.retain_grad()
        return given[0], given[1]

    x = torch.randn(length, 40, generator=torch.Generator().manual_seed(0))
    edge_index = GRAPHS['window'](length)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(original, 'apply_rotary_pos_emb', kept)
        expected, _ = theirs(model, module, x, edge_index)
    expected.square().sum().backward()
    query, key, value = attention.project(x)
    query.retain_grad()
    key.retain_grad()
    attention.attend(query, key, value, edge_index).square().sum().backward()
    for ours, other in ((query, given[0]), (key, given[1])):
        assert error(ours, other[0].transpose(0, 1)) < TOLERANCE
        assert error(ours.grad, other.grad[0].transpose(0, 1)) < TOLERANCE


def test_layers_that_cannot_stand_alone_are_refused():
    model = build(
        rope_parameters={
            'rope_type': 'linear', 'rope_theta': 1e4, 'factor': 2.0
        }
    )  # fmt: skip
    with pytest.raises(NotImplementedError, match='default rotary'):
        from_diffllama(model, 0)
    with pytest.raises(ValueError, match='one of the 3 layers'):
        from_diffllama(build(), 3)
    llama = architectures.build('llama')
    with pytest.raises(ValueError, match='DiffLlama'):
        from_diffllama(llama, 0)
    with pytest.raises(ValueError, match='DiffLlama'):
        add_history(llama, 'decay')


@pytest.mark.parametrize('implementation', ['eager', 'sdpa'])
@pytest.mark.parametrize('history', [None, 'decay', 'runway', 'layer'])
@torch.no_grad()
def test_a_model_without_a_share_of_history_is_the_model(
    history, implementation
):
    model = build()
    model.set_attn_implementation(implementation)
    inputs = architectures.left_padded(model)
    real = inputs['attention_mask'].bool()
    expected, tokens = model(**inputs)[0], generated(model, inputs)
    before = sum(x.numel() for x in model.parameters())
    kwargs = {} if history is None else {'rho': 0.0}
    assert add_history(model, history, **kwargs) is model
    assert error(model(**inputs)[0][real], expected[real]) < TOLERANCE
    assert torch.equal(generated(model, inputs), tokens)
    # Four differential heads in each of three layers.
    added = {None: 0, 'decay': 24, 'runway': 12, 'layer': 12}[history]
    assert sum(x.numel() for x in model.parameters()) == before + added


def generated(model, inputs, **options):
    return model.generate(
        **inputs, max_new_tokens=6, min_new_tokens=6, do_sample=False,
        pad_token_id=0, **options,
    )  # fmt: skip


@pytest.mark.parametrize('of', ['second', 'first'])
@pytest.mark.parametrize('history', ['decay', 'runway', 'layer'])
@torch.no_grad()
def test_a_cache_changes_nothing(history, of):
    model = add_history(build(), history, of=of, rho=0.5)
    inputs = architectures.left_padded(model)
    real = inputs['attention_mask'].bool()
    tokens = generated(model, inputs)
    assert torch.equal(generated(model, inputs, use_cache=False), tokens)

    full = model(**inputs, use_cache=False)[0]
    ids, mask = inputs['input_ids'], inputs['attention_mask']
    cache, start, parts = transformers.DynamicCache(), 0, []
    for stop in (6, 7, 10, ids.size(1)):
        out = model(
            input_ids=ids[:, start:stop],
            attention_mask=mask[:, :stop],
            past_key_values=cache,
        )
        parts.append(out.logits)
        start = stop
    assert error(torch.cat(parts, dim=1)[real], full[real]) < TOLERANCE
    plain = build()(**inputs)[0]
    assert error(full[real], plain[real]) > 0.01


@torch.no_grad()
def test_a_cache_that_does_more_than_grow_is_refused():
    model = add_history(build(), 'decay')
    inputs = architectures.inputs_for(model)
    with pytest.raises(NotImplementedError, match='beam search'):
        generated(model, inputs, num_beams=3)
    with pytest.raises(NotImplementedError, match='static'):
        generated(model, inputs, cache_implementation='static')
    ids = inputs['input_ids']
    cache = transformers.DynamicCache()
    model(input_ids=ids, past_key_values=cache)
    cache.reorder_cache(torch.tensor([1, 0]))
    with pytest.raises(NotImplementedError, match='only grown'):
        model(input_ids=ids[:, :1], past_key_values=cache)


@pytest.mark.parametrize('history', ['decay', 'runway', 'layer'])
def test_a_model_with_history_trains_as_others_do(history):
    model = add_history(build(), history, rho=0.2).train()
    inputs = architectures.inputs_for(model)
    loss = model(**inputs, labels=inputs['input_ids']).loss
    loss.backward()
    shares = [
        parameter.grad
        for name, parameter in model.named_parameters()
        if 'history' in name
    ]
    # The lowest layer has no layer below it to remember.
    used = [bool(grad.any()) for grad in shares]
    assert used == [history != 'layer' or n > 0 for n in range(len(shares))]
    before = [x.grad for x in model.parameters()]
    model.zero_grad()
    model.activation_checkpointing_enable()
    model(**inputs, labels=inputs['input_ids'], use_cache=False).loss.backward()
    for parameter, grad in zip(model.parameters(), before, strict=True):
        assert torch.equal(parameter.grad, grad)
    model.activation_checkpointing_disable()
    twin = add_history(build(initializer_range=0.5), history)
    twin.load_state_dict(model.state_dict())
    other = twin.train()(**inputs, labels=inputs['input_ids']).loss
    assert torch.equal(other, loss)
    copied = copy.deepcopy(model)
    again = copied(**inputs, labels=inputs['input_ids']).loss
    assert torch.equal(again, loss)


@torch.no_grad()
def test_a_layer_decodes_by_hand():
    """Projections, keys and values side by side, and a state: no model."""
    attention = from_diffllama(build(), 1, history='runway')
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(9, 40, generator=generator)
    expected = attention(x, 'causal')
    state, keys, values = HistoryState(), [], []
    for i in range(9):
        position = torch.tensor([i])
        query, key, value = attention.project(x[i : i + 1], position)
        keys.append(key)
        values.append(value)
        out = attention.attend(
            query, torch.cat(keys), torch.cat(values),
            plan_attention('causal', (i + 1, 1)), state=state,
        )  # fmt: skip
        assert error(out[0], expected[i]) < TOLERANCE
