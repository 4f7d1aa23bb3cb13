"""Captured graphs hold the attention and the states of the model."""

from __future__ import annotations

import architectures
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch_geometric.data import Batch, Data

import gnnbridge as gb
from gnnbridge.graph import (
    is_causal,
    sliding_window_graph,
    to_attention,
    unroll,
    validate,
)
from gnnbridge.models import attend
from gnnbridge.models.record import Record
from gnnbridge.models.zoo.tiny import build as build_tiny
from gnnbridge.spectral import attention_rollout

# Attention in [0, 1] by two float32 paths; measured at most 5e-6.
TOLERANCE = 2e-5


def eager_run(name, inputs):
    model = architectures.build(name)
    model.set_attn_implementation('eager')
    if model.config.is_encoder_decoder:
        model = model.get_encoder()
        inputs = {k: v for k, v in inputs.items() if 'decoder' not in k}
    with torch.no_grad():
        return model(
            **inputs, output_attentions=True, output_hidden_states=True
        )


@pytest.mark.parametrize(
    'name', [*architectures.DECODERS, *architectures.ENCODERS]
)
def test_graphs_hold_the_attention_and_states_of_eager(name):
    model = architectures.build(name)
    if name in architectures.DECODERS:
        inputs = architectures.left_padded(model)
    else:
        inputs = architectures.inputs_for(model)
    expected = eager_run(name, inputs)
    first = inputs[model.main_input_name]
    graphs = gb.capture(
        model, first, attention_mask=inputs.get('attention_mask')
    )

    assert [int(graph.layer[0]) for graph in graphs] == [0, 1, 2]
    for layer, batch in enumerate(graphs):
        for sequence, graph in enumerate(batch.to_data_list()):
            validate(graph)
            attention = expected.attentions[layer][sequence]
            pad = attention.size(-1) - graph.num_nodes
            attention = attention[:, pad:, pad:]
            found = to_attention(graph, per_head=True)
            assert (found - attention).abs().max() < TOLERANCE
            torch.testing.assert_close(
                graph.edge_weight, graph.edge_attr.mean(1)
            )
            states = expected.hidden_states[layer][sequence, pad:]
            scale = states.abs().max()
            assert (graph.x - states).abs().max() < TOLERANCE * scale
            assert ((graph.mixing > 0) & (graph.mixing < 1)).all()
    assert (name in architectures.DECODERS) == is_causal(graphs[0])


def test_a_default_model_gives_plain_data_and_is_left_as_it_was():
    model = architectures.build('llama').train()
    before = model.config
    ids = torch.arange(2, 11)
    graphs = gb.capture(model, ids)
    assert [type(graph) for graph in graphs] == [Data] * 3
    graph = graphs[1]
    assert graph.layer == 1
    assert graph.num_heads == graph.edge_attr.size(1) == 4
    assert graph.edge_index.dtype == torch.int64
    assert graph.edge_weight.dtype == torch.float32
    assert torch.equal(graph.token_id, ids)
    assert torch.equal(graph.position, torch.arange(9))
    assert graph.num_edges == 9 * 10 // 2
    assert model.config is before
    assert model.training
    assert not graph.edge_attr.requires_grad


def test_padding_is_no_node():
    model = architectures.build('llama')
    inputs = architectures.left_padded(model)
    graphs = gb.capture(
        model, inputs['input_ids'], attention_mask=inputs['attention_mask']
    )
    assert isinstance(graphs[0], Batch)
    padded = graphs[2].to_data_list()[1]
    alone = gb.capture(model, inputs['input_ids'][1, 4:])[2]
    assert padded.num_nodes == alone.num_nodes == 9
    assert torch.equal(padded.edge_index, alone.edge_index)
    assert torch.equal(padded.token_id, alone.token_id)
    torch.testing.assert_close(padded.edge_attr, alone.edge_attr)


def test_layers_and_heads_are_chosen():
    model = gb.convert(architectures.build('llama'))
    ids = torch.arange(2, 11)
    everything = gb.capture(model, ids)
    (chosen,) = gb.capture(model, ids, layers=[-1], heads=[2, 0])
    assert chosen.layer == 2
    assert chosen.num_heads == 2
    # Layers that are not captured run on a kernel that gives no weights, so
    # that the states of this one differ by rounding.
    torch.testing.assert_close(
        chosen.edge_attr, everything[2].edge_attr[:, [2, 0]]
    )
    for layers, heads in (([3], [4]), ([-4], [-5]), ([], [])):
        with pytest.raises(ValueError, match='layers'):
            gb.capture(model, ids, layers=layers)
        with pytest.raises(ValueError, match='heads'):
            gb.capture(model, ids, heads=heads)


