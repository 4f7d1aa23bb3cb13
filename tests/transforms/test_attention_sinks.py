import pytest
import torch
from attributed import causal_data, check_aligned, edge_set, undirected_data
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import Data

from gnnbridge.graph.causal import causal_graph, sliding_window_graph
from gnnbridge.transforms.attention_sinks import AttentionSinks

PROPERTY = settings(deadline=None, max_examples=25, derandomize=True)


@pytest.mark.parametrize('window', [1, 3, 20])
@pytest.mark.parametrize('sinks', [0, 1, 4, 12])
def test_of_a_causal_graph(window: int, sinks: int) -> None:
    out = AttentionSinks(window, sinks)(causal_graph(11))
    expected = sliding_window_graph(11, window, sinks)
    assert torch.equal(out.edge_index, expected.edge_index)


@PROPERTY
@given(
    st.one_of(causal_data(), undirected_data()),
    st.integers(1, 6),
    st.integers(0, 3),
)
def test_near_edges_and_those_of_sinks_stay(
    data: Data, window: int, sinks: int
) -> None:
    out = AttentionSinks(window, sinks)(data)
    assert edge_set(out.edge_index) == {
        (j, i)
        for j, i in edge_set(data.edge_index)
        if abs(i - j) < window or j < sinks
    }
    check_aligned(data, out)


def test_arguments() -> None:
    with pytest.raises(ValueError, match="'sinks' to be at least 0"):
        AttentionSinks(2, -1)
    assert repr(AttentionSinks(2)) == (
        'AttentionSinks(window=2, sinks=4, causal=None)'
    )
