"""Sizes of values and keys on captured graphs, from hooks placed by hand."""

from __future__ import annotations

import architectures
import pytest
import torch
from torch.nn import functional as F
from torch_geometric.data import Batch
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

import gnnbridge as gb
from gnnbridge.models.zoo.tiny import build as build_tiny

NAMES = ('value_norm', 'key_norm', 'query_key_cosine')
# The same few sums of float32 in another order.
TOLERANCE = {'rtol': 1e-5, 'atol': 1e-5}


def outputs_of(model, modules, ids):
    """What some modules return in a plain run of the model."""
    seen = {}

    def keep(name):
        def hook(module, args, output):
            seen[name] = output

        return hook

    handles = [
        module.register_forward_hook(keep(name))
        for name, module in modules.items()
    ]
    with torch.no_grad():
        model(ids)
    for handle in handles:
        handle.remove()
    return seen


def split(x, heads):
    """``[1, N, H * D]`` as ``[H, N, D]``."""
    return x[0].unflatten(-1, (heads, -1)).transpose(0, 1)


def expected_of(query, key, value):
    """From vectors ``[H, N, D]`` of every query head, head by head."""
    cosine = torch.stack(
        [
            F.cosine_similarity(q, k[:1], dim=-1)
            for q, k in zip(query, key, strict=True)
        ]
    )
    return {
        'value_norm': value.square().sum(-1).sqrt().T,
        'key_norm': key.square().sum(-1).sqrt().T,
        'query_key_cosine': cosine.T,
    }


def check(graph, expected):
    for name in NAMES:
        assert graph[name].dtype == torch.float32
        torch.testing.assert_close(graph[name], expected[name], **TOLERANCE)


def test_llama_repeats_the_keys_that_heads_share():
    model = architectures.build('llama')
    ids = torch.arange(2, 13).unsqueeze(0)
    attention = model.model.layers[1].self_attn
    seen = outputs_of(
        model,
        {
            'query': attention.q_proj,
            'key': attention.k_proj,
            'value': attention.v_proj,
            'rotary': model.model.rotary_emb,
        },
        ids,
    )
    query, key, value = (
        split(seen[name], heads)
        for name, heads in (('query', 4), ('key', 2), ('value', 2))
    )
    query, key = apply_rotary_pos_emb(
        query.unsqueeze(0), key.unsqueeze(0), *seen['rotary']
    )
    # Heads 0 and 1 read the first key and value, heads 2 and 3 the second.
    shared = [0, 0, 1, 1]
    expected = expected_of(query[0], key[0][shared], value[shared])
    graph = gb.capture(model, ids, values=True)[1]
    check(graph, expected)
    # A rotation keeps norms.
    torch.testing.assert_close(
        graph.key_norm, split(seen['key'], 2).norm(dim=-1)[shared].T
    )
    chosen = gb.capture(model, ids, values=True, heads=[3, 0], layers=[1])[0]
    check(chosen, {name: expected[name][:, [3, 0]] for name in NAMES})


def test_gpt2_splits_one_projection():
    model = architectures.build('gpt2')
    ids = torch.arange(2, 11).unsqueeze(0)
    attention = model.transformer.h[2].attn
    seen = outputs_of(model, {'all': attention.c_attn}, ids)
    query, key, value = (
        split(part, 4) for part in seen['all'].split(32, dim=-1)
    )
    expected = expected_of(query, key, value)
    for prepare in (lambda model: model, gb.convert):
        check(gb.capture(prepare(model), ids, values=True)[2], expected)


@pytest.mark.parametrize('name', ['llama', 'gpt2', 'gpt_oss', 'bert', 'gemma2'])
def test_padding_is_left_out_and_the_first_key_is_the_first_real_one(name):
    model = architectures.build(name)
    if name == 'bert':  # padded on the right, where its positions start
        ids = architectures.inputs_for(model)['input_ids']
        mask = torch.ones_like(ids)
        mask[1, 9:] = 0
        real = ids[1, :9]
    else:
        inputs = architectures.left_padded(model)
        ids, mask = inputs['input_ids'], inputs['attention_mask']
        real = ids[1, 4:]
    batches = gb.capture(model, ids, attention_mask=mask, values=True)
    alone = gb.capture(model, real, values=True)
    for batch, other in zip(batches, alone, strict=True):
        assert isinstance(batch, Batch)
        assert batch.value_norm.shape == (22, 4)
        graph = batch.to_data_list()[1]
        if name == 'gpt2':  # its positions count the padding
            assert graph.value_norm.shape == other.value_norm.shape
            continue
        check(graph, other)


def test_they_come_only_when_asked_for():
    model = architectures.build('llama')
    ids = torch.arange(2, 9)
    plain = gb.capture(model, ids)[0]
    assert not set(NAMES) & set(plain.keys())
    asked = gb.capture(model, ids, values=True, top_k=2, device='cpu')[0]
    assert {*NAMES, 'discarded_mass'} <= set(asked.keys())
    assert asked.key_norm.is_contiguous()


def test_they_are_handed_over_layer_by_layer():
    model = architectures.build('llama')
    ids, seen = torch.arange(2, 9), []
    gb.capture(model, ids, values=True, on_layer=seen.append)
    for one, other in zip(
        seen, gb.capture(model, ids, values=True), strict=True
    ):
        check(one, other)


def test_half_precision_is_upcast():
    model = architectures.build('llama')
    ids = torch.arange(2, 9)
    expected = gb.capture(model, ids, values=True)[0]
    found = gb.capture(model.bfloat16(), ids, values=True)[0]
    assert found.value_norm.dtype == torch.float32
    # Three digits of bfloat16.
    torch.testing.assert_close(
        found.value_norm, expected.value_norm, rtol=3e-2, atol=3e-2
    )


def test_masked_models_do_not_show_them():
    model = gb.convert(build_tiny('bloom'), mode='mask')
    graph = gb.capture(model, torch.arange(3, 12), values=True)[0]
    assert not set(NAMES) & set(graph.keys())
    assert 'x' in graph
