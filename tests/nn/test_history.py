"""Subtracted maps that remember earlier rows, against loops over rows."""

from __future__ import annotations

import math

import pytest
import torch
from differential_twin import (
    GRAPHS,
    HEADS,
    KINDS,
    ROWS,
    below,
    draw,
    layer,
    maps_of,
    spread,
    tensors,
    twin,
    visible,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnbridge.graph import causal_graph
from gnnbridge.nn import (
    AttentionHistory,
    DifferentialAttention,
    DifferentialAttentionConv,
)

PROPERTY = settings(deadline=None, max_examples=25, derandomize=True)


def gradients(out, leaves):
    cotangent = draw(*out.shape, seed=9, dtype=out.dtype)
    return torch.autograd.grad(out, leaves, cotangent)


def close(ours, theirs, tolerance):
    """Relative to the largest number."""
    return (ours - theirs).abs().max() <= tolerance * theirs.abs().max()


@pytest.mark.parametrize('of', ['second', 'first'])
@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize(
    ('graph', 'nodes', 'kv_heads'),
    [
        ('causal', 3, 4),
        ('causal', 13, 2),
        ('causal', 67, 1),
        ('window', 13, 1),
        ('window', 41, 2),
        ('dilated', 17, 4),
        ('full', 11, 2),
    ],
)
def test_outputs_gradients_and_maps_equal_the_loops(
    graph, nodes, kv_heads, kind, of
):
    conv = layer(kind, of=of)
    spread(conv.history)
    edge_index = GRAPHS[graph](nodes)
    inputs = tensors(nodes, HEADS, kv_heads)
    previous = below(kind, nodes, kv_heads)
    leaves = [*inputs, *(previous or ()), *conv.parameters()]
    for x in leaves:
        x.requires_grad_()
    out, (_, weights) = conv(
        *inputs, edge_index, previous=previous, return_attention_weights=True
    )
    expected, maps = twin(conv, *inputs, edge_index, previous=previous)
    # Sums of some hundred terms in double precision, in another order.
    assert close(out, expected, 1e-12)
    for ours, theirs in zip(weights, maps, strict=True):
        theirs = theirs[:, edge_index[1], edge_index[0]].t()
        assert close(ours, theirs, 1e-12)
    for ours, theirs in zip(
        gradients(out, leaves), gradients(expected, leaves), strict=True
    ):
        assert close(ours, theirs, 1e-11)


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('graph', GRAPHS)
def test_without_a_share_it_is_differential_attention_to_the_bit(graph, kind):
    nodes, edge_index = 37, GRAPHS[graph](37)
    inputs = tensors(nodes, HEADS, 2, dtype=torch.float32)
    for x in inputs:
        x.requires_grad_()
    plain = layer(None).float()
    conv = layer(kind, rho=0.0).float()
    missing, extra = conv.load_state_dict(plain.state_dict(), strict=False)
    assert all(name.startswith('history.') for name in missing)
    assert extra == []
    previous = below(kind, nodes, dtype=torch.float32)
    out = conv(*inputs, edge_index, previous=previous)
    expected = plain(*inputs, edge_index)
    assert torch.equal(out, expected)
    for ours, theirs in zip(
        gradients(out, inputs), gradients(expected, inputs), strict=True
    ):
        # The same numbers, added up with those of history, all of them zero.
        assert close(ours, theirs, 1e-6)
    _, (_, weights) = conv(
        *inputs, edge_index, previous=previous, return_attention_weights=True
    )
    _, (_, others) = plain(*inputs, edge_index, return_attention_weights=True)
    assert all(map(torch.equal, weights, others))


@pytest.mark.parametrize('kind', KINDS)
def test_an_end_of_the_share_stays_where_it_is(kind):
    for rho in (0.0, 1.0):
        conv = layer(kind, rho=rho)
        inputs, previous = tensors(9, HEADS, 2), below(kind, 9)
        optimizer = torch.optim.AdamW(
            conv.parameters(), lr=0.1, weight_decay=0.1
        )
        for _ in range(2):
            out = conv(*inputs, 'causal', previous=previous)
            optimizer.zero_grad()
            out.square().sum().backward()
            assert (conv.history.rho_logit.grad == 0).all()
            optimizer.step()
        assert (conv.history.rho == rho).all()
        assert all(x.isfinite().all() for x in conv.parameters() if x.dim() > 1)


@pytest.mark.parametrize('of', ['second', 'first'])
@pytest.mark.parametrize('graph', ['causal', 'window', 'dilated'])
@pytest.mark.parametrize('kind', KINDS)
def test_rows_depend_on_no_later_token(kind, graph, of):
    nodes, conv = 13, layer(kind, of=of)
    edge_index = GRAPHS[graph](nodes)
    everything = [*tensors(nodes, HEADS, 2), *(below(kind, nodes) or ())]

    def run(x):
        previous = tuple(x[3:]) or None
        return conv(*x[:3], edge_index, previous=previous)

    out = run(everything)
    for row in (0, 4, 11):
        changed = [x.clone() for x in everything]
        for x in changed:
            x[row + 1 :] = draw(*x[row + 1 :].shape, seed=99) * 5
        other = run(changed)
        assert torch.equal(other[: row + 1], out[: row + 1])
        assert not torch.equal(other[row + 1 :], out[row + 1 :])
        leaves = [x.requires_grad_() for x in everything]
        grads = torch.autograd.grad(
            run(leaves)[row].square().sum(), leaves, allow_unused=True
        )
        for grad in grads:
            assert (grad[row + 1 :] == 0).all()


@pytest.mark.parametrize('of', ['second', 'first'])
@pytest.mark.parametrize('kind', ROWS)
def test_rows_do_depend_on_earlier_queries(kind, of):
    """Which is what history adds: rows of plain attention do not."""
    query, key, value = tensors(9, HEADS, 2)
    query.requires_grad_()

    def reach(conv):
        out = conv(query, key, value, 'causal')[5]
        grad = torch.autograd.grad(out.square().sum(), query)[0]
        # Rounding of terms of size one, or a real dependence.
        return (grad.flatten(1).abs().amax(dim=1) > 1e-12).tolist()

    assert reach(layer(None)) == [i == 5 for i in range(9)]
    expected = [i <= 5 for i in range(9)]
    # The map of the first row has one entry, and no gradient.
    expected[0] = False
    assert reach(layer(kind, of=of)) == expected


@PROPERTY
@given(
    st.integers(1, 9),
    st.integers(0, 999),
    st.sampled_from(KINDS),
    st.sampled_from(['second', 'first']),
    st.floats(0.0, 1.0),
    # Smaller ones forget all that a gap in a row's keys lies back.
    st.floats(1e-3, 1.0) | st.just(0.0),
)
def test_rows_of_the_subtracted_map_sum_to_one(
    nodes, seed, kind, of, rho, decay
):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(nodes, nodes, generator=generator) < 0.6
    i, j = mask.nonzero().t()
    edge_index = torch.stack([j, i])
    conv = layer(kind, of=of, rho=rho, decay=decay, heads=2)
    inputs = tensors(nodes, 2, 1, seed=seed)
    previous = tuple(inputs[:2]) if kind == 'layer' else None
    bias = torch.zeros(i.numel(), 2).double()
    bias[torch.rand(bias.shape, generator=generator) < 0.2] = -math.inf
    out, (_, weights) = conv(
        *inputs, edge_index, edge_bias=bias, previous=previous,
        return_attention_weights=True,
    )  # fmt: skip
    assert (weights.second >= 0).all()
    assert (weights.second[bias == -math.inf] == 0).all()
    total = torch.zeros(nodes, 2).double().index_add(0, i, weights.second)
    on = visible(edge_index, nodes, nodes, 2, bias).any(-1).t()
    torch.testing.assert_close(total, on.double(), rtol=1e-12, atol=1e-14)
    expected, _ = twin(
        conv, *inputs, edge_index, edge_bias=bias, previous=previous
    )
    torch.testing.assert_close(out, expected, rtol=1e-9, atol=1e-9)


@PROPERTY
@given(st.integers(1, 7), st.integers(0, 999), st.sampled_from(ROWS))
def test_a_batch_is_its_sequences(nodes, seed, kind):
    conv, sizes = layer(kind, heads=2), (nodes, 1, 5)
    parts = [tensors(n, 2, 1, seed=seed + n) for n in sizes]
    edges = [causal_graph(n).edge_index for n in sizes]
    shift = [0, nodes, nodes + 1]
    edge_index = torch.cat(
        [e + s for e, s in zip(edges, shift, strict=True)], dim=1
    )
    together = [torch.cat(x) for x in zip(*parts, strict=True)]
    out = conv(*together, edge_index)
    expected = [conv(*x, e) for x, e in zip(parts, edges, strict=True)]
    torch.testing.assert_close(out, torch.cat(expected))


def test_a_runway_is_the_limit_of_decay():
    inputs = tensors(41, HEADS, 2)
    for graph in ('causal', 'window'):
        edge_index = GRAPHS[graph](41)
        runway = layer('runway')(*inputs, edge_index)
        for decay, apart in ((1.0, 1e-12), (1 - 1e-6, 1e-4), (0.5, None)):
            other = layer('decay', decay=decay)(*inputs, edge_index)
            assert close(other, runway, 1.0 if apart is None else apart)
        assert not close(other, runway, 1e-2)
    # Without memory the history is the row before.
    conv = layer('decay', decay=0.0, rho=1.0)
    _, (_, weights) = conv(*inputs, 'causal', return_attention_weights=True)
    second = torch.zeros(HEADS, 41, 41).double()
    edge_index = causal_graph(41).edge_index
    second[:, edge_index[1], edge_index[0]] = weights.second.detach().t()
    plain = maps_of(*inputs[:2], edge_index)[1]
    torch.testing.assert_close(second[:, 1:, :-1], plain[:, :-1, :-1])
    torch.testing.assert_close(second[:, 0], plain[:, 0])


@pytest.mark.parametrize('kind', KINDS)
def test_history_of_a_layer_may_be_a_map(kind):
    nodes, edge_index = 13, GRAPHS['window'](13)
    inputs, previous = tensors(nodes, HEADS, 2), below('layer', nodes)
    conv = layer('layer')
    _, second = maps_of(*previous, edge_index)
    weight = second[:, edge_index[1], edge_index[0]].t()
    out, (_, weights) = conv(
        *inputs, edge_index, previous=weight, return_attention_weights=True
    )
    expected, (_, others) = conv(
        *inputs, edge_index, previous=previous, return_attention_weights=True
    )
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(weights.second, others.second)
    if kind == 'layer':
        with pytest.raises(ValueError, match="Expected 'previous' in layer 2"):
            conv(*inputs, edge_index)
        lowest = DifferentialAttentionConv(5, HEADS, history='layer').double()
        without = DifferentialAttentionConv(5, HEADS).double()
        without.load_state_dict(lowest.state_dict(), strict=False)
        assert torch.equal(
            lowest(*inputs, edge_index), without(*inputs, edge_index)
        )
    else:
        with pytest.raises(ValueError, match="Expected no 'previous'"):
            layer(kind)(*inputs, edge_index, previous=previous)


@pytest.mark.parametrize('kind', KINDS)
def test_half_precision_keeps_what_the_inputs_have(kind):
    nodes, conv = 67, layer(kind, rho=0.5).bfloat16()
    inputs = tensors(nodes, HEADS, 2, dtype=torch.bfloat16)
    previous = below(kind, nodes, dtype=torch.bfloat16)
    for graph in ('causal', 'window'):
        edge_index = GRAPHS[graph](nodes)
        out = conv(*inputs, edge_index, previous=previous)
        assert out.dtype == torch.bfloat16
        wide = previous and tuple(x.double() for x in previous)
        truth = layer(kind, rho=0.5)
        truth.load_state_dict(conv.double().state_dict())
        truth = truth(*(x.double() for x in inputs), edge_index, previous=wide)
        conv = conv.bfloat16()
        error = (out - truth).square().mean() / truth.square().mean()
        # As without history: the rounding of outputs, magnified by the norm.
        assert error.sqrt() < 3 * torch.finfo(torch.bfloat16).eps


@pytest.mark.parametrize('of', ['second', 'first'])
@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('graph', ['causal', 'window'])
def test_gradients_equal_finite_differences(graph, kind, of):
    conv = layer(kind, of=of)
    previous = below(kind, 5) or ()
    leaves = [*tensors(5, HEADS, 2), *previous, *conv.parameters()]
    leaves = [x.requires_grad_() for x in leaves]

    def function(*x):
        kept = tuple(x[3:5]) if previous else None
        return conv(*x[:3], GRAPHS[graph](5), previous=kept)

    assert torch.autograd.gradcheck(function, leaves, fast_mode=True)


@pytest.mark.parametrize('kind', ROWS)
@pytest.mark.parametrize('graph', ['causal', 'window'])
def test_functional_derivatives_equal_those_of_autograd(graph, kind):
    conv, edge_index = layer(kind), GRAPHS[graph](7)
    query, key, value = tensors(7, HEADS, 2)

    def function(query):
        return conv(query, key, value, edge_index)

    expected = torch.autograd.functional.jacobian(function, query)
    for jacobian in (torch.func.jacrev, torch.func.jacfwd):
        torch.testing.assert_close(jacobian(function)(query), expected)


def test_history_adds_one_or_two_numbers_per_head():
    def count(**options):
        module = DifferentialAttention(48, 3, **options)
        return sum(x.numel() for x in module.parameters())

    plain = count()
    assert count(history='layer') == plain + 3
    assert count(history='runway') == plain + 3
    assert count(history='decay') == plain + 6
    history = AttentionHistory('decay', 3, rho=0.25, decay=0.75)
    torch.testing.assert_close(history.rho, torch.full((3,), 0.25))
    torch.testing.assert_close(history.decay, torch.full((3,), 0.75))
    spread(history)
    history.reset_parameters()
    torch.testing.assert_close(history.rho, torch.full((3,), 0.25))
    assert repr(history) == "AttentionHistory('decay', heads=3, of='second')"


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'kind': 'token'}, "'history' to be one of decay, layer, runway"),
        ({'of': 'third'}, "'of' to be one of first, second"),
        ({'rho': 1.5}, r"'rho' to be in \[0, 1\]"),
        ({'decay': -0.1}, r"'decay' to be in \[0, 1\]"),
    ],
)
def test_arguments_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        AttentionHistory(**{'kind': 'decay', 'heads': 2, **options})


def test_a_history_must_fit_its_layer():
    with pytest.raises(ValueError, match='of 4 heads'):
        DifferentialAttentionConv(5, 4, history=AttentionHistory('decay', 2))
    with pytest.raises(TypeError, match='AttentionHistory'):
        DifferentialAttentionConv(5, 4, history=True)
    with pytest.raises(ValueError, match='decay, layer, runway'):
        DifferentialAttentionConv(5, 4, history='past')
