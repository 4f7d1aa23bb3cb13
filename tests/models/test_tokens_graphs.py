"""Inserted tokens are nodes: of captured graphs, and of rewired ones."""

from __future__ import annotations

import architectures
import pytest
import torch
from inserted import REQUIRED

import gnnbridge as gb
from gnnbridge.graph import causal_graph, to_attention
from gnnbridge.models.convert import is_converted
from gnnbridge.models.tokens.add import add_tokens
from gnnbridge.models.tokens.module import tokens_of
from gnnbridge.models.tokens.nodes import token_layout

TOLERANCE = 1e-5


def close(found, expected):
    return (found - expected).abs().max() < TOLERANCE * expected.abs().max()


@pytest.mark.parametrize('name', REQUIRED)
def test_captured_graphs_have_inserted_tokens_as_nodes(name):
    model = architectures.build(name)
    add_tokens(
        model,
        prepend=2,
        append=1,
        sink=[0, 5],
        embedding={'pause': 'random', 'sink': 7},
    )
    inputs = architectures.left_padded(model)
    ids, mask = inputs['input_ids'], inputs['attention_mask']
    graphs = gb.capture(model, ids, attention_mask=mask)
    assert not is_converted(model)
    first, second = graphs[0].to_data_list()
    assert (first.num_nodes, second.num_nodes) == (18, 14)
    assert first.token_id.tolist() == [
        7, -1, -1, *ids[0, :5].tolist(), 7, *ids[0, 5:].tolist(), -1,
    ]  # fmt: skip
    assert second.token_id.tolist() == [
        7, -1, -1, *ids[1, 4:9].tolist(), 7, *ids[1, 9:].tolist(), -1,
    ]  # fmt: skip
    assert torch.equal(second.position, torch.arange(14))
    layout = token_layout(model, ids, attention_mask=mask)
    nodes = layout.nodes(layout.inserted)
    assert layout.kinds == ('sink', 'sink', 'prepend', 'prepend', 'append')
    assert nodes.tolist() == [[0, 8, 1, 2, 17], [0, 8, 1, 2, 13]]
    original = layout.nodes(layout.original)
    assert (original[1, :4] == -1).all()
    assert torch.equal(second.token_id[original[1, 4:]], ids[1, 4:])
    if name in ('llama', 'qwen3', 'gpt_oss', 'gpt_neox'):
        # Where nothing is added to an embedding it enters the first layer.
        pause = tokens_of(model).pause.detach().expand(3, -1)
        assert torch.equal(second.x[nodes[1, 2:]], pause)


def test_attention_of_captured_graphs_is_that_of_the_model():
    model = add_tokens(architectures.build('llama'), prepend=1, sink='middle')
    model.set_attn_implementation('eager')
    ids = architectures.inputs_for(model)['input_ids'][:1]
    graphs = gb.capture(model, ids[0], prompt_length=4)
    expected = model(ids, output_attentions=True, prompt_length=4).attentions
    for graph, attention in zip(graphs, expected, strict=True):
        mean = attention[0].mean(0)
        assert close(to_attention(graph).float(), mean)
    layout = token_layout(model, ids[0], prompt_length=4)
    assert layout.inserted.tolist() == [[3, 0]]


def test_a_sink_further_out_than_the_trial_run_is_no_obstacle():
    model = add_tokens(architectures.build('llama'), sink=[12, -11])
    ids = architectures.inputs_for(model)['input_ids'][0]
    assert gb.capture(model, ids)[0].token_id.tolist().index(-1) == 2
    with gb.rewire(model, causal_graph(15).edge_index):
        found = model(ids.unsqueeze(0)).logits
    assert close(found, model(ids.unsqueeze(0)).logits)


@pytest.mark.parametrize('name', REQUIRED)
@pytest.mark.parametrize('first', ['convert', 'add'])
def test_converted_models_give_the_same_outputs(name, first):
    model, plain = (architectures.build(name) for _ in range(2))
    tokens = {'prepend': 2, 'append': 2, 'sink': 'middle'}
    add_tokens(plain, **tokens)
    inputs = architectures.left_padded(model)
    if first == 'convert':
        add_tokens(gb.convert(model), **tokens)
    else:
        gb.convert(add_tokens(model, **tokens))
    mask = inputs['attention_mask'].bool()
    expected = plain(**inputs).logits[mask]
    assert close(model(**inputs).logits[mask], expected)
    options = {'max_new_tokens': 5, 'do_sample': False}
    assert torch.equal(
        model.generate(**inputs, **options), plain.generate(**inputs, **options)
    )
    gb.restore(model)
    assert torch.equal(model(**inputs).logits[mask], expected)


def test_rewired_generation_equals_one_rewired_forward():
    """The graph is one of all tokens: without an edge to the sink."""
    model = add_tokens(
        architectures.build('llama'), prepend=1, append=2, sink=3
    )
    inputs = architectures.left_padded(model)
    layout = token_layout(model, **inputs)
    sink = layout.nodes(layout.inserted)[:, 0].unique().item()

    def blind(layer, data):
        out = data.clone()
        key, query = data.edge_index
        kept = (key != sink) | (query == sink)
        out.edge_index = data.edge_index[:, kept]
        out.edge_attr, out.edge_weight = (
            data.edge_attr[kept], data.edge_weight[kept],
        )  # fmt: skip
        return out

    with gb.rewire(model, blind), torch.no_grad():
        out = model.generate(
            **inputs, max_new_tokens=5, do_sample=False, output_logits=True,
            return_dict_in_generate=True,
        )  # fmt: skip
        mask = torch.cat(
            [inputs['attention_mask'], torch.ones(2, 5, dtype=torch.long)], 1
        )
        prompts = inputs['attention_mask'].sum(1)
        expected = model(
            out.sequences, attention_mask=mask, prompt_length=prompts
        ).logits[:, 12:-1]
    found = torch.stack(out.logits, dim=1)
    assert close(found, expected)
    # Nobody sees the sink: it may be anything.
    with torch.no_grad():
        whole = model(**inputs).logits[:, -1]
        tokens_of(model).sink.mul_(-5)
        with gb.rewire(model, blind):
            again = model(**inputs).logits[:, -1]
    assert close(again, found[:, 0])
    assert not close(whole, found[:, 0])
