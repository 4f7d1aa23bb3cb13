import math

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention as sdpa

from gnnbridge.nn.naive import naive_attention

INF = float('inf')
# float64 sums of at most some tens of terms of size one, in another order.
TIGHT = {'rtol': 1e-12, 'atol': 1e-13}


def draw(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, dtype=torch.float64, generator=generator)


def inputs(queries, keys, heads=6, kv_heads=6, width=5, value_width=3):
    return (
        draw(queries, heads, width, seed=1),
        draw(keys, kv_heads, width, seed=2),
        draw(keys, kv_heads, value_width, seed=3),
    )


def edges_of(mask):
    """Edges key -> query where ``mask[query, key]`` is True."""
    query, key = mask.nonzero().t()
    return torch.stack([key, query])


def torch_attention(query, key, value, **kwargs):
    """PyTorch's own attention on ``[N, H, D]`` tensors."""
    heads_first = [x.transpose(0, 1) for x in (query, key, value)]
    return sdpa(*heads_first, enable_gqa=True, **kwargs).transpose(0, 1)


@pytest.mark.parametrize('kv_heads', [1, 2, 3, 6])
def test_causal_attention_equals_torch(kv_heads):
    tensors = inputs(11, 11, kv_heads=kv_heads)
    edge_index = edges_of(torch.ones(11, 11, dtype=torch.bool).tril())
    out, attention = naive_attention(*tensors, edge_index)
    expected = torch_attention(*tensors, is_causal=True)
    torch.testing.assert_close(out, expected, **TIGHT)
    assert attention.shape == (6, 11, 11)
    assert (attention.triu(1) == 0).all()


@pytest.mark.parametrize('kv_heads', [1, 2, 3, 6])
def test_masked_attention_and_its_gradients_equal_torch(kv_heads):
    tensors = [x.requires_grad_() for x in inputs(7, 9, kv_heads=kv_heads)]
    mask = draw(7, 9, seed=4) > 0.3
    mask[:, 0] = True
    bias = draw(7, 9, seed=5)
    edge_index = edges_of(mask)
    key, query = edge_index
    out, _ = naive_attention(
        *tensors, edge_index, scale=0.7, edge_bias=bias[query, key]
    )
    expected = torch_attention(
        *tensors, attn_mask=bias.masked_fill(~mask, -INF), scale=0.7
    )
    torch.testing.assert_close(out, expected, **TIGHT)
    cotangent = draw(7, 6, 3, seed=6)
    grads = torch.autograd.grad(out, tensors, cotangent)
    expected = torch.autograd.grad(expected, tensors, cotangent)
    for grad, other in zip(grads, expected, strict=True):
        torch.testing.assert_close(grad, other, **TIGHT)


def test_bias_per_head_equals_torch():
    tensors = inputs(7, 9)
    bias = draw(6, 7, 9, seed=4)
    edge_index = edges_of(torch.ones(7, 9, dtype=torch.bool))
    key, query = edge_index
    edge_bias = bias[:, query, key].t()
    out, _ = naive_attention(*tensors, edge_index, edge_bias=edge_bias)
    expected = torch_attention(*tensors, attn_mask=bias)
    torch.testing.assert_close(out, expected, **TIGHT)


@pytest.mark.parametrize('per_query', [False, True])
def test_sink_of_gpt_oss_by_hand(per_query):
    # transformers, gpt_oss/modeling_gpt_oss.py: the sink is one more logit
    # in the row, whose probability is dropped after the softmax.
    query, key, value = inputs(2, 3, heads=1, kv_heads=1)
    sink = torch.tensor([0.8], dtype=torch.float64)
    if per_query:
        sink = torch.tensor([[-9.0], [0.8]], dtype=torch.float64)
    edge_index = torch.tensor([[0, 2], [1, 1]])
    out, attention = naive_attention(query, key, value, edge_index, s_aux=sink)
    q, k, v = query[1, 0].tolist(), key[:, 0].tolist(), value[:, 0].tolist()
    logits = [
        sum(a * b for a, b in zip(q, k[j], strict=True)) / math.sqrt(5)
        for j in (0, 2)
    ]
    combined = [*logits, 0.8]
    combined = [logit - max(combined) for logit in combined]
    total = sum(math.exp(logit) for logit in combined)
    p0, p2 = (math.exp(logit) / total for logit in combined[:-1])
    assert attention[0, 1].tolist() == pytest.approx([p0, 0.0, p2], rel=1e-13)
    expected = [p0 * a + p2 * b for a, b in zip(v[0], v[2], strict=True)]
    assert out[1, 0].tolist() == pytest.approx(expected, rel=1e-12)


def test_softcap_of_gemma_by_hand():
    # Gemma 2 (https://arxiv.org/abs/2408.00118, section 2): before the mask.
    query = torch.tensor([[[2.0]]], dtype=torch.float64)
    key = torch.tensor([[[3.0]], [[-1.0]]], dtype=torch.float64)
    edge_index = torch.tensor([[0, 1], [0, 0]])
    _, attention = naive_attention(
        query,
        key,
        key,
        edge_index,
        softcap=5.0,
        edge_bias=torch.tensor([0.25, 0.0], dtype=torch.float64),
    )
    odds = math.exp(5 * math.tanh(6 / 5) + 0.25 - 5 * math.tanh(-2 / 5))
    assert attention[0, 0, 0] == pytest.approx(odds / (1 + odds), rel=1e-14)


def test_a_row_without_edges_is_zero_with_zero_gradient():
    tensors = [x.requires_grad_() for x in inputs(4, 3)]
    edge_index = torch.tensor([[0, 1, 2], [0, 0, 3]])
    bias = torch.tensor([0.0, 1.0, -INF])
    out, attention = naive_attention(*tensors, edge_index, edge_bias=bias)
    assert (out[1:] == 0).all()
    assert (attention[:, 1:] == 0).all()
    grads = torch.autograd.grad(out.square().sum(), tensors)
    assert all(grad.isfinite().all() for grad in grads)
    assert (grads[0][1:] == 0).all()
    assert grads[0][0].any()


def test_half_precision_is_upcast():
    tensors = [x.bfloat16() for x in inputs(7, 7)]
    edge_index = edges_of(torch.ones(7, 7, dtype=torch.bool).tril())
    out, attention = naive_attention(*tensors, edge_index)
    assert out.dtype == attention.dtype == torch.float32
    truth, _ = naive_attention(*(x.double() for x in tensors), edge_index)
    # float32 rounding of a few sums of size one.
    torch.testing.assert_close(out.double(), truth, rtol=1e-5, atol=1e-6)
