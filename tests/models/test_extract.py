"""Attention layers of trained models as modules of their own."""

from __future__ import annotations

import copy

import architectures
import pytest
import torch

import gnnbridge as gb
from gnnbridge.graph import causal_graph, sliding_window_graph
from gnnbridge.models.zoo.tiny import build
from gnnbridge.nn import ProjectedAttention

LENGTH = 13
# Relative to the largest number, float32.
TOLERANCE = 1e-5


def error(ours, theirs):
    return float(((ours - theirs).abs().max() / theirs.abs().max()).detach())


def module_and_states(model, name, edge_index=None):
    """States that enter an attention module, and what it makes of them."""
    module, seen = model.get_submodule(name), {}
    handles = [
        module.register_forward_pre_hook(
            lambda m, a, k: seen.update(x=(*a, k.get('hidden_states'))[0]),
            with_kwargs=True,
        ),
        module.register_forward_hook(
            lambda m, a, out: seen.update(out=out[0])
        ),
    ]  # fmt: skip
    ids = torch.arange(2, 2 + LENGTH).unsqueeze(0)
    with torch.no_grad():
        if edge_index is None:
            model(ids)
        else:
            with gb.rewire(model, edge_index):
                model(ids)
    for handle in handles:
        handle.remove()
    return seen['x'][0], seen['out'][0]


@pytest.mark.parametrize(
    ('kind', 'name'),
    [
        ('llama', 'model.layers.1.self_attn'),
        ('qwen2', 'model.layers.1.self_attn'),
        ('opt', 'model.decoder.layers.1.self_attn'),
        ('whisper', 'model.decoder.layers.1.self_attn'),
        ('granite', 'model.layers.1.self_attn'),
        ('mistral', 'model.layers.1.self_attn'),
        ('gpt_neo', 'transformer.h.0.attn.attention'),
    ],
)
def test_it_gives_what_the_layer_gives_on_any_graph(kind, name):
    model = build(kind)
    if kind == 'whisper':
        model.config.use_cache = False
    attention = gb.extract_attention(model, 0 if kind == 'gpt_neo' else 1)
    assert isinstance(attention, ProjectedAttention)
    # Layers with a window of their own let no token see a far sink.
    sinks = 0 if kind in ('mistral', 'gpt_neo') else 1
    for window in (2, 3):
        graph = sliding_window_graph(LENGTH, window, sinks=sinks)
        edge_index = graph.edge_index
        x, expected = module_and_states(model, name, edge_index)
        with torch.no_grad():
            ours = attention(x, edge_index)
        assert error(ours, expected) < TOLERANCE


def test_it_is_independent_of_the_model():
    model = architectures.build('llama')
    before = copy.deepcopy(model.state_dict())
    attention = gb.extract_attention(model, -1)
    names = {name for name, _ in attention.named_parameters()}
    assert names == {
        f'lin_{x}.weight' for x in ('query', 'key', 'value', 'out')
    }
    x = torch.randn(LENGTH, 32)
    optimizer = torch.optim.SGD(attention.parameters(), lr=0.1)
    first = attention(x, causal_graph(LENGTH).edge_index)
    first.square().mean().backward()
    optimizer.step()
    again = attention(x, causal_graph(LENGTH).edge_index)
    assert error(again, first) > 1e-3
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    saved = copy.deepcopy(attention.state_dict())
    other = ProjectedAttention(32, 4, kv_heads=2, rope_theta=10000.0)
    for linear in ('query', 'key', 'value', 'out'):
        getattr(other, f'lin_{linear}').bias = None
    other.load_state_dict(saved)
    assert error(other(x, causal_graph(LENGTH).edge_index), again) < TOLERANCE


@pytest.mark.parametrize(
    ('kind', 'why'),
    [
        ('gpt2', 'no four plain projections'),
        ('qwen3_next', 'no four plain projections'),
        ('qwen3', 'relative error'),  # norms of queries and keys
        ('gemma2', 'relative error'),  # a softcap
        ('gpt_oss', 'relative error'),  # sinks
    ],
)
def test_layers_that_do_more_are_refused(kind, why):
    model = build(kind)
    with pytest.raises(NotImplementedError, match=why):
        gb.extract_attention(model, -1)
    with pytest.raises(ValueError, match='layers'):
        gb.extract_attention(model, 99)
