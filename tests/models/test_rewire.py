"""Rewired models: generation, forward passes and masks agree."""

from __future__ import annotations

from typing import Any

import architectures
import pytest
import torch
import torch_geometric.transforms as T
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.transforms import BaseTransform

import gnnbridge as gb
from gnnbridge.graph import (
    block_graph,
    causal_graph,
    complete_graph,
    sliding_window_graph,
)
from gnnbridge.models.slots import slots_of

# float32 on both sides, other order of sums; measured at most 8e-7.
TOLERANCE = 1e-5


def keep(query: Tensor, key: Tensor) -> Tensor:
    """The rule of the tests: no key at distance 2, 5, 8, ..."""
    return (key <= query) & ((query - key) % 3 != 2)


def grid(num_tokens: int) -> tuple[Tensor, Tensor]:
    tokens = torch.arange(num_tokens)
    return tokens.unsqueeze(1), tokens.unsqueeze(0)


def select(data: Data, kept: Tensor) -> Data:
    out = data.clone()
    for name in ('edge_attr', 'edge_weight'):
        out[name] = data[name][kept]
    out.edge_index = data.edge_index[:, kept]
    return out


def by_rule(layer: int, data: Data) -> Data:
    return select(data, keep(data.edge_index[1], data.edge_index[0]))


class RuleTransform(BaseTransform):
    def forward(self, data: Data) -> Data:
        return by_rule(0, data)


def rule_graph(num_tokens: int) -> Tensor:
    return keep(*grid(num_tokens)).nonzero().t().flip(0).contiguous()


def masked_eager(
    name: str, ids: Tensor, padding: Tensor, allowed: Tensor
) -> Tensor:
    """Logits of the original under the same 4-D masks, in one forward pass."""
    model = architectures.build(name)
    model.set_attn_implementation('eager')
    query, key = grid(ids.size(1))
    allowed = allowed & (key <= query) & padding[:, None, :].bool()

    def additive(mask: Tensor) -> Tensor:
        low = torch.finfo(torch.float32).min
        return torch.zeros(mask.shape).masked_fill(~mask, low).unsqueeze(1)

    mask: Any = additive(allowed)
    window = getattr(model.config, 'sliding_window', None)
    if window is not None:
        narrow = additive(allowed & (query - key < window))
        kinds = set(getattr(model.config, 'layer_types', None) or [])
        both = {'full_attention': mask, 'sliding_attention': narrow}
        mask = both if len(kinds) > 1 else narrow
        if kinds == {'full_attention'}:
            mask = both['full_attention']
    position = (padding.cumsum(1) - 1).clamp_min(0)
    with torch.no_grad():
        return model(
            input_ids=ids, attention_mask=mask, position_ids=position
        ).logits


def generate(model: Any, inputs: dict[str, Any], **options: Any) -> Any:
    return model.generate(
        **inputs,
        max_new_tokens=6,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
        **options,
    )


CACHES = [{}, {'cache_implementation': 'static'}]


@pytest.mark.parametrize('options', CACHES, ids=['dynamic', 'static'])
@pytest.mark.parametrize('name', list(architectures.DECODERS))
def test_rewired_generation_equals_one_forward_with_the_same_mask(
    name, options
):
    model = architectures.build(name)
    inputs = architectures.left_padded(model)
    with gb.rewire(model, by_rule):
        out = generate(model, inputs, **options)
    new = out.sequences.size(1) - 13
    padding = torch.cat(
        [inputs['attention_mask'], torch.ones(2, new, dtype=torch.long)], 1
    )
    allowed = keep(*grid(13 + new))
    expected = masked_eager(name, out.sequences, padding, allowed)
    found = torch.stack(out.logits, 1)
    expected = expected[:, 12:-1]
    assert (found - expected).abs().max() < TOLERANCE * expected.abs().max()


@pytest.mark.parametrize('options', CACHES, ids=['dynamic', 'static'])
@pytest.mark.parametrize('name', ['llama', 'gpt2', 'diffllama'])
@pytest.mark.parametrize(
    'what',
    [
        rule_graph(30),
        Data(edge_index=rule_graph(30), num_nodes=30),
        RuleTransform(),
        T.Compose([RuleTransform()]),
    ],
    ids=['edge_index', 'data', 'transform', 'compose'],
)
def test_all_forms_of_a_rewiring_agree(name, what, options):
    model = architectures.build(name)
    inputs = architectures.left_padded(model)
    with gb.rewire(model, by_rule):
        expected = generate(model, inputs, **options)
    with gb.rewire(model, what):
        found = generate(model, inputs, **options)
    assert torch.equal(found.sequences, expected.sequences)
    assert torch.equal(torch.stack(found.logits), torch.stack(expected.logits))


