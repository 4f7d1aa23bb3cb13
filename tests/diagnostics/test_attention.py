import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import entropy
from torch import Tensor
from torch_geometric.data import Batch, Data

from gnnbridge.diagnostics.attention import (
    attention_entropy,
    sink_rate,
    sink_score,
    uniform_sink_score,
)
from gnnbridge.graph.cache import cache_graph
from gnnbridge.graph.dense import from_attention


def random_heads(heads: int, size: int, seed: int) -> Tensor:
    """Causal attention ``[H, T, T]`` with heads from flat to peaked."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(heads, size, size, generator=generator)
    logits = logits * torch.arange(1.0, heads + 1).reshape(-1, 1, 1)
    logits[..., 0] += torch.linspace(-2, 4, heads).unsqueeze(1)
    mask = torch.ones(size, size).triu(1).bool()
    return logits.masked_fill(mask, -math.inf).softmax(-1)


def uniform_heads(heads: int, size: int) -> Tensor:
    A = torch.ones(heads, size, size).tril()
    return A / A.sum(-1, keepdim=True)


def received(A: np.ndarray) -> np.ndarray:
    """Column sums over the number of queries that can see the column."""
    size = len(A)
    return np.array(
        [A[:, k].sum() / (size - k) for k in range(size)], dtype=np.float64
    )


def test_uniform_attention_is_the_null() -> None:
    for size in (1, 2, 7, 64):
        score = sink_score(uniform_heads(3, size), tokens=size)
        expected = torch.full((3,), uniform_sink_score(size))
        torch.testing.assert_close(score, expected)
    assert uniform_sink_score(3) == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)
    assert uniform_sink_score(64) == pytest.approx(0.0741, abs=5e-5)
    with pytest.raises(ValueError, match='at least 1'):
        uniform_sink_score(0)


def test_pure_sink_and_identity_are_the_extremes() -> None:
    sink = torch.zeros(1, 9, 9)
    sink[..., 0] = 1
    heads = torch.cat([sink, torch.eye(9).unsqueeze(0)])
    graph = from_attention(heads)
    torch.testing.assert_close(
        sink_score(graph, tokens=9), torch.tensor([[1.0, 1 / 9]])
    )
    assert sink_rate(graph, tokens=9).tolist() == [0.5]
    assert attention_entropy(graph).tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize('token', [0, 3, 10])
@pytest.mark.parametrize('tokens', [11, 13, None])
def test_score_equals_loops(token: int, tokens: int | None) -> None:
    layers = [random_heads(4, 13, seed) for seed in (0, 1)]
    end = 13 if tokens is None else tokens
    expected = torch.tensor(
        np.array(
            [
                [received(A.numpy()[:end, :end])[token] for A in heads]
                for heads in layers
            ]
        ),
        dtype=torch.float32,
    )
    graphs = [from_attention(heads) for heads in layers]
    score = sink_score(graphs, tokens=tokens, token=token)
    torch.testing.assert_close(score, expected)
    dense = torch.stack(layers)
    torch.testing.assert_close(
        sink_score(dense, tokens=tokens, token=token), expected
    )
    rate = (expected > 0.2).float().mean(1)
    options: dict[str, Any] = {'tokens': tokens, 'token': token}
    assert torch.equal(sink_rate(graphs, epsilon=0.2, **options), rate)
    assert torch.equal(sink_rate(dense, epsilon=0.2, **options), rate)


def test_score_of_two_way_attention_leaves_earlier_queries_out() -> None:
    heads = torch.rand(2, 7, 7, generator=torch.Generator().manual_seed(2))
    heads = heads / heads.sum(-1, keepdim=True)
    expected = heads[:, 3:6, 3].mean(1)
    for graphs in (from_attention(heads), heads.unsqueeze(0)):
        torch.testing.assert_close(
            sink_score(graphs, tokens=6, token=3)[0], expected
        )


def test_the_threshold_comes_before_the_mean_over_sequences() -> None:
    sink = torch.zeros(1, 5, 5)
    sink[..., 0] = 1
    parts = [from_attention(A) for A in (sink, torch.eye(5).unsqueeze(0))]
    batch = Batch.from_data_list(parts)
    # The mean score passes 0.3, but only one of the two sequences does.
    torch.testing.assert_close(
        sink_score(batch, tokens=5), torch.tensor([[0.6]])
    )
    assert sink_rate(batch, tokens=5).tolist() == [0.5]


def test_a_batch_of_unequal_sequences() -> None:
    heads = [random_heads(3, size, seed=size) for size in (7, 12, 9)]
    layer = Batch.from_data_list([from_attention(A) for A in heads])
    for tokens in (6, None):
        parts = [sink_score(A, tokens=tokens, token=2) for A in heads]
        torch.testing.assert_close(
            sink_score([layer, layer], tokens=tokens, token=2),
            torch.stack(parts).mean(0).expand(2, 3),
        )
    torch.testing.assert_close(
        attention_entropy(layer)[0],
        torch.stack([attention_entropy(A) for A in heads]).mean(0),
    )


def test_entropy_equals_scipy() -> None:
    heads = random_heads(3, 8, 5)
    expected = torch.tensor(
        [entropy(A.numpy(), axis=1).mean() for A in heads.double()],
        dtype=torch.float32,
    )
    torch.testing.assert_close(attention_entropy(heads), expected)
    torch.testing.assert_close(
        attention_entropy(from_attention(heads))[0], expected
    )


def test_entropy_of_uniform_attention() -> None:
    expected = math.lgamma(11 + 1) / 11  # mean of ln 1, ..., ln 11
    out = attention_entropy(uniform_heads(2, 11).unsqueeze(0))
    torch.testing.assert_close(out, torch.full((1, 2), expected))


def test_entropy_counts_queries_that_attend() -> None:
    graph = cache_graph(2, 6)
    graph.edge_attr = torch.where(
        graph.edge_index[1] == 5, 1 / 6, 1 / 5
    ).unsqueeze(1)
    expected = (math.log(5) + math.log(6)) / 2
    assert attention_entropy(graph).item() == pytest.approx(expected)
    dense = torch.zeros(1, 6, 6)
    dense[0, graph.edge_index[1], graph.edge_index[0]] = graph.edge_attr[:, 0]
    assert attention_entropy(dense).item() == pytest.approx(expected)
    with pytest.raises(ValueError, match='cache graph'):
        sink_rate(graph, tokens=None)


def test_low_precision_is_upcast() -> None:
    heads = random_heads(2, 9, 6).bfloat16()
    score = sink_score(heads, tokens=9)
    assert score.dtype == torch.float32
    assert torch.equal(score, sink_score(heads.float(), tokens=9))
    assert attention_entropy(heads).dtype == torch.float32
    graph = from_attention(heads.float())
    graph.edge_attr = graph.edge_attr.half()
    assert sink_score(graph, tokens=9).dtype == torch.float32
    assert sink_rate(heads.double(), tokens=9).dtype == torch.float64


def test_leading_dimensions_stay() -> None:
    heads = torch.stack([random_heads(3, 8, 7)] * 10).reshape(2, 5, 3, 8, 8)
    assert sink_rate(heads, tokens=8).shape == (2, 5)
    assert sink_score(heads, tokens=8).shape == (2, 5, 3)
    assert attention_entropy(heads).shape == (2, 5, 3)
    assert sink_rate(heads[0, 0], tokens=8).shape == ()


def test_layers_may_differ_in_heads_for_the_rate_alone() -> None:
    graphs = [from_attention(random_heads(h, 8, h)) for h in (2, 3)]
    assert sink_rate(graphs, tokens=8).shape == (2,)
    for measure in (lambda g: sink_score(g, tokens=8), attention_entropy):
        with pytest.raises(ValueError, match=r'\[2, 3\]'):
            measure(graphs)


def test_gradients_flow_to_the_attention() -> None:
    heads = random_heads(2, 5, 8).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda A: sink_score(A, tokens=4), heads)
    graph = from_attention(heads)
    (sink_score(graph, tokens=4).sum() * 4).backward()
    expected = torch.zeros(2, 5, 5, dtype=torch.float64)
    expected[:, :4, 0] = 1
    torch.testing.assert_close(heads.grad, expected)


def graph_of(size: int) -> Data:
    return from_attention(random_heads(2, size, 9))


@pytest.mark.parametrize(
    ('graphs', 'options', 'error', 'match'),
    [
        (graph_of(63), {}, ValueError, 'got one of 63.*tokens=None'),
        (graph_of(6), {'tokens': 4, 'token': 4}, ValueError, '0 to 3'),
        (graph_of(6), {'tokens': None, 'token': -1}, ValueError, '0 to 5'),
        (from_attention(torch.eye(3)), {}, ValueError, 'edge_attr'),
        ([], {}, TypeError, 'none'),
        ([torch.eye(3)], {}, TypeError, 'Tensor'),
        (torch.eye(3), {}, ValueError, r'\[..., H, T, T\]'),
        (torch.ones(2, 3, 4), {}, ValueError, r'\(2, 3, 4\)'),
        (torch.ones(1, 3, 3).long(), {}, TypeError, 'int64'),
    ],
)
def test_input_that_does_not_fit(
    graphs: Any, options: dict[str, Any], error: type, match: str
) -> None:
    with pytest.raises(error, match=match):
        sink_rate(graphs, **options)


def test_entropy_refuses_negative_attention() -> None:
    heads = uniform_heads(1, 3)
    heads[0, 2, 1] = -0.2
    with pytest.raises(ValueError, match=r'-0\.2'):
        attention_entropy(heads)
    with pytest.raises(ValueError, match=r'-0\.2'):
        attention_entropy(from_attention(heads, weights='signed'))
