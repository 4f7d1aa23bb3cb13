"""Graphs planned once, for each layer or for each head."""

from __future__ import annotations

import architectures
import pytest
import torch
from torch_geometric.data import Data
from torch_geometric.transforms import Compose

import gnnbridge as gb
from gnnbridge.graph import causal_graph, sliding_window_graph
from gnnbridge.models.static_graph import is_static
from gnnbridge.transforms.attention_sinks import AttentionSinks
from gnnbridge.transforms.causal_resistance import CausalResistanceRewiring
from gnnbridge.transforms.runway import RunwayRewiring
from gnnbridge.transforms.sliding_window import SlidingWindow

LENGTH = 11
# float32 on both sides, sums in another order; measured at most 8e-7.
TOLERANCE = 1e-5


class Counted(SlidingWindow):
    """A window that counts how often it is asked."""

    def __init__(self, window, *, causal=None):
        super().__init__(window, causal=causal)
        self.calls = 0

    def on_causal(self, n, device=None):
        self.calls += 1
        return super().on_causal(n, device)


class Even(SlidingWindow):
    """Depends on the length: a longer sequence has other rows."""

    prefix = False

    def _kept(self, edge_index):
        source, target = edge_index
        last = int(target.max())
        return super()._kept(edge_index) | ((last - source) % 2 == 0)


def long_way(transform):
    """The same as a function, which is called for every layer and call."""
    return lambda layer, data: transform(data)


def logits(model, what, inputs, **options):
    with torch.no_grad(), gb.rewire(model, what, **options):
        return model(**inputs)[0]


@pytest.mark.parametrize('padded', [False, True])
@pytest.mark.parametrize('name', ['llama', 'gpt2', 'mistral', 'gemma2'])
@pytest.mark.parametrize(
    'transform',
    [
        SlidingWindow(3),
        AttentionSinks(2, 2),
        Even(2),
        CausalResistanceRewiring(
            edges_per_token=4, start=SlidingWindow(2), weighted=False
        ),
        Compose([SlidingWindow(5), Even(2)]),
    ],
    ids=['window', 'sinks', 'even', 'resistance', 'compose'],
)
def test_planned_graphs_are_those_of_the_transform(name, padded, transform):
    model = architectures.build(name)
    build = architectures.left_padded if padded else architectures.inputs_for
    inputs = build(model, LENGTH)
    assert is_static(transform)
    expected = logits(model, long_way(transform), inputs)
    ours = logits(model, transform, inputs)
    real = inputs.get('attention_mask', torch.ones(ours.shape[:2])).bool()
    error = (ours - expected)[real].abs().max() / expected[real].abs().max()
    assert error < TOLERANCE


@pytest.mark.parametrize('padded', [False, True])
@pytest.mark.parametrize('name', ['llama', 'mistral'])
@pytest.mark.parametrize(
    'transform', [AttentionSinks(3, 1), Even(2)], ids=['sinks', 'even']
)
def test_generation_goes_on_in_planned_graphs(name, padded, transform):
    model = architectures.build(name)
    build = architectures.left_padded if padded else architectures.inputs_for
    inputs = build(model, LENGTH)
    made = []
    for what in (transform, long_way(transform)):
        with gb.rewire(model, what):
            made.append(
                model.generate(
                    **inputs,
                    max_new_tokens=9,
                    do_sample=False,
                    output_logits=True,
                    return_dict_in_generate=True,
                )
            )
    assert torch.equal(made[0].sequences, made[1].sequences)
    ours, theirs = (torch.stack(run.logits) for run in made)
    assert (ours - theirs).abs().max() / theirs.abs().max() < TOLERANCE


def test_all_layers_and_tokens_share_a_few_plans():
    model = architectures.build('llama')
    inputs = architectures.inputs_for(model, LENGTH)
    transform = Counted(3)
    transform.prefix = True
    with gb.rewire(model, transform):
        model(**inputs)
        model(**inputs)
        assert transform.calls == 1
        model.generate(**inputs, max_new_tokens=9, do_sample=False)
    # 11 tokens, and then room for 22.
    assert transform.calls == 2


def test_what_depends_on_weights_sees_them():
    seen = []

    class Spy(CausalResistanceRewiring):
        def forward(self, data):
            seen.append(data.edge_weight)
            return super().forward(data)

    model = architectures.build('llama')
    inputs = architectures.inputs_for(model, LENGTH)
    transform = Spy(edges_per_token=3, start=SlidingWindow(1))
    assert not is_static(transform)
    logits(model, transform, inputs)
    assert len(seen) == 3 * len(inputs['input_ids'])
    assert all(weight.std() > 0 for weight in seen)


@pytest.mark.parametrize('name', ['llama', 'gpt2'])
def test_each_layer_may_have_its_own_graph(name):
    model = architectures.build(name)
    inputs = architectures.inputs_for(model, LENGTH)
    graphs = {
        0: sliding_window_graph(LENGTH, 2),
        2: AttentionSinks(1, 1),
    }
    own = causal_graph(LENGTH).edge_index

    def by_layer(layer, data):
        if layer == 0:
            return sliding_window_graph(LENGTH, 2)
        return AttentionSinks(1, 1)(data) if layer == 2 else data

    expected = logits(model, by_layer, inputs)
    ours = logits(model, graphs, inputs)
    assert (ours - expected).abs().max() / expected.abs().max() < TOLERANCE
    assert (ours - logits(model, own, inputs)).abs().max() > 1e-3


