import math
from itertools import pairwise
from typing import Any

import architectures
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.data import Batch

from gnnbridge.diagnostics.attention import (
    sink_rate,
    sink_score,
    uniform_sink_score,
)
from gnnbridge.diagnostics.sinks import (
    first_attention_rate,
    sink_edge_rate,
    sink_excess,
    sink_rates_by_token,
)
from gnnbridge.graph.causal import sliding_window_graph
from gnnbridge.graph.dense import from_attention, to_attention
from gnnbridge.models.capture import capture

MEASURES = [
    sink_edge_rate,
    first_attention_rate,
    sink_excess,
    sink_rates_by_token,
]


def random_heads(
    heads: int, size: int, seed: int, *, causal: bool = True
) -> Tensor:
    """Attention ``[H, T, T]``, some heads with a sink at 0, some at 2."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(heads, size, size, generator=generator).double()
    logits[..., 0] += torch.linspace(-1, 4, heads).unsqueeze(1)
    logits[..., min(2, size - 1)] += torch.linspace(3, -1, heads).unsqueeze(1)
    if causal:
        mask = torch.ones(size, size).triu(1).bool()
        logits = logits.masked_fill(mask, -math.inf)
    return logits.softmax(-1)


def uniform_heads(heads: int, size: int, *, causal: bool = True) -> Tensor:
    A = torch.ones(heads, size, size)
    A = A.tril() if causal else A
    return A / A.sum(-1, keepdim=True)


def edge_rate(A: np.ndarray, tau: float, token: int, end: int) -> float:
    """Wu et al.: of the edges from a token, those above the threshold."""
    edges = [
        A[h, i, token] > tau for h in range(len(A)) for i in range(token, end)
    ]
    return sum(edges) / len(edges)


def first_rate(A: np.ndarray, end: int) -> float:
    """Kaul et al.: of the queries and heads, those that argmax at 0."""
    wins = [A[h, i].argmax() == 0 for h in range(len(A)) for i in range(1, end)]
    return sum(wins) / len(wins)


def excess(A: np.ndarray, token: int, end: int, causal: bool) -> list[float]:
    size = A.shape[-1]
    null = [1 / (i + 1 if causal else size) for i in range(token, end)]
    return [float(head[token:end, token].mean() - np.mean(null)) for head in A]


def rate_of(A: np.ndarray, epsilon: float, token: int, end: int) -> float:
    return float(np.mean([h[token:end, token].mean() > epsilon for h in A]))


@pytest.mark.parametrize('causal', [True, False])
@pytest.mark.parametrize('tokens', [7, 11, None])
@pytest.mark.parametrize('token', [0, 2])
def test_measures_equal_loops(
    token: int, tokens: int | None, causal: bool
) -> None:
    layers = [random_heads(4, 11, seed, causal=causal) for seed in (0, 1)]
    graphs = [from_attention(A) for A in layers]
    end = 11 if tokens is None else tokens
    plain = [A.numpy() for A in layers]
    place: dict[str, Any] = {'tokens': tokens, 'token': token}
    for graph in (graphs, torch.stack(layers)):
        assert sink_edge_rate(graph, tau=0.15, **place).tolist() == (
            pytest.approx([edge_rate(A, 0.15, token, end) for A in plain])
        )
        assert first_attention_rate(graph, tokens=tokens).tolist() == (
            pytest.approx([first_rate(A, end) for A in plain])
        )
        found = sink_excess(graph, **place)
        for row, A in zip(found.tolist(), plain, strict=True):
            assert row == pytest.approx(excess(A, token, end, causal))
        by_token = sink_rates_by_token(
            graph, epsilon=0.2, tokens=tokens, first=5
        )
        assert by_token.shape == (2, 5)
        for row, A in zip(by_token.tolist(), plain, strict=True):
            assert row == [rate_of(A, 0.2, k, end) for k in range(5)]


@pytest.mark.parametrize('measure', MEASURES)
def test_batches_are_the_mean_over_their_sequences(measure: Any) -> None:
    heads = [random_heads(3, size, size) for size in (6, 9, 7)]
    batch = Batch.from_data_list([from_attention(A) for A in heads])
    for tokens in (5, None):
        parts = [measure(A, tokens=tokens) for A in heads]
        width = min(part.numel() for part in parts)
        if measure is sink_rates_by_token:
            parts = [part[:width] for part in parts]
        expected = torch.stack(parts).mean(0)
        found = measure([batch, batch], tokens=tokens)
        torch.testing.assert_close(
            found, expected.expand_as(found), check_dtype=False
        )


def test_uniform_attention_has_no_sinks() -> None:
    for causal in (True, False):
        for graph in (
            uniform_heads(2, 40, causal=causal),
            from_attention(uniform_heads(2, 40, causal=causal)),
        ):
            for token in (0, 3):
                found = sink_excess(graph, tokens=None, token=token)
                # Means of 40 numbers in float32.
                assert found.abs().max() < 1e-6
            assert first_attention_rate(graph, tokens=None).item() == 0
            rates = sink_rates_by_token(graph, tokens=None)
            assert (rates == 0).all()
    # The first four queries send token 0 more than a fifth: 1, .5, .33, .25.
    A = uniform_heads(1, 40)
    assert sink_edge_rate(A, tokens=40).item() == pytest.approx(4 / 40)


def test_the_null_of_a_later_token() -> None:
    # Query i of 0, 1, ... sees i + 1 tokens.
    null = np.mean([1 / (i + 1) for i in range(3, 20)])
    A = uniform_heads(1, 20)
    score = sink_score(A, tokens=20, token=3)
    assert score.item() == pytest.approx(null)
    assert sink_excess(A, tokens=20, token=3).item() == pytest.approx(
        0, abs=1e-7
    )


def test_a_pure_sink_is_the_extreme() -> None:
    sink = torch.zeros(2, 8, 8)
    sink[..., 0] = 1
    for graph in (sink, from_attention(sink)):
        assert sink_edge_rate(graph, tokens=8).item() == 1
        assert first_attention_rate(graph, tokens=8).item() == 1
        expected = 1 - uniform_sink_score(8)
        # A sink by itself is causal.
        assert sink_excess(graph, tokens=8).flatten().tolist() == (
            pytest.approx([expected] * 2)
        )
        rates = sink_rates_by_token(graph, tokens=8, first=3)
        assert rates.flatten().tolist() == [1, 0, 0]
    assert sink_excess(sink, tokens=8, causal=False).tolist() == (
        pytest.approx([7 / 8] * 2)
    )


def test_edges_are_those_of_the_mask() -> None:
    """In a window, few queries see token 0 at all."""
    graph = sliding_window_graph(10, 3)
    graph.edge_attr = torch.full((graph.num_edges, 1), 1 / 3)
    assert sink_edge_rate(graph, tokens=10).item() == 1
    dense = to_attention(graph, per_head=True)
    assert sink_edge_rate(dense, tokens=10).item() == pytest.approx(0.3)
    # A token that nobody sees has no edges that could be strong.
    graph.edge_attr = graph.edge_attr[graph.edge_index[0] > 0]
    graph.edge_index = graph.edge_index[:, graph.edge_index[0] > 0]
    assert sink_edge_rate(graph, tokens=10).item() == 0


def test_equally_attended_tokens_share_no_win() -> None:
    A = torch.tensor([[[1.0, 0, 0], [0.5, 0.5, 0], [0.5, 0.2, 0.3]]])
    for graph in (A, from_attention(A)):
        assert first_attention_rate(graph, tokens=3).item() == 0.5


def test_edge_count_and_head_count_differ() -> None:
    """A head may pass one threshold by few edges, or by many weak ones."""
    few = torch.eye(10).unsqueeze(0)
    few[0, :4] = 0
    few[0, :4, 0] = 1
    many = torch.full((1, 10, 10), 0.0)
    many[..., 0] = 0.25
    many[0, 0, 0] = 1
    assert sink_rate(few, tokens=10).item() == 1
    assert sink_edge_rate(few, tokens=10).item() == pytest.approx(0.4)
    assert sink_rate(many, tokens=10, epsilon=0.4).item() == 0
    assert sink_edge_rate(many, tokens=10).item() == 1


def test_low_precision_and_leading_dimensions() -> None:
    heads = random_heads(3, 9, 7).float().bfloat16()
    dense = heads.expand(2, 5, 3, 9, 9)
    for measure, shape in zip(MEASURES, [(), (), (3,), (9,)], strict=True):
        found = measure(dense, tokens=9)
        assert found.dtype == torch.float32
        assert found.shape == (2, 5, *shape)
        assert measure(heads.double(), tokens=9).dtype == torch.float64


@pytest.mark.parametrize('measure', MEASURES)
@pytest.mark.parametrize(
    ('graphs', 'error', 'match'),
    [
        (from_attention(uniform_heads(1, 63)), ValueError, 'got one of 63'),
        (uniform_heads(1, 63), ValueError, 'got one of 63'),
        (torch.eye(3), ValueError, r'\[..., H, T, T\]'),
        (from_attention(torch.eye(70)), ValueError, 'edge_attr'),
        ([], TypeError, 'none'),
    ],
)
def test_input_that_does_not_fit(
    measure: Any, graphs: Any, error: type, match: str
) -> None:
    with pytest.raises(error, match=match):
        measure(graphs)


def test_arguments_that_do_not_fit() -> None:
    A = uniform_heads(1, 5)
    for graph in (A, from_attention(A)):
        with pytest.raises(ValueError, match='0 to 3'):
            sink_edge_rate(graph, tokens=4, token=4)
        with pytest.raises(ValueError, match='two tokens'):
            first_attention_rate(graph, tokens=1)
        with pytest.raises(ValueError, match="'first'"):
            sink_rates_by_token(graph, tokens=5, first=0)


@settings(deadline=None, max_examples=25, derandomize=True)
@given(
    size=st.integers(2, 9), heads=st.integers(1, 4), seed=st.integers(0, 999)
)
def test_bounds(size: int, heads: int, seed: int) -> None:
    A = random_heads(heads, size, seed)
    graph = from_attention(A)
    score = sink_score(A, tokens=None)
    found = sink_excess(graph, tokens=None)[0]
    torch.testing.assert_close(found, score - uniform_sink_score(size))
    for rate in (
        sink_edge_rate(graph, tokens=None),
        first_attention_rate(graph, tokens=None),
        sink_rates_by_token(graph, tokens=None),
    ):
        assert ((rate >= 0) & (rate <= 1)).all()
    # What is over the threshold adds up to no more than the score.
    above = sink_edge_rate(graph, tau=0.2, tokens=None).item()
    assert 0.2 * above <= score.mean().item() + 1e-9
    by_token = sink_rates_by_token(A, tokens=None)
    expected = [sink_rate(A, tokens=None, token=k).item() for k in range(size)]
    assert by_token.tolist() == pytest.approx(expected)


def without_positions(model: Any) -> Any:
    """A Llama whose rotary embedding turns nothing."""
    model.model.rotary_emb.inv_freq.zero_()
    return model


def test_repeated_tokens_without_positions_are_the_null() -> None:
    """All states are equal, so that attention is even (Gu et al., 2025)."""
    model = without_positions(architectures.build('llama'))
    ids = torch.full((64,), 7)
    graphs = capture(model, ids)
    for graph in graphs:
        torch.testing.assert_close(
            graph.x, graph.x[:1].expand_as(graph.x), rtol=1e-4, atol=1e-5
        )
    score = sink_score(graphs)
    # Even up to the rounding of states that three layers have computed.
    torch.testing.assert_close(
        score, torch.full((3, 4), uniform_sink_score(64)), rtol=1e-4, atol=0
    )
    assert sink_excess(graphs).abs().max() < 1e-5
    assert (sink_rates_by_token(graphs) == 0).all()
    # The model has preferences where tokens differ.
    other = torch.arange(64) % 50 + 2
    assert sink_excess(capture(model, other)).abs().max() > 0.05


def test_repeated_tokens_with_rotation_depend_on_the_distance_alone() -> None:
    """Equal states, but a rotation still tells near from far."""
    model = architectures.build('llama')
    graphs = capture(model, torch.full((64,), 7))
    for graph in graphs:
        torch.testing.assert_close(
            graph.x, graph.x[:1].expand_as(graph.x), rtol=1e-4, atol=1e-5
        )
        A = to_attention(graph, per_head=True).double()
        # The ratio of two weights is one of their distances.
        ratio = A[:, 1:, 1:] / A[:, 1:, :-1]
        for distance in (1, 5, 30):
            row = ratio.diagonal(-distance, 1, 2)
            torch.testing.assert_close(
                row, row[:, :1].expand_as(row), rtol=1e-3, atol=0
            )
    # So token 0 may be preferred a little, but is no sink.
    assert (sink_rate(graphs) == 0).all()


def test_learned_positions_keep_a_sink_under_repetition() -> None:
    """GPT-2's sink is tied to the embedding of the first position."""
    model = architectures.build('gpt2')
    table = model.transformer.wpe.weight
    with torch.no_grad():
        table[1:] = table[1]
    graphs = capture(model, torch.full((64,), 7))
    excess_of_first = sink_excess(graphs)[0]
    assert excess_of_first.abs().max() > 0.02
    with torch.no_grad():
        table[0] = table[1]
    graphs = capture(model, torch.full((64,), 7))
    assert sink_excess(graphs)[0].abs().max() < 1e-5


def test_learned_sinks_keep_part_of_every_row() -> None:
    """The more logit in the sink, the less attention for the first token."""
    model = architectures.build('gpt_oss')
    ids = torch.arange(2, 15)
    scores, masses = [], []
    for logit in (-30.0, 0.0, 2.0, 4.0):
        for layer in model.model.layers:
            layer.self_attn.sinks.data.fill_(logit)
        graph = capture(model, ids, layers=[0])[0]
        row = torch.zeros(13, 4).index_add(
            0, graph.edge_index[1], graph.edge_attr
        )
        masses.append(row)
        scores.append(sink_score(graph, tokens=13))
    # So low a logit takes nothing.
    torch.testing.assert_close(masses[0], torch.ones(13, 4))
    for before, after in pairwise(masses):
        assert (after < before).all()
    assert (masses[1] < 1).all()
    for before, after in pairwise(scores):
        assert (after < before).all()
