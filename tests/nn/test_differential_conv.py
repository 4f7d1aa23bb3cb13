"""Differential attention without history, against loops and by its limits."""

from __future__ import annotations

import math

import pytest
import torch
from differential_twin import draw, randomised, tensors, twin
from torch_geometric.nn import Linear, Sequential

from gnnbridge.graph import causal_graph, sliding_window_graph
from gnnbridge.nn import (
    AttentionConv,
    DifferentialAttention,
    DifferentialAttentionConv,
    plan_attention,
)

HEADS = 4
# Sums of at most some hundred terms of size one, in another order.
TOLERANCE = {
    torch.float64: {'rtol': 1e-11, 'atol': 1e-12},
    torch.float32: {'rtol': 1e-4, 'atol': 1e-5},
}
GRAPHS = {
    'causal': lambda n: causal_graph(n).edge_index,
    'window': lambda n: sliding_window_graph(n, 3, sinks=1).edge_index,
}


def layer(**options):
    conv = DifferentialAttentionConv(5, HEADS, **{'layer': 2, **options})
    return randomised(conv.double())


def gradients(out, leaves, seed=9):
    cotangent = draw(*out.shape, seed=seed, dtype=out.dtype)
    return torch.autograd.grad(out, leaves, cotangent)


@pytest.mark.parametrize('dtype', [torch.float64, torch.float32])
@pytest.mark.parametrize('affine', [True, False])
@pytest.mark.parametrize('kv_heads', [1, 2, 4])
@pytest.mark.parametrize(
    ('graph', 'nodes'), [('causal', 7), ('window', 13), ('causal', 67)]
)
def test_outputs_and_gradients_equal_the_loops(
    graph, nodes, kv_heads, affine, dtype
):
    conv = layer(elementwise_affine=affine).to(dtype)
    edge_index = GRAPHS[graph](nodes)
    inputs = tensors(nodes, HEADS, kv_heads, dtype=dtype)
    leaves = [*inputs, *conv.parameters()]
    for x in leaves:
        x.requires_grad_()
    out = conv(*inputs, edge_index)
    expected, _ = twin(conv, *inputs, edge_index)
    assert out.shape == (nodes, HEADS, 10)
    assert out.dtype == dtype
    torch.testing.assert_close(out, expected, **TOLERANCE[dtype])
    for ours, theirs in zip(
        gradients(out, leaves), gradients(expected, leaves), strict=True
    ):
        # Gradients of sums over all rows; relative to the largest.
        scale = theirs.abs().max()
        tolerance = 1e-11 if dtype == torch.float64 else 1e-4
        assert (ours - theirs).abs().max() <= tolerance * scale


@pytest.mark.parametrize('graph', ['causal', 'window'])
def test_kernels_of_large_graphs_give_the_same(graph):
    """Fused attention of torch, whose widths must agree, and row windows."""
    nodes = 301
    conv = layer().float()
    edge_index = causal_graph(nodes).edge_index
    if graph != 'causal':
        edge_index = sliding_window_graph(nodes, 40).edge_index
    inputs = tensors(nodes, HEADS, 2, dtype=torch.float32)
    plan = plan_attention(edge_index, (nodes, nodes))
    backend = 'dense' if graph == 'causal' else 'row_window'
    assert plan.backend == backend
    leaves = [*inputs, *conv.parameters()]
    for x in leaves:
        x.requires_grad_()
    out = conv(*inputs, plan)
    scattered = conv(
        *inputs, plan_attention(edge_index, (nodes, nodes), backend='scatter')
    )
    torch.testing.assert_close(out, scattered, **TOLERANCE[torch.float32])
    for ours, theirs in zip(
        gradients(out, leaves), gradients(scattered, leaves), strict=True
    ):
        scale = theirs.abs().max()
        assert (ours - theirs).abs().max() <= 1e-4 * scale


def test_without_a_second_map_it_is_softmax_attention():
    conv = DifferentialAttentionConv(
        5, HEADS, lambda_init=0.0, elementwise_affine=False, eps=0.0
    ).double()
    with torch.no_grad():
        for name in ('q1', 'k1', 'q2', 'k2'):
            getattr(conv, f'lambda_{name}').zero_()
    assert conv.lambda_full == 0
    query, key, value = tensors(13, HEADS, 2)
    edge_index = GRAPHS['window'](13)
    out, (_, weights) = conv(
        query, key, value, edge_index, return_attention_weights=True
    )
    plain, (_, alpha) = AttentionConv()(
        query[:, :HEADS], key[:, :2], value, edge_index,
        return_attention_weights=True,
    )  # fmt: skip
    assert torch.equal(weights.signed, alpha)
    plain = torch.nn.functional.rms_norm(plain, (10,), eps=0.0)
    torch.testing.assert_close(out, plain)


