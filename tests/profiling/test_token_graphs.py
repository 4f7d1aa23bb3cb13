import pytest
import torch
from tiny_decoder import tiny_decoder
from torch_geometric.data import Data

import gnnbridge as gb
from gnnbridge.graph import sliding_window_graph
from gnnbridge.graph.dense import to_attention
from gnnbridge.profiling.token_graphs import ShownEdges, model_graph

IDS = torch.tensor([[256, 5, 9, 200, 33, 5, 71, 9, 12]])
SIZE = IDS.size(1)


def test_it_is_the_mean_of_all_layers_and_heads() -> None:
    model = tiny_decoder()
    graphs = gb.capture(model, IDS)
    found = model_graph(model, IDS, mixing=True)
    expected = sum(to_attention(graph).double() for graph in graphs) / 2
    # Captured in float32, added up in float64.
    torch.testing.assert_close(
        to_attention(found.attention), expected, rtol=0, atol=1e-7
    )
    assert found.num_edges == [45, 45]
    assert found.edges == 45
    assert found.causal
    assert found.mixing == [
        pytest.approx(float(graph.mixing.mean())) for graph in graphs
    ]
    assert model_graph(model, IDS).mixing is None


def test_even_attention_of_different_layers() -> None:
    window, sinks = (
        sliding_window_graph(SIZE, 3, sinks=n).edge_index for n in (0, 1)
    )
    model = tiny_decoder()
    with gb.rewire(model, {0: window, 1: sinks}):
        found = model_graph(model, IDS, show=(1, 2))
    matrices = []
    for edges in (window, sinks):
        used = to_attention(Data(edge_index=edges, num_nodes=SIZE))
        matrices.append(used / used.sum(1, keepdim=True))
    torch.testing.assert_close(
        to_attention(found.even), (sum(matrices) / 2).double()
    )
    assert found.num_edges == [window.size(1), sinks.size(1)]
    assert found.edges == (window.size(1) + sinks.size(1)) / 2
    # The edges of any layer.
    assert torch.equal(found.attention.edge_index, sinks)
    assert torch.equal(found.shown.edge_index, sinks)


def test_heads_are_counted_one_by_one() -> None:
    window = sliding_window_graph(SIZE, 2)
    model = tiny_decoder()
    with gb.rewire(model, window, layers=[1], heads=[2]):
        found = model_graph(model, IDS, show=(1, -1))
        other = model_graph(model, IDS, show=(1, 0))
    few = window.edge_index.size(1)
    assert found.num_edges == [45, (45 + 45 + few) / 3]
    assert torch.equal(found.shown.edge_index, window.edge_index)
    assert found.shown.head == 2
    assert other.shown.edge_index.size(1) == 45
    narrow = to_attention(window)
    narrow = narrow / narrow.sum(1, keepdim=True)
    full = torch.ones(SIZE, SIZE).tril()
    full = full / full.sum(1, keepdim=True)
    torch.testing.assert_close(
        to_attention(found.even), ((5 * full + narrow) / 6).double()
    )


def test_a_head_that_is_not_there() -> None:
    with pytest.raises(ValueError, match=r"'heads' to choose from 3 heads"):
        model_graph(tiny_decoder(), IDS, show=(0, 3))


def test_shown_edges_are_ranges() -> None:
    edges = torch.tensor([[0, 0, 0, 2, 0, 2, 3], [0, 1, 2, 2, 3, 3, 3]])
    assert ShownEdges(1, 2, edges, 5).to_dict() == {
        'layer': 1,
        'head': 2,
        'rows': [
            [[0, 1]],
            [[0, 1]],
            [[0, 1], [2, 3]],
            [[0, 1], [2, 4]],
            [],
        ],
    }
