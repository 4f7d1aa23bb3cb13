import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.data import Batch

from gnnbridge.diagnostics.attention import (
    attention_entropy,
    uniform_sink_score,
)
from gnnbridge.diagnostics.spread import (
    attention_span,
    inverse_participation,
    uniform_entropy,
    uniform_span,
)
from gnnbridge.graph.cache import cache_graph
from gnnbridge.graph.dense import from_attention

MEASURES = [attention_span, inverse_participation]


def random_heads(heads: int, size: int, seed: int) -> Tensor:
    """Causal attention ``[H, T, T]`` with heads from flat to peaked."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(heads, size, size, generator=generator).double()
    logits = logits * torch.arange(1.0, heads + 1).reshape(-1, 1, 1)
    mask = torch.ones(size, size).triu(1).bool()
    return logits.masked_fill(mask, -math.inf).softmax(-1)


def uniform_heads(size: int, causal: bool) -> Tensor:
    A = torch.ones(2, size, size, dtype=torch.float64)
    A = A.tril() if causal else A
    return A / A.sum(-1, keepdim=True)


def span_by_loops(A: np.ndarray) -> float:
    rows = []
    for i, row in enumerate(A):
        if row.sum() > 0:
            far = sum(a * abs(i - j) for j, a in enumerate(row))
            rows.append(far / row.sum())
    return float(np.mean(rows))


def participation_by_loops(A: np.ndarray) -> float:
    return float(np.mean([sum(a * a for a in row) for row in A if row.sum()]))


@pytest.mark.parametrize('leak', [1.0, 0.4])
@pytest.mark.parametrize('lower', [True, False])
def test_measures_equal_loops(lower: bool, leak: float) -> None:
    layers = [leak * random_heads(3, 8, seed) for seed in (0, 1)]
    if not lower:
        layers = [A + A.mT for A in layers]
        layers = [leak * A / A.sum(-1, keepdim=True) for A in layers]
    graphs = [from_attention(A) for A in layers]
    for measure, by_loops in (
        (attention_span, span_by_loops),
        (inverse_participation, participation_by_loops),
    ):
        expected = [[by_loops(h.numpy()) for h in A] for A in layers]
        for graph in (graphs, torch.stack(layers)):
            found = measure(graph)
            assert found.shape == (2, 3)
            for row, other in zip(found.tolist(), expected, strict=True):
                assert row == pytest.approx(other)


@pytest.mark.parametrize('causal', [True, False])
@pytest.mark.parametrize('size', [1, 2, 9, 64])
def test_uniform_attention_has_closed_forms(size: int, causal: bool) -> None:
    A = uniform_heads(size, causal)
    for graph in (A, from_attention(A)):
        for found, expected in (
            (attention_span(graph), uniform_span(size, causal=causal)),
            (attention_entropy(graph), uniform_entropy(size, causal=causal)),
            (
                inverse_participation(graph),
                uniform_sink_score(size) if causal else 1 / size,
            ),
        ):
            assert found.flatten().tolist() == pytest.approx([expected] * 2)
    assert uniform_span(9) == 2
    assert uniform_entropy(3) == pytest.approx(math.log(6) / 3)


def test_extremes() -> None:
    eye, back = torch.eye(6).unsqueeze(0), torch.zeros(1, 6, 6)
    back[..., 0] = 1
    for graph in (eye, from_attention(eye)):
        assert attention_span(graph).item() == 0
        assert inverse_participation(graph).item() == 1
    for graph in (back, from_attention(back)):
        assert attention_span(graph).item() == 2.5
        assert inverse_participation(graph).item() == 1


def test_batches_of_unequal_sequences() -> None:
    heads = [random_heads(3, size, size) for size in (4, 9, 6)]
    batch = Batch.from_data_list([from_attention(A) for A in heads])
    for measure in MEASURES:
        expected = torch.stack([measure(A) for A in heads]).mean(0)
        torch.testing.assert_close(
            measure([batch, batch]), expected.expand(2, 3)
        )


def test_queries_of_a_cache_count_alone() -> None:
    graph = cache_graph(2, 6)
    graph.edge_attr = torch.where(
        graph.edge_index[1] == 5, 1 / 6, 1 / 5
    ).unsqueeze(1)
    # Query 4 sees 0..4 and query 5 sees 0..5, evenly.
    assert attention_span(graph).item() == pytest.approx((2 + 2.5) / 2)
    assert inverse_participation(graph).item() == (
        pytest.approx((1 / 5 + 1 / 6) / 2)
    )


def test_low_precision_and_leading_dimensions() -> None:
    heads = random_heads(3, 7, 4).float().bfloat16()
    for measure in MEASURES:
        assert measure(heads).dtype == torch.float32
        assert measure(heads.expand(2, 5, 3, 7, 7)).shape == (2, 5, 3)
        positive = (random_heads(2, 5, 3) + 0.1).requires_grad_()
        assert torch.autograd.gradcheck(measure, positive)


@pytest.mark.parametrize('measure', MEASURES)
def test_input_that_does_not_fit(measure: Any) -> None:
    with pytest.raises(ValueError, match=r'\[..., H, T, T\]'):
        measure(torch.eye(3))
    with pytest.raises(ValueError, match='edge_attr'):
        measure(from_attention(torch.eye(3)))
    with pytest.raises(TypeError, match='none'):
        measure([])
    with pytest.raises(ValueError, match=r'\[2, 3\]'):
        measure([from_attention(random_heads(h, 5, h)) for h in (2, 3)])


def test_span_refuses_negative_attention() -> None:
    heads = random_heads(1, 3, 0)
    heads[0, 2, 1] = -0.2
    for graph in (heads, from_attention(heads, weights='signed')):
        with pytest.raises(ValueError, match=r'-0\.2'):
            attention_span(graph)
    for closed in (uniform_span, uniform_entropy):
        with pytest.raises(ValueError, match="'tokens'"):
            closed(0)


@settings(deadline=None, max_examples=25, derandomize=True)
@given(
    size=st.integers(1, 9), heads=st.integers(1, 4), seed=st.integers(0, 999)
)
def test_bounds(size: int, heads: int, seed: int) -> None:
    A = random_heads(heads, size, seed)
    graph = from_attention(A)
    rank = inverse_participation(graph)
    assert (rank >= uniform_sink_score(size) - 1e-12).all()
    assert (rank <= 1 + 1e-12).all()
    assert (attention_entropy(graph) <= uniform_entropy(size) + 1e-12).all()
    span = attention_span(graph)
    assert ((span >= 0) & (span <= (size - 1) / 2 + 1e-12)).all()
    # A leak takes mass away, and leaves distances as they are.
    torch.testing.assert_close(attention_span(0.3 * A)[None], span)