def test_weights_are_those_of_the_difference():
    conv, nodes = layer(), 13
    edge_index = GRAPHS['window'](nodes)[:, torch.randperm(45)]
    inputs = tensors(nodes, HEADS, 2)
    _, (returned, weights) = conv(
        *inputs, edge_index, return_attention_weights=True
    )
    assert torch.equal(returned, edge_index)
    _, expected = twin(conv, *inputs, edge_index)
    for ours, theirs in zip(weights, expected, strict=True):
        assert ours.shape == (45, HEADS)
        torch.testing.assert_close(
            ours, theirs[:, edge_index[1], edge_index[0]].t()
        )
    total = torch.zeros(nodes, HEADS).double()
    total.index_add_(0, edge_index[1], weights.signed.detach())
    expected = (1 - conv.lambda_full).expand_as(total)
    torch.testing.assert_close(total, expected.detach())
    assert (weights.signed < 0).any()


@pytest.mark.parametrize(('number', 'expected'), [(0, 0.2), (3, 0.5560581)])
def test_the_factor_of_a_layer(number, expected):
    # 0.8 - 0.6 exp(-0.3 l) with l from zero (section 2.1 of the paper).
    conv = DifferentialAttentionConv(64, 2, layer=number)
    assert conv.lambda_init == pytest.approx(expected, abs=1e-6)
    torch.manual_seed(0)
    conv.reset_parameters()
    q1, k1, q2, k2 = (
        getattr(conv, f'lambda_{name}').detach()
        for name in ('q1', 'k1', 'q2', 'k2')
    )
    # The mean square of 256 numbers.
    square = torch.cat([q1, k1, q2, k2]).square().mean()
    assert square.item() == pytest.approx(0.01, rel=0.3)
    expected = math.exp(q1 @ k1) - math.exp(q2 @ k2) + conv.lambda_init
    assert conv.lambda_full.item() == pytest.approx(expected, rel=1e-5)


def test_graphs_come_in_every_form():
    conv, n, size = layer(), 7, (14, 14)
    inputs = tensors(14, HEADS, 2)
    single = causal_graph(n).edge_index
    edge_index = torch.cat([single, single + n], dim=1)
    mask = torch.ones(2, n, n, dtype=torch.bool).tril()
    expected = torch.cat(
        [conv(*(x[i : i + n] for x in inputs), 'causal') for i in (0, n)]
    )
    for given in (
        edge_index,
        plan_attention(edge_index, size, num_graphs=2),
        plan_attention('causal', size, num_graphs=2),
        plan_attention(mask),
    ):
        torch.testing.assert_close(conv(*inputs, given), expected)
    out, _ = conv(
        *inputs,
        plan_attention(mask),
        return_attention_weights=True,
    )
    torch.testing.assert_close(out, expected)


def test_empty_rows_are_zero():
    conv = layer()
    inputs = [x.requires_grad_() for x in tensors(7, HEADS, 2)]
    edge_index = torch.tensor([[0, 1, 2], [0, 4, 4]])
    bias = torch.zeros(3, HEADS, dtype=torch.double)
    bias[0, 1] = -math.inf
    out = conv(*inputs, edge_index, edge_bias=bias)
    assert (out[[1, 2, 3, 5, 6]] == 0).all()
    assert (out[0, 1] == 0).all()
    assert (out[0, 0] != 0).all()
    expected, _ = twin(conv, *inputs, edge_index, edge_bias=bias)
    torch.testing.assert_close(out, expected)
    grads = gradients(out, inputs)
    assert all(grad.isfinite().all() for grad in grads)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_keeps_what_the_inputs_have(dtype):
    nodes, conv = 131, layer().to(dtype)
    inputs = tensors(nodes, HEADS, 2, dtype=dtype)
    out = conv(*inputs, 'causal')
    assert out.dtype == dtype
    truth = conv.double()(*(x.double() for x in inputs), 'causal')
    # Each map's output is rounded, and its weights where torch does so; the
    # norm magnifies what is left of the difference.
    error = (out - truth).square().mean() / truth.square().mean()
    eps = torch.finfo(dtype).eps
    assert error.sqrt() < 3 * eps


def test_gradients_equal_finite_differences():
    conv = layer()
    inputs = [x.requires_grad_() for x in tensors(4, HEADS, 2)]
    parameters = [x.requires_grad_() for x in conv.parameters()]

    def function(*leaves):
        return conv(*leaves[:3], GRAPHS['window'](4))

    assert torch.autograd.gradcheck(
        function, (*inputs, *parameters), fast_mode=True
    )


