import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gnnbridge.nn.edge_softmax import edge_softmax
from gnnbridge.nn.naive import naive_attention
from gnnbridge.nn.plan import plan_attention
from gnnbridge.nn.transformer_layer import GraphTransformerLayer

NODES, CHANNELS = 9, 12
# float64 through two norms and three matrix products, in another order.
TIGHT = {'rtol': 1e-11, 'atol': 1e-12}


def build(heads=3, **kwargs):
    """A float64 layer with weights at which no part is near the identity."""
    torch.manual_seed(0)
    layer = GraphTransformerLayer(CHANNELS, heads, **kwargs).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return layer


def random_graph(seed=1):
    """States, unsorted edges, and the mask they stand for; row 2 is empty."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(NODES, NODES, generator=generator) < 0.6
    mask[2] = False
    i, j = mask.nonzero().t()
    order = torch.randperm(i.numel(), generator=generator)
    x = torch.randn(NODES, CHANNELS, dtype=torch.float64, generator=generator)
    return x, torch.stack([j, i])[:, order], mask


def rotate(x, position, theta):
    """Rotary embedding as a product of complex numbers."""
    half = x.size(-1) // 2
    frequency = theta ** (-torch.arange(half, dtype=torch.float64) / half)
    angle = torch.outer(position.double(), frequency)
    turn = torch.polar(torch.ones_like(angle), angle).unsqueeze(1)
    turned = torch.complex(x[..., :half], x[..., half:]) * turn
    return torch.cat([turned.real, turned.imag], dim=-1)


def norm(x, module):
    if isinstance(module, nn.RMSNorm):
        return F.rms_norm(x, (CHANNELS,), module.weight)
    return F.layer_norm(x, (CHANNELS,), module.weight, module.bias)


def project(layer, x, position=None):
    """Queries, keys and values ``[N, heads, width]``, keys for all heads."""
    hidden = norm(x, layer.norm1)
    width = CHANNELS // layer.heads
    query, key, value = (
        F.linear(hidden, lin.weight, lin.bias).unflatten(1, (-1, width))
        for lin in (layer.lin_query, layer.lin_key, layer.lin_value)
    )
    if layer.rope_theta is not None:
        if position is None:
            position = torch.arange(NODES)
        query = rotate(query, position, layer.rope_theta)
        key = rotate(key, position, layer.rope_theta)
    return query, key, value


def finish(layer, x, out, act):
    """The rest of a pre-norm block, from the output of attention on."""
    x = x + F.linear(out.flatten(1), layer.lin_out.weight, layer.lin_out.bias)
    first, _, second = layer.mlp
    hidden = F.linear(norm(x, layer.norm2), first.weight, first.bias)
    return x + F.linear(act(hidden), second.weight, second.bias)


def dense_block(layer, x, bias, *, act=F.gelu, position=None):
    """A pre-norm block with PyTorch's attention under a ``[N, N]`` bias."""
    query, key, value = project(layer, x, position)
    out = F.scaled_dot_product_attention(
        query.transpose(0, 1),
        key.transpose(0, 1),
        value.transpose(0, 1),
        attn_mask=bias,
        enable_gqa=True,
    ).transpose(0, 1)
    # Attention to nothing is zero here, whatever PyTorch makes of it.
    empty = (bias == float('-inf')).all(dim=1)
    return finish(layer, x, out.masked_fill(empty.view(-1, 1, 1), 0.0), act)


def as_bias(mask):
    return torch.zeros(mask.shape).double().masked_fill(~mask, float('-inf'))


@pytest.mark.parametrize(
    ('kwargs', 'act'),
    [
        ({}, F.gelu),
        ({'kv_heads': 1, 'norm': 'rms_norm'}, F.gelu),
        ({'heads': 2, 'act': 'silu', 'hidden_channels': 7}, F.silu),
        ({'rope_theta': 10.0}, F.gelu),
        ({'heads': 6, 'kv_heads': 2, 'rope_theta': 1e4, 'act': 'relu'}, F.relu),
    ],
)
def test_the_layer_equals_a_dense_block(kwargs, act):
    layer = build(**kwargs)
    x, edge_index, mask = random_graph()
    out = layer(x, edge_index)
    assert out.shape == x.shape
    expected = dense_block(layer, x, as_bias(mask), act=act)
    torch.testing.assert_close(out, expected, **TIGHT)
    grads = torch.autograd.grad(out.square().sum(), layer.parameters())
    expected = torch.autograd.grad(expected.square().sum(), layer.parameters())
    # Gradients of size 1e3.
    for grad, other in zip(grads, expected, strict=True):
        torch.testing.assert_close(grad, other, rtol=1e-10, atol=1e-9)


