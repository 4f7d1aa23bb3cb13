import base64
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnnbridge.report.graphs import edges_of, layer_of, layers_of

SEEDS = st.integers(0, 10**6)


def pack(source: np.ndarray, weight: np.ndarray) -> dict[str, Any]:
    """A layer as a profile carries it, of ``[H, N, k]``."""
    heads, _, keep = source.shape
    return {
        'layer': 0,
        'heads': heads,
        'keep': keep,
        'source': base64.b64encode(source.astype('<u2').tobytes()).decode(),
        'weight': base64.b64encode(weight.astype('u1').tobytes()).decode(),
    }


def by_hand(source: np.ndarray, weight: np.ndarray) -> dict[Any, float]:
    """The mean over heads, edge by edge."""
    total: dict[Any, float] = {}
    heads, size, keep = source.shape
    for head in range(heads):
        for query in range(size):
            for place in range(keep):
                edge = (int(source[head, query, place]), query)
                value = int(weight[head, query, place]) / 255 / heads
                total[edge] = total.get(edge, 0.0) + value
    return {edge: value for edge, value in total.items() if value > 0}


def random_layer(
    seed: int, heads: int, size: int, keep: int
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    keep = min(keep, size)
    source = np.stack(
        [
            [rng.permutation(size)[:keep] for _ in range(size)]
            for _ in range(heads)
        ]
    )
    weight = rng.integers(0, 256, source.shape)
    weight[rng.random(source.shape) < 0.3] = 0
    return source, weight


@given(SEEDS, st.integers(1, 4), st.integers(1, 9), st.integers(1, 4))
def test_mean_over_heads_adds_up_edge_by_edge(
    seed: int, heads: int, size: int, keep: int
) -> None:
    source, weight = random_layer(seed, heads, size, keep)
    edges = edges_of(pack(source, weight), size)
    found = dict(
        zip(
            zip(edges.source.tolist(), edges.target.tolist(), strict=True),
            edges.weight.tolist(),
            strict=True,
        )
    )
    expected = by_hand(source, weight)
    assert found.keys() == expected.keys()
    for edge, value in expected.items():
        # Sums of a few hundredths in another order.
        assert found[edge] == pytest.approx(value, rel=1e-12)


@given(SEEDS, st.integers(1, 4), st.integers(1, 9))
def test_the_strongest_come_first_and_heads_sum_to_the_mean(
    seed: int, heads: int, size: int
) -> None:
    source, weight = random_layer(seed, heads, size, 3)
    layer = pack(source, weight)
    mean = edges_of(layer, size)
    assert (np.diff(mean.weight) <= 0).all()
    single = [edges_of(layer, size, head) for head in range(heads)]
    total = sum(edges.weight.sum() for edges in single) / heads
    assert mean.weight.sum() == pytest.approx(total, rel=1e-12)


def test_other_heads_and_layers_are_refused(profile: dict[str, Any]) -> None:
    layer = layer_of(profile, 1)
    for head in (-1, 4):
        with pytest.raises(ValueError, match=rf'0 to 3 \(got {head}\)'):
            edges_of(layer, 40, head)
    with pytest.raises(ValueError, match=r'one of 0, 1, 2 \(got 7\)'):
        layer_of(profile, 7)


def test_a_profile_without_graphs_has_no_layers(
    refused: dict[str, Any],
) -> None:
    assert list(layers_of(refused)) == []
    with pytest.raises(ValueError, match='one of none'):
        layer_of(refused, 0)
