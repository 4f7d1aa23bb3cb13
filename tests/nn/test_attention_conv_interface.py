import pytest
import torch
from torch_geometric import EdgeIndex

from gnnbridge.nn.attention_conv import AttentionConv
from gnnbridge.nn.naive import naive_attention
from gnnbridge.nn.plan import plan_attention

QUERIES, KEYS, HEADS = 7, 11, 6


def draw(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator)


def inputs(kv_heads=HEADS):
    """Queries and keys of width 5, values of width 3."""
    return [
        draw(QUERIES, HEADS, 5, seed=1),
        draw(KEYS, kv_heads, 5, seed=2),
        draw(KEYS, kv_heads, 3, seed=3),
    ]


def random_edges():
    """Edges in random order."""
    generator = torch.Generator().manual_seed(4)
    query, key = (draw(QUERIES, KEYS, seed=4) > 0).nonzero().t()
    order = torch.randperm(key.numel(), generator=generator)
    return torch.stack([key, query])[:, order]


def test_attention_weights_are_returned_on_request():
    tensors, edge_index = inputs(kv_heads=3), random_edges()
    conv, i, j = AttentionConv(), edge_index[1], edge_index[0]
    out, (returned, alpha) = conv(
        *tensors, edge_index, return_attention_weights=True
    )
    assert torch.equal(returned, edge_index)
    assert alpha.shape == (edge_index.size(1), HEADS)
    expected, attention = naive_attention(*tensors, edge_index)
    torch.testing.assert_close(alpha, attention[:, i, j].t())
    torch.testing.assert_close(out, expected)
    for no in (False, None, 0):
        plain = conv(*tensors, edge_index, return_attention_weights=no)
        torch.testing.assert_close(plain, out)


def test_a_plan_stands_for_its_graph():
    tensors, edge_index = inputs(), random_edges()
    conv = AttentionConv()
    plan = plan_attention(edge_index, (KEYS, QUERIES))
    out = conv(*tensors, edge_index)
    assert torch.equal(conv(*tensors, plan), out)
    assert torch.equal(conv(*tensors, plan.to('cpu')), out)
    kept = EdgeIndex(edge_index, sparse_size=(KEYS, QUERIES))
    assert torch.equal(conv(*tensors, kept), out)
    turned = plan_attention(edge_index[:, :0], (QUERIES, KEYS))
    message = 'a plan for 11 keys and 7 queries .got one for 7 and 11'
    with pytest.raises(ValueError, match=message):
        conv(*tensors, turned)


def test_a_graph_that_does_not_fit_is_refused():
    tensors, conv = inputs(), AttentionConv()
    with pytest.raises(ValueError, match='key 0 -> query 7 at edge 1'):
        conv(*tensors, torch.tensor([[0, 0], [0, 7]]))
    with pytest.raises(ValueError, match='key 4 -> query 1 at edges 0 and 2'):
        conv(*tensors, torch.tensor([[4, 0, 4], [1, 1, 1]]))
    with pytest.raises(TypeError, match=r'int64 tensor \(got torch.int32\)'):
        conv(*tensors, random_edges().int())


def test_tensors_that_do_not_fit_are_refused():
    query, key, value = inputs()
    edge_index, conv = random_edges(), AttentionConv()
    for bad, message in [
        ((query[0], key, value), r'query \[Nq, H, D\]'),
        ((query[..., 1:], key, value), 'of the same width'),
        ((query, key[1:], value), 'one value for each key'),
        ((query, key[:, 1:], value), 'one value for each key'),
        ((query, key[:, :4], value[:, :4]), r'a multiple .*got 6 and 4'),
        ((query, key[:, :0], value[:, :0]), r'a multiple .*got 6 and 0'),
    ]:
        with pytest.raises(ValueError, match=message):
            conv(*bad, edge_index)
    num_edges = edge_index.size(1)
    for shape in [(num_edges - 1,), (num_edges, 2), (num_edges, 1, 6)]:
        with pytest.raises(ValueError, match="'edge_bias' of shape"):
            conv(query, key, value, edge_index, edge_bias=torch.zeros(shape))
    with pytest.raises(ValueError, match=r"'s_aux' of shape \[6\] or \[7, 6\]"):
        conv(query, key, value, edge_index, s_aux=torch.zeros(7))
    for softcap in (0.0, -1.0):
        with pytest.raises(ValueError, match="'softcap' to be positive"):
            conv(query, key, value, edge_index, softcap=softcap)


