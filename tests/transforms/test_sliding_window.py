import pytest
import torch
from attributed import (
    attributed,
    causal_data,
    check_aligned,
    edge_set,
    undirected_data,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import Data

from gnnbridge.graph.causal import causal_graph, sliding_window_graph
from gnnbridge.transforms.sliding_window import SlidingWindow

PROPERTY = settings(deadline=None, max_examples=25, derandomize=True)


@pytest.mark.parametrize('window', [1, 3, 11, 20])
def test_window_of_a_causal_graph(window: int) -> None:
    out = SlidingWindow(window)(causal_graph(11))
    expected = sliding_window_graph(11, window)
    assert torch.equal(out.edge_index, expected.edge_index)
    assert torch.equal(out.position, expected.position)


@PROPERTY
@given(st.one_of(causal_data(), undirected_data()), st.integers(1, 6))
def test_near_edges_stay(data: Data, window: int) -> None:
    before = data.clone()
    out = SlidingWindow(window)(data)
    near = {(j, i) for j, i in edge_set(data.edge_index) if abs(i - j) < window}
    assert edge_set(out.edge_index) == near
    check_aligned(data, out)
    assert torch.equal(data.edge_index, before.edge_index)


def test_far_edges_are_reported_once() -> None:
    edges = torch.tensor([[0, 5, 0, 1], [5, 0, 5, 2]])
    changes = SlidingWindow(2).plan(edges)
    assert changes.edge_index.tolist() == [[0, 5], [5, 0]]
    assert changes.removed.tolist() == [[0, 5], [5, 0]]
    assert SlidingWindow.static
    out = SlidingWindow(2)(attributed(edges, 6))
    assert out.edge_index.tolist() == [[1], [2]]


def test_window_is_positive() -> None:
    with pytest.raises(ValueError, match="'window' to be at least 1"):
        SlidingWindow(0)
    with pytest.raises(TypeError, match="'window' to be an integer"):
        SlidingWindow(2.5)  # type: ignore[arg-type]
