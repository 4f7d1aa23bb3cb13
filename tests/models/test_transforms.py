"""Converted and rewired models under torch.compile and torch.func."""

from __future__ import annotations

from itertools import pairwise

import architectures
import pytest
import torch
from torch.func import functional_call, grad, jacfwd, jacrev, jvp, vjp, vmap

import gnnbridge as gb
from gnnbridge.graph import (
    causal_graph,
    complete_graph,
    sliding_window_graph,
    sparsify,
)
from gnnbridge.models.zoo.tiny import build as build_tiny

LENGTH = 9
# Float32, sums of some tens of products in another order; derivatives of
# three layers are some times the size of what they are derivatives of.
TOLERANCE = 2e-5


def error(ours, theirs):
    return float(((ours - theirs).abs().max() / theirs.abs().max()).detach())


def compiled(model, backend='eager', fullgraph=True):
    torch._dynamo.reset()
    return torch.compile(model, backend=backend, fullgraph=fullgraph)


def quick(name, *others):
    """Compiling takes seconds: one here, the others with the slow tests."""
    slow = [pytest.param(other, marks=pytest.mark.slow) for other in others]
    return pytest.mark.parametrize('name', [name, *slow])


@pytest.mark.parametrize('backend', ['eager', 'aot_eager'])
@quick('gpt_oss', 'llama', 'mistral', 'gemma2', 'gpt2', 'diffllama')
@torch.no_grad()
def test_a_converted_model_compiles_as_one_graph(name, backend):
    model = architectures.build(name)
    inputs = architectures.left_padded(model, LENGTH)
    expected = model(**inputs)[0]
    gb.convert(model)
    ours = compiled(model, backend)(**inputs)[0]
    real = inputs['attention_mask'].bool()
    assert error(ours[real], expected[real]) < TOLERANCE


@quick('gpt_neo', 'bert', 't5', 'deepseek_v32')
@torch.no_grad()
def test_other_kinds_compile_as_one_graph(name):
    known = name in architectures.ENCODERS
    model = (architectures.build if known else build_tiny)(name)
    inputs = architectures.inputs_for(model, LENGTH)
    expected = model(**inputs)[0]
    gb.convert(model)
    assert error(compiled(model)(**inputs)[0], expected) < TOLERANCE


@pytest.mark.slow
@torch.no_grad()
def test_a_converted_model_compiles_with_inductor():
    model = gb.convert(architectures.build('llama'))
    inputs = architectures.left_padded(model, LENGTH)
    expected = model(**inputs)[0]
    real = inputs['attention_mask'].bool()
    ours = compiled(model, 'inductor')(**inputs)[0]
    assert error(ours[real], expected[real]) < TOLERANCE


@pytest.mark.parametrize(
    'padded', [True, pytest.param(False, marks=pytest.mark.slow)]
)
@quick('mistral', 'llama', 'gpt2', 'gpt_oss')
@torch.no_grad()
def test_a_rewired_model_compiles_and_graphs_are_swapped(name, padded):
    model = gb.convert(architectures.build(name))
    make = architectures.left_padded if padded else architectures.inputs_for
    inputs = make(model, LENGTH)
    real = inputs['attention_mask'].bool()
    run = compiled(model)
    # Shorter than the input too: later tokens keep the model's own edges.
    seen = []
    for graph in (
        sliding_window_graph(LENGTH, 2), sliding_window_graph(LENGTH, 3),
        sliding_window_graph(LENGTH - 3, 2),
    ):  # fmt: skip
        with gb.rewire(model, graph):
            expected = model(**inputs)[0][real]
            ours = run(**inputs)[0][real]
        assert error(ours, expected) < TOLERANCE
        seen.append(ours)
    seen.append(run(**inputs)[0][real])
    assert error(seen[-1], model(**inputs)[0][real]) < TOLERANCE
    for one, other in pairwise(seen):
        assert error(one, other) > 1e-2


@torch.no_grad()
def test_some_heads_are_rewired_in_a_compiled_model():
    model = gb.convert(architectures.build('llama'))
    inputs = architectures.inputs_for(model, LENGTH)
    with gb.rewire(
        model, sliding_window_graph(LENGTH, 2), heads=[1, 2], layers=[0, 2]
    ):
        expected = model(**inputs)[0]
        assert error(compiled(model)(**inputs)[0], expected) < TOLERANCE


@torch.no_grad()
def test_a_compiled_model_refuses_edges_that_the_mask_forbids():
    model = gb.convert(architectures.build('llama'))
    inputs = architectures.inputs_for(model, LENGTH)
    run = compiled(model)
    with (
        gb.rewire(model, complete_graph(LENGTH)),
        pytest.raises(RuntimeError, match='mask of layer 0 allows'),
    ):
        run(**inputs)


