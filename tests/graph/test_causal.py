import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.testing import withDevice

from gnnbridge.graph.cache import cache_graph
from gnnbridge.graph.causal import (
    block_graph,
    causal_graph,
    complete_graph,
    dilated_graph,
    prefix_graph,
    sliding_window_graph,
)
from gnnbridge.graph.schema import is_causal, roots, validate

PROPERTY = settings(deadline=None, max_examples=25, derandomize=True)
SIZE = st.integers(1, 11)


def brute_force(n, sees):
    """Edges (j, i) by a double loop, by target then source."""
    return [[j, i] for i in range(n) for j in range(n) if sees(i, j)]


def edges(data):
    return data.edge_index.t().tolist()


def check(data, n, sees):
    assert edges(data) == brute_force(n, sees)
    assert data.edge_index.dtype == torch.int64
    assert data.edge_index.is_contiguous()
    assert data.num_nodes == n
    assert data.position.tolist() == list(range(n))
    assert validate(data) is data


@PROPERTY
@given(SIZE)
def test_causal_graph(n):
    data = causal_graph(n)
    check(data, n, lambda i, j: j <= i)
    assert data.num_edges == n * (n + 1) // 2


@PROPERTY
@given(SIZE)
def test_complete_graph(n):
    check(complete_graph(n), n, lambda i, j: True)


@PROPERTY
@given(SIZE, st.integers(1, 13), st.integers(0, 13))
def test_sliding_window_graph(n, window, sinks):
    check(
        sliding_window_graph(n, window, sinks),
        n,
        lambda i, j: j <= i and (i - j < window or j < sinks),
    )


@PROPERTY
@given(SIZE, st.data())
def test_prefix_graph(n, draw):
    prefix = draw.draw(st.integers(0, n))
    check(
        prefix_graph(n, prefix),
        n,
        lambda i, j: j <= i or (i < prefix and j < prefix),
    )


@PROPERTY
@given(SIZE, st.integers(1, 5), st.integers(1, 5))
def test_dilated_graph(n, window, dilation):
    distances = {t * dilation for t in range(window)}
    check(
        dilated_graph(n, window, dilation), n, lambda i, j: i - j in distances
    )


@PROPERTY
@given(SIZE, st.integers(1, 13), st.booleans())
def test_block_graph(n, block, causal):
    check(
        block_graph(n, block, causal=causal),
        n,
        lambda i, j: i // block == j // block and (j <= i or not causal),
    )


def test_causality_of_the_builders():
    assert is_causal(causal_graph(7))
    assert is_causal(sliding_window_graph(7, 3, 2))
    assert is_causal(dilated_graph(7, 2, 3))
    assert is_causal(block_graph(7, 3))
    assert is_causal(prefix_graph(7, 1))
    assert not is_causal(prefix_graph(7, 2))
    assert not is_causal(block_graph(7, 3, causal=False))
    assert not is_causal(complete_graph(2))


def test_roots_of_the_builders():
    assert roots(sliding_window_graph(7, 3)).tolist() == [0]
    assert roots(dilated_graph(7, 2, 3)).tolist() == [0, 1, 2]
    assert roots(block_graph(7, 3)).tolist() == [0, 3, 6]
    assert roots(block_graph(7, 3, causal=False)).tolist() == [0, 3, 6]


def test_a_long_window_has_as_many_edges_as_it_should():
    # An n x n matrix would take 10 GB here, even as bool.
    n, window, sinks = 100_000, 64, 4
    data = sliding_window_graph(n, window, sinks)
    inside = n * window - window * (window - 1) // 2
    beyond = sum(min(sinks, max(0, i - window + 1)) for i in range(n))
    assert data.num_edges == inside + beyond
    key = data.edge_index[1] * n + data.edge_index[0]
    assert bool((key.diff() > 0).all())


@withDevice
def test_device_is_honoured(device):
    for data in (
        causal_graph(5, device=device),
        sliding_window_graph(5, 2, 1, device=device),
        prefix_graph(5, 2, device=device),
        dilated_graph(5, 2, 2, device=device),
        block_graph(5, 2, device=device),
        complete_graph(5, device=device),
        cache_graph(2, 5, window=2, sinks=1, device=device),
    ):
        assert data.edge_index.device == device
        assert data.position.device == device


def test_numpy_integers_are_integers():
    assert edges(causal_graph(np.int64(3))) == edges(causal_graph(3))


@pytest.mark.parametrize(
    ('build', 'match'),
    [
        (lambda: causal_graph(0), "'n' to be at least 1 .*got 0"),
        (lambda: complete_graph(-2), "'n' to be at least 1 .*got -2"),
        (lambda: sliding_window_graph(5, 0), "'window' to be at least 1"),
        (lambda: sliding_window_graph(5, 2, -1), "'sinks' to be at least 0"),
        (lambda: prefix_graph(5, 6), "'prefix' to be at most n = 5 .*got 6"),
        (lambda: prefix_graph(5, -1), "'prefix' to be at least 0"),
        (lambda: dilated_graph(5, 0, 1), "'window' to be at least 1"),
        (lambda: dilated_graph(5, 1, 0), "'dilation' to be at least 1"),
        (lambda: block_graph(5, 0), "'block' to be at least 1"),
    ],
)
def test_sizes_out_of_range_are_refused(build, match):
    with pytest.raises(ValueError, match=match):
        build()


@pytest.mark.parametrize('n', [True, 3.0, '3', None, torch.tensor(3)])
def test_sizes_that_are_no_integers_are_refused(n):
    with pytest.raises(TypeError, match="'n' to be an integer"):
        causal_graph(n)
    with pytest.raises(TypeError, match="'window' to be an integer"):
        sliding_window_graph(5, n)