def test_thinning_and_states_are_honoured():
    model = architectures.build('llama')
    ids = torch.arange(2, 15)
    full = gb.capture(model, ids)[0]
    thin = gb.capture(model, ids, top_k=3, hidden_states=False)[0]
    assert torch.equal(
        torch.bincount(thin.edge_index[1]),
        torch.arange(1, 14).clamp_max(3),
    )
    assert 'x' not in thin
    assert 'mixing' not in thin
    kept = torch.zeros(13).index_add(0, thin.edge_index[1], thin.edge_weight)
    torch.testing.assert_close(kept + thin.discarded_mass, torch.ones(13))
    heavy = gb.capture(model, ids, threshold=0.2)[0]
    assert heavy.num_edges < full.num_edges
    with pytest.raises(ValueError, match='at most one'):
        gb.capture(model, ids, top_k=3, threshold=0.1)


def test_no_more_than_one_layer_is_held_at_a_time(monkeypatch):
    """With top_k, what outlives a layer is the thinned graph."""
    sizes = []
    record = Record.__call__

    def counted(self, call, rows):
        record(self, call, rows)
        sizes.append(max(g.edge_attr.size(0) for g in self.graphs))

    monkeypatch.setattr(Record, '__call__', counted)
    gb.capture(architectures.build('llama'), torch.arange(2, 42), top_k=2)
    assert sizes == [79, 79, 79]


@pytest.mark.parametrize('options', [{}, {'top_k': 3}, {'threshold': 0.1}])
@pytest.mark.parametrize(
    'name', [*architectures.DECODERS, 'bert', 't5', 'bart']
)
def test_blocks_of_rows_are_the_whole(name, options, monkeypatch):
    """Whatever a model adds to its scores is there in every block."""
    model = architectures.build(name)
    inputs = architectures.left_padded(model)
    ids, mask = inputs['input_ids'], inputs['attention_mask']
    whole = gb.capture(model, ids, attention_mask=mask, **options)
    monkeypatch.setattr(attend, '_ROWS', 5)
    parts = gb.capture(model, ids, attention_mask=mask, **options)
    for one, other in zip(whole, parts, strict=True):
        assert set(one.keys()) == set(other.keys())
        assert torch.equal(one.edge_index, other.edge_index)
        for key in ('edge_attr', 'edge_weight', 'x', 'mixing'):
            # Attention by two float32 paths.
            torch.testing.assert_close(
                one[key], other[key], rtol=1e-4, atol=1e-5
            )


def test_no_tensor_has_the_size_of_all_attention():
    """600 tokens and 4 heads, of which 256 rows are held at a time."""
    tokens, model = 600, architectures.build('llama')
    largest = Largest()
    ids = torch.arange(tokens) % 50 + 2
    model.config.max_position_embeddings = 1024
    with largest:
        graphs = gb.capture(model, ids, top_k=4)
    assert [graph.num_edges for graph in graphs] == [4 * tokens - 6] * 3
    assert largest.numel < tokens * tokens * 4 * 0.45
    with largest:
        gb.capture(model, ids)
    # Without thinning the result itself has half as many numbers.
    assert largest.numel >= tokens * tokens * 2


class Largest(TorchDispatchMode):
    """Notices the largest tensor that an operation makes."""

    def __enter__(self):
        self.numel = 0
        return super().__enter__()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for x in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(x, torch.Tensor):
                size = x.untyped_storage().nbytes() // x.element_size()
                self.numel = max(self.numel, size)
        return out


@pytest.mark.parametrize('name', ['llama', 'diffllama', 'bert'])
def test_layers_are_handed_over_one_by_one(name):
    model = architectures.build(name)
    inputs = architectures.inputs_for(model)
    ids = inputs['input_ids']
    expected = gb.capture(model, ids, top_k=3)
    seen, running = [], []
    for number, block in enumerate(model.modules()):
        if 'Layer' in type(block).__name__ and hasattr(block, 'mlp'):
            block.register_forward_pre_hook(
                lambda *given, number=number: running.append(len(seen))
            )
    assert gb.capture(model, ids, top_k=3, on_layer=seen.append) == []
    assert len(seen) == 3
    if running:
        # Each was there before the next layer began.
        assert running[-3:] == [0, 1, 2]
    for one, other in zip(seen, expected, strict=True):
        for key in other.keys():  # noqa: SIM118
            assert torch.equal(
                torch.as_tensor(one[key]), torch.as_tensor(other[key])
            )


@pytest.mark.parametrize('name', ['deepseek_v32', 'glm_moe_dsa'])
def test_tokens_that_no_layer_chose_are_still_nodes(name):
    """A layer that picks four keys a query leaves some of them unseen."""
    model = build_tiny(name)
    ids = torch.randint(
        3, 60, (13,), generator=torch.Generator().manual_seed(0)
    )
    for graph in gb.capture(model, ids):
        assert graph.num_nodes == 13
        assert torch.equal(graph.token_id, ids)
        assert torch.bincount(graph.edge_index[1], minlength=13).max() <= 4
        assert torch.bincount(graph.edge_index[0], minlength=13).min() == 0
        total = torch.zeros(13, 4).index_add(
            0, graph.edge_index[1], graph.edge_attr
        )
        torch.testing.assert_close(total, torch.ones(13, 4))