def test_tokens_beyond_a_given_graph_keep_the_models_edges():
    model = architectures.build('llama')
    inputs = architectures.left_padded(model)
    ids, padding = inputs['input_ids'], inputs['attention_mask']
    with gb.rewire(model, rule_graph(6)), torch.no_grad():
        found = model(**inputs).logits
    # The graph counts real tokens; the second sequence has four of padding.
    query, _ = grid(13)
    allowed = torch.stack(
        [
            keep(*grid(13)) | (query >= 6),
            keep(*grid(13)) | (query >= 10),
        ]
    )
    expected = masked_eager('llama', ids, padding, allowed)
    real = padding.bool()
    found, expected = found[real], expected[real]
    assert (found - expected).abs().max() < TOLERANCE * expected.abs().max()


@torch.no_grad()
def test_the_same_graph_changes_nothing():
    model = gb.convert(architectures.build('llama'))
    inputs = architectures.left_padded(model)
    before = model(**inputs)[0]
    for what in (causal_graph(13), lambda layer, data: data):
        with gb.rewire(model, what) as rewired:
            assert rewired is model
            # Another kernel over the same pairs: float32 rounding.
            found = model(**inputs)[0]
            torch.testing.assert_close(found, before, rtol=1e-4, atol=1e-4)
    assert torch.equal(model(**inputs)[0], before)


@torch.no_grad()
def test_the_function_sees_the_attention_of_every_layer():
    model = architectures.build('llama')
    ids = torch.arange(2, 12)
    seen = {}

    def look(layer, data):
        seen[layer] = data
        return data

    with gb.rewire(model, look):
        model(ids.unsqueeze(0))
    graphs = gb.capture(model, ids)
    assert list(seen) == [0, 1, 2]
    for graph, data in zip(graphs, seen.values(), strict=True):
        assert torch.equal(data.edge_index, graph.edge_index)
        torch.testing.assert_close(data.edge_attr, graph.edge_attr)
        torch.testing.assert_close(data.edge_weight, graph.edge_weight)
        assert torch.equal(data.position, graph.position)
        assert data.num_heads == 4