def test_what_does_not_fit_is_refused():
    conv = layer()
    query, key, value = tensors(7, HEADS, 2)
    for wrong in (
        (query[:, :HEADS], key, value),
        (query, key[:, :2], value),
        (query, key, value[..., :5]),
        (query, key[:5], value),
        (query[..., :4], key[..., :4], value),
        (query[0], key, value),
    ):
        with pytest.raises(ValueError, match='Expected query'):
            conv(*wrong, 'causal')
    with pytest.raises(ValueError, match='positive'):
        DifferentialAttentionConv(0, 2)
    with pytest.raises(ValueError, match='plan for 7 keys and 7'):
        conv(query, key, value, plan_attention('causal', (5, 5)))


@pytest.mark.parametrize('theta', [None, 100.0])
@pytest.mark.parametrize('kv_heads', [1, 3])
def test_the_projected_layer_is_the_formula(kv_heads, theta):
    torch.manual_seed(0)
    module = DifferentialAttention(
        24, 3, kv_heads=kv_heads, rope_theta=theta, layer=1
    ).double()
    x, edge_index = draw(9, 24), GRAPHS['window'](9)
    position = None if theta is None else torch.arange(9) * 2
    query, key, value = module.project(x, position)
    assert query.shape == (9, 6, 4)
    assert key.shape == (9, 2 * kv_heads, 4)
    assert value.shape == (9, kv_heads, 8)
    torch.testing.assert_close(
        value.flatten(1), x @ module.lin_value.weight.t()
    )
    expected, (signed, _, _) = twin(module.conv, query, key, value, edge_index)
    expected = expected.flatten(1) @ module.lin_out.weight.t()
    out = module(x, edge_index, position)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(
        module.attend(query, key, value, edge_index), expected
    )
    out, (_, weights) = module(
        x, edge_index, position, return_attention_weights=True
    )
    torch.testing.assert_close(out, expected)
    on_edges = signed[:, edge_index[1], edge_index[0]].t()
    torch.testing.assert_close(weights.signed, on_edges)
    if theta is None:
        with pytest.raises(ValueError, match='position'):
            module(x, edge_index, torch.arange(9))
    else:
        moved = module(x, edge_index, position + 5)
        torch.testing.assert_close(moved, expected)


def test_an_edge_of_weight_zero_is_no_edge():
    torch.manual_seed(0)
    module = DifferentialAttention(16, 2, history='decay').double()
    x, edge_index = draw(9, 16), GRAPHS['causal'](9)
    weight = torch.ones(edge_index.size(1), dtype=torch.double)
    torch.testing.assert_close(
        module(x, edge_index, edge_weight=weight), module(x, edge_index)
    )
    near = edge_index[1] - edge_index[0] < 3
    torch.testing.assert_close(
        module(x, edge_index, edge_weight=near.double()),
        module(x, edge_index[:, near]),
    )
    with pytest.raises(ValueError, match='non-negative'):
        module(x, edge_index, edge_weight=-weight)


def test_it_has_the_weights_of_attention_and_four_vectors():
    module = DifferentialAttention(48, 3, kv_heads=1, layer=1)
    count = sum(x.numel() for x in module.parameters())
    # Six maps of width 8: queries and output 48 x 48, keys and values a third.
    assert count == 2 * 48 * 48 + 2 * 48 * 16 + 4 * 8 + 16
    with pytest.raises(ValueError, match='multiple'):
        DifferentialAttention(48, 3, kv_heads=2)
    before = [x.clone() for x in module.parameters()]
    module.reset_parameters()
    changed = [
        not torch.equal(x, y)
        for x, y in zip(module.parameters(), before, strict=True)
    ]
    # All but the gains of the norm, which start at one.
    assert changed.count(False) == 1


def test_it_trains_in_a_pyg_model():
    torch.manual_seed(0)
    model = Sequential(
        'x, edge_index',
        [
            (Linear(6, 16), 'x -> x'),
            (
                DifferentialAttention(16, 2, history='runway'),
                'x, edge_index -> x',
            ),
            torch.nn.ReLU(),
            (Linear(16, 1), 'x -> x'),
        ],
    )
    edge_index = GRAPHS['causal'](11)
    x = draw(11, 6, dtype=torch.float32)
    # The mean of all earlier rows: a task for attention.
    target = x[:, :1].cumsum(0) / torch.arange(1, 12).unsqueeze(1)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(150):
        loss = (model(x, edge_index) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(p.grad is not None for p in model.parameters())
    assert losses[-1] < 0.05 * losses[0]