def thinned(layer, data):
    return sparsify(data, top_k=2)


@pytest.mark.parametrize(
    ('name', 'mode', 'graph'),
    [('llama', 'messages', thinned), ('falcon', 'mask', thinned),
     ('mpt', 'mask', sliding_window_graph(LENGTH, 2))],
)  # fmt: skip
@pytest.mark.slow
@torch.no_grad()
def test_functions_and_masks_compile_in_pieces(name, mode, graph):
    known = name in architectures.DECODERS
    model = (architectures.build if known else build_tiny)(name)
    gb.convert(model, mode=mode)
    inputs = architectures.inputs_for(model, LENGTH)
    with gb.rewire(model, graph):
        expected = model(**inputs)[0]
        ours = compiled(model, fullgraph=False)(**inputs)[0]
    assert error(ours, expected) < TOLERANCE


def derivatives(model, embedded, inputs):
    """Every way of torch.func to differentiate or batch a model."""
    mask = inputs['attention_mask']

    def last(x):
        out = model(inputs_embeds=x, attention_mask=mask, use_cache=False)
        return out[0][:, -1, :4]

    def loss(parameters):
        out = functional_call(
            model, parameters, kwargs={
                'inputs_embeds': embedded, 'attention_mask': mask,
                'use_cache': False,
            },
        )  # fmt: skip
        return out[0].sin().mean()

    tangent = torch.ones_like(embedded).cumsum(-1).sin()
    parameters = dict(model.named_parameters())
    return {
        'jvp': lambda: jvp(last, (embedded,), (tangent,))[1],
        'vjp': lambda: vjp(last, embedded)[1](torch.ones(2, 4))[0],
        'jacrev': lambda: jacrev(last)(embedded),
        'jacfwd': lambda: jacfwd(last)(embedded),
        'vmap': lambda: vmap(
            lambda x: model(
                inputs_embeds=x[None], attention_mask=mask[:1], use_cache=False
            )[0]
        )(embedded),
        'jvp of grad': lambda: jvp(
            grad(lambda x: last(x).sin().sum()), (embedded,), (tangent,)
        )[1],
        'grad of parameters': lambda: grad(loss)(parameters)[
            next(x for x in parameters if x.endswith(QUERIES))
        ],
    }  # fmt: skip


QUERIES = ('q_proj.weight', 'c_attn.weight', 'query.weight')
WAYS = [
    'jvp', 'vjp', 'jacrev', 'jacfwd', 'vmap', 'jvp of grad',
    'grad of parameters',
]  # fmt: skip


@pytest.mark.parametrize('way', WAYS)
@pytest.mark.parametrize('name', ['llama', 'mistral', 'gemma2', 'gpt2', 'bert'])
def test_derivatives_equal_those_of_eager_attention(name, way):
    model = architectures.build(name)
    model.set_attn_implementation('eager')
    inputs = architectures.inputs_for(model, 5)
    embedding = model.get_input_embeddings()
    embedded = embedding(inputs['input_ids']).detach()
    expected = derivatives(model, embedded, inputs)[way]()
    gb.convert(model)
    ours = derivatives(model, embedded, inputs)[way]()
    assert error(ours, expected) < TOLERANCE
    # On the model's own graph, given as one, nothing changes; and again.
    graph = causal_graph(5) if name != 'bert' else complete_graph(5)
    with gb.rewire(model, graph):
        for _ in range(2):
            ours = derivatives(model, embedded, inputs)[way]()
            assert error(ours, expected) < TOLERANCE


@pytest.mark.parametrize('name', ['gpt_neo', 'falcon'])
@pytest.mark.parametrize('way', ['jvp', 'jacrev'])
def test_derivatives_of_old_architectures(name, way):
    model = build_tiny(name)
    inputs = architectures.inputs_for(model, 6)
    embedded = model.get_input_embeddings()(inputs['input_ids']).detach()
    expected = derivatives(model, embedded, inputs)[way]()
    gb.convert(model, mode='mask' if name == 'falcon' else 'messages')
    with gb.rewire(model, lambda layer, data: data):
        ours = derivatives(model, embedded, inputs)[way]()
    assert error(ours, expected) < TOLERANCE


def test_gradients_equal_finite_differences_in_double_precision():
    """GPT-2 computes in the precision of its weights throughout."""
    model = gb.convert(architectures.build('gpt2').double())
    inputs = architectures.inputs_for(model, 5)
    embedded = model.get_input_embeddings()(inputs['input_ids'][:1]).detach()

    def last(x):
        return model(inputs_embeds=x, use_cache=False)[0][0, -1, :3]

    with gb.rewire(model, sliding_window_graph(5, 2)):
        assert torch.autograd.gradcheck(last, embedded.requires_grad_())