def uniform_attention(conv, nodes=41, heads=3):
    """Attention weights as the layer applies them, and those it returns.

    The values are one-hot, so the output is the attention matrix itself.
    """
    edge_index = torch.ones(nodes, nodes).nonzero().t()
    zeros = torch.zeros(nodes, heads, 2)
    value = torch.eye(nodes).unsqueeze(1).expand(-1, heads, -1)
    out, (_, alpha) = conv(
        zeros, zeros, value, edge_index, return_attention_weights=True
    )
    return out, alpha


def test_dropout_of_attention_weights():
    conv = AttentionConv(dropout=0.25)
    torch.manual_seed(0)
    applied, alpha = uniform_attention(conv)
    # What is kept grows by 1 / 0.75, so the expectation stays.
    kept = applied[applied != 0]
    torch.testing.assert_close(kept, torch.full_like(kept, 4 / 3 / 41))
    # 5043 independent weights: four standard deviations are 0.025.
    assert abs(kept.numel() / applied.numel() - 0.75) < 0.025
    torch.testing.assert_close(alpha, torch.full_like(alpha, 1 / 41))
    torch.manual_seed(0)
    assert torch.equal(uniform_attention(conv)[0], applied)
    assert not torch.equal(uniform_attention(conv)[0], applied)
    still, _ = uniform_attention(conv.eval())
    torch.testing.assert_close(still, torch.full_like(still, 1 / 41))


@pytest.mark.parametrize('dropout', [-0.1, 1.0, float('nan')])
def test_dropout_out_of_range_is_refused(dropout):
    with pytest.raises(ValueError, match=r"'dropout' to be in \[0, 1\)"):
        AttentionConv(dropout)


def test_the_other_flow_is_refused():
    with pytest.raises(ValueError, match="'flow' to be 'source_to_target'"):
        AttentionConv(flow='target_to_source')


def test_message_passing_runs_compiled_templates():
    """PyG falls back to a slow path, without a word, if it cannot read a hook.

    It then leaves ``propagate`` and ``edge_updater`` of the base class.
    """
    conv = AttentionConv()
    assert 'AttentionConv_propagate' in conv.propagate.__module__
    assert 'AttentionConv_edge_updater' in conv.edge_updater.__module__


@pytest.mark.parametrize('kv_heads', [1, 2, 6])
def test_keys_and_values_are_not_copied_per_head(kv_heads):
    seen = {}

    def look(conv, args):
        seen.update({k: x.shape for k, x in args[-1].items() if k[-2:] == '_j'})

    conv, edge_index = AttentionConv(), random_edges()
    conv.register_edge_update_forward_pre_hook(look)
    conv.register_message_forward_pre_hook(look)
    conv(*inputs(kv_heads), edge_index)
    num_edges = edge_index.size(1)
    assert seen == {
        'key_j': (num_edges, kv_heads, 5),
        'value_j': (num_edges, kv_heads, 3),
    }


def test_it_compiles_as_one_graph():
    tensors, edge_index = inputs(kv_heads=2), random_edges()
    options = {
        'edge_bias': draw(edge_index.size(1), HEADS, seed=5),
        's_aux': draw(HEADS, seed=6),
        'softcap': 1.5,
    }
    conv = AttentionConv()
    compiled = torch.compile(conv, backend='eager', fullgraph=True)
    out = compiled(*tensors, edge_index, **options)
    expected = conv(*tensors, edge_index, **options)
    torch.testing.assert_close(out, expected)


def test_repr():
    assert str(AttentionConv(dropout=0.5)) == 'AttentionConv(dropout=0.5)'