def test_gradients_reach_all_parameters():
    x, edge_index, _ = random_graph()
    layer = build(rope_theta=1e4, act='prelu')
    layer(x, edge_index).square().sum().backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name
    # Without positions a bias of the keys adds a constant to each row of
    # scores, which the softmax takes out again.
    layer = build()
    layer(x, edge_index).square().sum().backward()
    size = layer.lin_key.weight.grad.abs().max()
    assert layer.lin_key.bias.grad.abs().max() < 1e-12 * size


def test_the_graph_is_the_whole_truth():
    """Changing a node changes those that it has an edge to, and no other."""
    layer = build(rope_theta=1e4)
    x, edge_index, mask = random_graph()
    moved = x.clone()
    # A constant would be taken away again by the norm.
    moved[4] += torch.linspace(-1, 1, x.size(1), dtype=x.dtype)
    changed = (layer(moved, edge_index) != layer(x, edge_index)).any(dim=1)
    reached = mask[:, 4].clone()
    reached[4] = True
    assert torch.equal(changed, reached)
    assert not reached.all()


def test_only_differences_of_positions_count():
    layer = build(rope_theta=100.0)
    x, edge_index, mask = random_graph()
    out = layer(x, edge_index)
    position = torch.arange(NODES)
    assert torch.equal(layer(x, edge_index, position), out)
    # Angles of up to 1000 lose three digits.
    shifted = layer(x, edge_index, position + 1000)
    torch.testing.assert_close(shifted, out, rtol=1e-9, atol=1e-9)
    stretched = layer(x, edge_index, 3 * position)
    assert (stretched - out).abs().max() > 1e-2
    position = torch.rand(NODES, dtype=torch.float64) * 20
    expected = dense_block(layer, x, as_bias(mask), position=position)
    torch.testing.assert_close(
        layer(x, edge_index, position), expected, **TIGHT
    )


def test_positions_that_do_not_fit_are_refused():
    x, edge_index, _ = random_graph()
    position = torch.arange(NODES)
    with pytest.raises(ValueError, match=r"no 'position'.*rope_theta"):
        build()(x, edge_index, position)
    for bad in (position[:1], position[1:], position.unsqueeze(1)):
        with pytest.raises(ValueError, match=r"'position' of shape \[9\]"):
            build(rope_theta=1e4)(x, edge_index, bad)


def test_edge_weights_multiply_attention_and_renormalise():
    layer = build(kv_heads=1)
    x, edge_index, mask = random_graph()
    edge_weight = torch.rand(edge_index.size(1), dtype=torch.float64) + 0.1
    edge_weight[::3] = 2.0
    _, (_, plain) = layer(x, edge_index, return_attention_weights=True)
    out, (returned, alpha) = layer(
        x, edge_index, None, edge_weight, return_attention_weights=True
    )
    assert torch.equal(returned, edge_index)
    expected = edge_weight.unsqueeze(-1) * plain
    for i in range(NODES):
        row = expected[edge_index[1] == i]
        torch.testing.assert_close(
            alpha[edge_index[1] == i], row / row.sum(dim=0)
        )
    bias = as_bias(mask)
    bias[edge_index[1], edge_index[0]] = edge_weight.log()
    torch.testing.assert_close(out, dense_block(layer, x, bias), **TIGHT)
    ones = torch.ones_like(edge_weight)
    assert torch.equal(
        layer(x, edge_index, edge_weight=ones), layer(x, edge_index)
    )


def test_an_integer_weight_counts_copies_of_a_key():
    layer = build()
    x, edge_index, _ = random_graph()
    copies = torch.randint(0, 4, (edge_index.size(1),))
    out = layer(x, edge_index, edge_weight=copies)
    # Every key three times; a query sees as many of them as the weight says.
    query, key, value = project(layer, x)
    edges = [
        (3 * j + copy, i)
        for (j, i), weight in zip(edge_index.t().tolist(), copies, strict=True)
        for copy in range(int(weight))
    ]
    attended, _ = naive_attention(
        query,
        key.repeat_interleave(3, dim=0),
        value.repeat_interleave(3, dim=0),
        torch.tensor(edges).t(),
    )
    expected = finish(layer, x, attended, F.gelu)
    # The logarithm of an integer weight is float32.
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)
    out = layer(x, edge_index, edge_weight=copies.double())
    torch.testing.assert_close(out, expected, **TIGHT)