def head_graph(heads, seed=0):
    """A causal graph, the edges of each head drawn at random."""
    data = causal_graph(LENGTH)
    generator = torch.Generator().manual_seed(seed)
    used = torch.rand(data.num_edges, heads, generator=generator) < 0.5
    loops = data.edge_index[0] == data.edge_index[1]
    data.edge_heads = used | loops.unsqueeze(1)
    return data


def by_heads(model, data, inputs, mode='messages'):
    """The same with one graph at a time, head by head, in eager attention."""
    heads = data.edge_heads.size(1)
    keep = torch.zeros(heads, LENGTH, LENGTH, dtype=torch.bool)
    source, target = data.edge_index
    keep[:, target, source] = data.edge_heads.T
    low = torch.finfo(torch.float32).min
    mask = torch.zeros(keep.shape).masked_fill(~keep, low).unsqueeze(0)
    model.set_attn_implementation('eager')
    with torch.no_grad():
        return model(inputs['input_ids'], attention_mask=mask)[0]


@pytest.mark.parametrize('name', ['llama', 'gpt2'])
def test_each_head_may_have_its_own_graph(name):
    model = architectures.build(name)
    inputs = architectures.inputs_for(model, LENGTH)
    data = head_graph(4)
    # Any order of the edges.
    order = torch.randperm(
        data.num_edges, generator=torch.Generator().manual_seed(1)
    )
    shuffled = Data(
        edge_index=data.edge_index[:, order],
        edge_heads=data.edge_heads[order],
        num_nodes=LENGTH,
    )
    expected = by_heads(architectures.build(name), data, inputs)
    for what in (data, shuffled, lambda layer, _: data):
        ours = logits(model, what, inputs)
        assert (ours - expected).abs().max() / expected.abs().max() < TOLERANCE


def test_heads_left_out_keep_their_own_graph():
    model = architectures.build('llama')
    inputs = architectures.inputs_for(model, LENGTH)
    data = head_graph(4)
    full = data.clone()
    full.edge_heads = data.edge_heads.clone()
    full.edge_heads[:, [0, 2]] = True
    expected = logits(model, full, inputs)
    ours = logits(model, data, inputs, heads=[1, 3])
    assert (ours - expected).abs().max() / expected.abs().max() < TOLERANCE


@pytest.mark.parametrize('name', ['gptj', 'codegen'])
def test_graphs_of_heads_are_masks_where_attention_is_masked(name):
    from gnnbridge.models.zoo.tiny import build as build_tiny

    model = build_tiny(name)
    inputs = architectures.inputs_for(model, LENGTH)
    heads = model.config.num_attention_heads
    data = head_graph(heads)
    ours = logits(model, data, inputs)
    masked = logits(model, data, inputs, mode='mask')
    assert (ours - masked).abs().max() / masked.abs().max() < TOLERANCE
    every = data.clone()
    every.edge_heads = torch.ones_like(data.edge_heads)
    assert (masked - logits(model, every, inputs, mode='mask')).abs().max() > 0


def test_generation_on_graphs_of_heads():
    model = architectures.build('llama')
    inputs = architectures.inputs_for(model, LENGTH)
    data = head_graph(4)
    with gb.rewire(model, data):
        made = model.generate(
            **inputs,
            max_new_tokens=4,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
        )
        whole = model(made.sequences)[0][:, LENGTH - 1 : -1]
    ours = torch.stack(made.logits, dim=1)
    assert (ours - whole).abs().max() / whole.abs().max() < TOLERANCE


@pytest.mark.parametrize(
    ('heads', 'error', 'message'),
    [
        (torch.ones(66, 3).bool(), ValueError, r'\[E, 4\]'),
        (torch.ones(66, 4), TypeError, 'bool'),
        (torch.ones(5, 4).bool(), ValueError, r'\[66, H\]'),
    ],
)
def test_bad_graphs_of_heads(heads, error, message):
    model = architectures.build('llama')
    inputs = architectures.inputs_for(model, LENGTH)
    data = causal_graph(LENGTH)
    data.edge_heads = heads
    with pytest.raises(error, match=message):
        logits(model, data, inputs)


def test_bad_mappings():
    model = architectures.build('llama')
    graph = causal_graph(LENGTH)
    for what, options, message in (
        ({0: graph}, {'layers': [0]}, "no 'layers'"),
        ({-1: graph}, {}, 'counted from 0'),
        ({7: graph}, {}, "'layers' to choose"),
        ({}, {}, "'layers' to choose"),
    ):
        with (
            pytest.raises(ValueError, match=message),
            gb.rewire(model, what, **options),
        ):
            pass
    with (
        pytest.raises(TypeError, match='a PyG transform'),
        gb.rewire(model, {0: 3}),
    ):
        pass


def test_weights_alone_would_be_ignored():
    model = architectures.build('llama')
    inputs = architectures.inputs_for(model, LENGTH)
    with pytest.raises(ValueError, match='changes weights'):
        logits(model, RunwayRewiring(), inputs)
    assert logits(model, RunwayRewiring(3), inputs).isfinite().all()


def test_a_transform_must_keep_the_tokens():
    class Longer(SlidingWindow):
        def on_causal(self, n, device=None):
            return causal_graph(n + 1)

    model = architectures.build('llama')
    inputs = architectures.inputs_for(model, LENGTH)
    with pytest.raises(ValueError, match='the same 11 tokens'):
        logits(model, Longer(2), inputs)