@pytest.mark.parametrize(
    ('name', 'states', 'mixing'),
    [
        ('hy_v4', (13, 4, 32), None),
        ('gemma3n_text', None, None),
        ('xlm', None, None),
        ('xlnet', (13, 32), (13,)),
    ],
)
def test_streams_of_another_shape(name, states, mixing):
    ids = torch.randint(
        3, 60, (2, 13), generator=torch.Generator().manual_seed(0)
    )
    for batch in gb.capture(build_tiny(name), ids):
        for graph in batch.to_data_list():
            for key, shape in (('x', states), ('mixing', mixing)):
                found = graph.get(key)
                assert (None if found is None else found.shape) == shape


def measured_mixing(name, attention_name, after=None):
    """The share of attention, from hooks placed by hand on block 1."""
    model = architectures.build(name)
    inputs = architectures.inputs_for(model)
    block = {
        'llama': lambda: model.model.layers[1],
        'gemma2': lambda: model.model.layers[1],
        'bert': lambda: model.bert.encoder.layer[1],
        'gpt_neox': lambda: model.gpt_neox.layers[1],
    }[name]()
    seen = {}

    def enter(module, args, kwargs):
        seen['x'] = args[0] if args else kwargs['hidden_states']

    block.register_forward_pre_hook(enter, with_kwargs=True)
    source = block.get_submodule(after or attention_name)

    def note(module, args, output):
        seen['a'] = output[0] if isinstance(output, tuple) else output

    source.register_forward_hook(note)
    with torch.no_grad():
        model(**inputs)
    x, a = seen['x'].norm(dim=-1), seen['a'].norm(dim=-1)
    return (a / (x + a)).flatten()


@pytest.mark.parametrize(
    ('name', 'attention', 'after'),
    [
        ('llama', 'self_attn', None),
        ('gpt_neox', 'attention', None),
        # A norm follows attention before the residual addition.
        ('gemma2', 'self_attn', 'post_attention_layernorm'),
        # The output projection lies in another module than attention.
        ('bert', 'attention.self', 'attention.output.dense'),
    ],
)
def test_mixing_is_the_share_of_what_attention_adds(name, attention, after):
    model = architectures.build(name)
    inputs = architectures.inputs_for(model)
    graph = gb.capture(model, inputs['input_ids'])[1]
    expected = measured_mixing(name, attention, after)
    torch.testing.assert_close(graph.mixing, expected, rtol=1e-5, atol=1e-6)


def test_an_encoder_decoder_gives_its_decoder_when_it_has_input():
    model = architectures.build('t5')
    inputs = architectures.inputs_for(model)
    graphs = gb.capture(
        model,
        inputs['input_ids'],
        decoder_input_ids=inputs['decoder_input_ids'],
    )
    sizes = [graph.to_data_list()[0].num_nodes for graph in graphs]
    assert sizes == [13] * 3 + [7] * 3
    assert [is_causal(graph) for graph in graphs] == [False] * 3 + [True] * 3


def test_graphs_of_a_rewired_model_are_the_rewired_ones():
    model = architectures.build('llama')
    ids = torch.arange(2, 15)
    window = sliding_window_graph(13, 4)
    with gb.rewire(model, window, layers=[1]):
        graphs = gb.capture(model, ids)
    assert graphs[0].num_edges == 13 * 14 // 2
    assert torch.equal(graphs[1].edge_index, window.edge_index)


def test_graphs_move_to_the_device_that_is_asked_for():
    graphs = gb.capture(
        architectures.build('llama'), torch.arange(2, 9), device='meta'
    )
    assert {graph.edge_attr.device.type for graph in graphs} == {'meta'}
    assert {graph.x.device.type for graph in graphs} == {'meta'}


@pytest.mark.parametrize(
    ('ids', 'mask', 'message'),
    [
        (torch.empty(1, 0, dtype=torch.long), None, 'at least one token'),
        (torch.zeros(1, 2, 3, dtype=torch.long), None, r'\[1, 2, 3\]'),
        (torch.arange(5), torch.ones(1, 4), r'\[1, 4\]'),
        (torch.arange(5), torch.zeros(5), 'padding only'),
    ],
)
def test_bad_inputs_are_named(ids, mask, message):
    with pytest.raises(ValueError, match=message):
        gb.capture(architectures.build('llama'), ids, attention_mask=mask)


def test_captured_layers_unroll_into_their_rollout():
    graphs = gb.capture(architectures.build('llama'), torch.arange(2, 11))
    expected = attention_rollout(
        torch.stack([to_attention(graph) for graph in graphs]),
        mixing=torch.stack([graph.mixing for graph in graphs]),
    )
    # Paths of the unrolled graph from the embeddings to the last level.
    steps = to_attention(unroll(graphs)).double()
    paths = torch.linalg.matrix_power(steps, 3)[-9:, :9]
    torch.testing.assert_close(paths, expected, rtol=1e-5, atol=1e-7)