def test_weight_zero_removes_an_edge():
    layer = build()
    x, edge_index, _ = random_graph()
    weight = torch.rand(edge_index.size(1), dtype=torch.float64) + 0.1
    weight[::4] = 0.0
    weight[edge_index[1] == 5] = 0.0
    kept = weight > 0
    out = layer(x, edge_index, edge_weight=weight.requires_grad_())
    expected = layer(x, edge_index[:, kept], edge_weight=weight[kept])
    torch.testing.assert_close(out, expected, **TIGHT)
    (grad,) = torch.autograd.grad(out.square().sum(), weight)
    (other,) = torch.autograd.grad(expected.square().sum(), weight)
    assert (grad[~kept] == 0).all()
    torch.testing.assert_close(grad, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize('bad', [-0.5, float('nan'), float('inf')])
def test_a_weight_that_is_none_is_named(bad):
    x, edge_index, _ = random_graph()
    weight = torch.ones(edge_index.size(1))
    weight[3] = bad
    with pytest.raises(ValueError, match=f'non-negative .got {bad} at edge 3'):
        build()(x, edge_index, edge_weight=weight)


def test_low_precision_weights_are_upcast():
    layer = build().float()
    x, edge_index, _ = random_graph()
    weight = (torch.rand(edge_index.size(1)) + 0.1).bfloat16()
    out = layer(x.float(), edge_index, edge_weight=weight)
    expected = layer(x.float(), edge_index, edge_weight=weight.float())
    assert torch.equal(out, expected)


def test_a_plan_stands_for_its_graph():
    layer = build()
    x, edge_index, _ = random_graph()
    plan = plan_attention(edge_index, (NODES, NODES))
    assert torch.equal(layer(x, plan), layer(x, edge_index))
    out, (returned, alpha) = layer(x, plan, return_attention_weights=True)
    torch.testing.assert_close(out, layer(x, edge_index))
    assert torch.equal(returned, edge_index)
    query, key, _ = project(layer, x)
    score = (query[edge_index[1]] * key[edge_index[0]]).sum(dim=-1) / 2.0
    expected = edge_softmax(score, edge_index[1], NODES)
    torch.testing.assert_close(alpha, expected)


def test_dropout_acts_on_both_residual_branches():
    torch.manual_seed(0)
    layer = GraphTransformerLayer(8, 2, dropout=0.9)
    x = torch.randn(500, 8)
    edge_index = torch.arange(500).repeat(2, 1)
    # An entry stays as it is when both branches drop it: 0.81 of 4000, with a
    # standard deviation of 0.006.
    same = (layer(x, edge_index) == x).double().mean()
    assert abs(same - 0.81) < 0.025
    layer.eval()
    out = layer(x, edge_index)
    assert (out != x).all()
    assert torch.equal(layer(x, edge_index), out)
    # The only edge of each node is a loop: attention to it is dropped too.
    layer.train()
    layer.dropout.p = 0.0
    plain = layer(x, edge_index)
    changed = (plain != out).any(dim=1).double().mean()
    # Kept for both heads, and then ten times as large, or dropped: no row is
    # what it is without dropout.
    assert changed == 1.0


@pytest.mark.parametrize('norm', ['layer_norm', 'rms_norm'])
def test_reset_parameters_draws_all_weights_anew(norm):
    layer = GraphTransformerLayer(CHANNELS, 3, norm=norm, act='prelu')
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.fill_(7.0)
    torch.manual_seed(0)
    layer.reset_parameters()
    assert all((p != 7).all() for p in layer.parameters())
    first = {k: v.clone() for k, v in layer.state_dict().items()}
    layer.reset_parameters()
    for name, parameter in layer.named_parameters():
        owner = layer.get_submodule(name.rpartition('.')[0])
        drawn = isinstance(owner, nn.Linear)  # the others start as constants
        assert torch.equal(parameter, first[name]) != drawn, name


@pytest.mark.parametrize(
    ('args', 'kwargs', 'message'),
    [
        ((10, 3), {}, r"'channels' to be a multiple .*got 10, 3 and 3"),
        ((12, 6), {'kv_heads': 4}, 'got 12, 6 and 4'),
        ((12, 0), {}, 'got 12, 0 and 0'),
        ((12, 6), {'kv_heads': 0}, 'got 12, 6 and 0'),
        ((12, 4), {'rope_theta': 1e4}, 'even width .*got 3'),
        ((12, 4), {'norm': 'batch_norm'}, "'layer_norm', 'rms_norm'.*batch"),
        ((12, 4), {'dropout': 1.0}, "'dropout' to be in"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(args, kwargs, message):
    with pytest.raises(ValueError, match=message):
        GraphTransformerLayer(*args, **kwargs)


def test_repr():
    layer = GraphTransformerLayer(CHANNELS, 2)
    assert str(layer) == 'GraphTransformerLayer(12, heads=2)'