@torch.no_grad()
def test_the_function_sees_the_whole_graph_in_cached_generation():
    model = architectures.build('llama')
    inputs = architectures.left_padded(model)
    edges = []

    def look(layer, data):
        edges.append((data.num_nodes, data.num_edges))
        return data

    with gb.rewire(model, look, layers=[1]):
        model.generate(**inputs, max_new_tokens=3, do_sample=False)
    sizes = [(n, n * (n + 1) // 2) for n in (13, 9, 14, 10, 15, 11)]
    assert edges == sizes


@torch.no_grad()
def test_layers_and_heads_are_chosen():
    model = gb.convert(architectures.build('llama'))
    ids = torch.arange(2, 15).unsqueeze(0)
    window = sliding_window_graph(13, 3)
    plain = gb.capture(model, ids)
    with gb.rewire(model, window, layers=[1], heads=[0, -1]):
        graphs = gb.capture(model, ids)
    distance = graphs[1].edge_index[1] - graphs[1].edge_index[0]
    cut = graphs[1].edge_attr[distance >= 3]
    assert torch.equal(graphs[0].edge_attr, plain[0].edge_attr)
    assert (cut[:, [0, 3]] == 0).all()
    assert torch.equal(cut[:, 1:3], plain[1].edge_attr[distance >= 3][:, 1:3])
    near = graphs[1].edge_attr[distance < 3][:, 0]
    rows = graphs[1].edge_index[1][distance < 3]
    total = torch.zeros(13).index_add(0, rows, near)
    torch.testing.assert_close(total, torch.ones(13))


@torch.no_grad()
def test_contexts_nest_and_end_after_an_error():
    model = architectures.build('llama')
    ids = torch.arange(2, 15).unsqueeze(0)
    original = model(ids)[0]
    outer, inner = sliding_window_graph(13, 4), sliding_window_graph(13, 2)
    with gb.rewire(model, outer):
        wide = model(ids)[0]
        with gb.rewire(model, inner):
            narrow = model(ids)[0]
        assert torch.equal(model(ids)[0], wide)
    assert not torch.equal(wide, narrow)

    def fail() -> None:
        with gb.rewire(model, outer):
            raise KeyError('stop')

    with pytest.raises(KeyError, match='stop'):
        fail()
    assert slots_of(model) == {}
    assert torch.equal(model(ids)[0], original)


def test_training_in_a_rewired_model():
    model = architectures.build('llama').train()
    ids = torch.arange(2, 15).unsqueeze(0)
    with gb.rewire(model, sliding_window_graph(13, 1)):
        model(ids)[0].square().mean().backward()
    # A token that sees only itself has attention 1, whatever its query is: up
    # to rounding there is nothing to learn.
    attention = model.model.layers[0].self_attn
    most = attention.v_proj.weight.grad.abs().max()
    assert most > 1e-3
    assert attention.q_proj.weight.grad.abs().max() < 1e-5 * most
    model.activation_checkpointing_enable()
    with (
        pytest.raises(NotImplementedError, match='activation checkpointing'),
        gb.rewire(model, sliding_window_graph(13, 1)),
    ):
        pass


@pytest.mark.parametrize(
    ('name', 'what', 'message'),
    [
        ('llama', complete_graph(13), r'layer 0 .*key 1 -> query 0'),
        ('mistral', causal_graph(13), r'layer 0 .*key 0 -> query 5'),
        ('qwen2_window', causal_graph(13), r'layer 1 .*key 0 -> query 4'),
        ('llama', lambda layer, data: Data(num_nodes=4), '13 tokens'),
    ],
)
def test_edges_that_the_mask_forbids_are_named(name, what, message):
    model = architectures.build(name)
    with (
        gb.rewire(model, what),
        pytest.raises(ValueError, match=message),
        torch.no_grad(),
    ):
        model(torch.arange(2, 15).unsqueeze(0))


@torch.no_grad()
def test_a_bidirectional_model_accepts_edges_in_both_directions():
    model = architectures.build('bert')
    ids = torch.arange(2, 15).unsqueeze(0)
    allowed = block_graph(13, 5, causal=False)
    mask = torch.zeros(13, 13, dtype=torch.bool)
    mask[allowed.edge_index[1], allowed.edge_index[0]] = True
    expected = model(ids, attention_mask=mask[None, None])[0]
    with gb.rewire(model, allowed):
        found = model(ids)[0]
    assert (found - expected).abs().max() < TOLERANCE * expected.abs().max()


def test_what_cannot_be_a_rewiring_is_refused():
    model = architectures.build('llama')
    ids = torch.arange(2, 15).unsqueeze(0)
    with pytest.raises(TypeError, match='transform'), gb.rewire(model, 3):
        pass
    with (
        pytest.raises(TypeError, match='int64'),
        gb.rewire(model, torch.zeros(2, 3)),
    ):
        pass
    with (
        gb.rewire(model, lambda layer, data: None),
        pytest.raises(TypeError, match='NoneType'),
    ):
        model(ids)
    with (
        gb.rewire(model, causal_graph(13), heads=[4]),
        pytest.raises(ValueError, match='4 heads'),
    ):
        model(ids)


@torch.no_grad()
def test_a_cache_filled_before_the_context_needs_to_be_without_padding():
    model = architectures.build('llama')
    inputs = architectures.left_padded(model)
    ids = inputs['input_ids']
    plain = model(ids[:, :12], use_cache=True).past_key_values
    with gb.rewire(model, causal_graph(13)):
        found = model(ids[:, 12:], past_key_values=plain)[0]
    expected = model(ids)[0][:, 12:]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    padded = model(
        ids[:, :12], attention_mask=inputs['attention_mask'][:, :12]
    ).past_key_values
    with (
        gb.rewire(model, causal_graph(13)),
        pytest.raises(ValueError, match='filled inside the context'),
    ):
        model(
            ids[:, 12:],
            attention_mask=inputs['attention_mask'],
            past_key_values=padded,
        )
