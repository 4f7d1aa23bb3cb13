import networkx as nx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import Data

from gnnbridge.diagnostics.reach import Reach, UnderReach, under_reach
from gnnbridge.graph.causal import (
    causal_graph,
    complete_graph,
    sliding_window_graph,
)


def random_graph(size: int, edges: float, causal: bool, seed: int) -> Data:
    generator = torch.Generator().manual_seed(seed)
    A = torch.rand(size, size, generator=generator) < edges
    A = A.tril() if causal else A
    target, source = A.nonzero(as_tuple=True)
    return Data(edge_index=torch.stack([source, target]), num_nodes=size)


def networkx_of(graph: Data) -> nx.DiGraph:
    found = nx.DiGraph()
    found.add_nodes_from(range(int(graph.num_nodes or 0)))
    found.add_edges_from(graph.edge_index.T.tolist())
    return found


def unrolled(layers: list[Data]) -> nx.DiGraph:
    """One node per token and layer, with residual connections."""
    found = nx.DiGraph()
    for number, graph in enumerate(layers):
        for token in range(int(graph.num_nodes or 0)):
            found.add_edge((number, token), (number + 1, token))
        for source, target in graph.edge_index.T.tolist():
            found.add_edge((number, source), (number + 1, target))
    return found


def by_networkx(layers: list[Data], causal: bool) -> UnderReach:
    size = int(layers[0].num_nodes or 0)
    pairs = [
        (i, j)
        for i in range(size)
        for j in range(size)
        if (j < i if causal else j != i)
    ]
    union = nx.compose_all([networkx_of(graph) for graph in layers])
    lengths = dict(nx.all_pairs_shortest_path_length(union))
    deep, depth = unrolled(layers), len(layers)
    there = {j: nx.descendants(deep, (0, j)) for j in range(size)}
    finite = [lengths[j][i] for i, j in pairs if i in lengths[j]]
    return UnderReach(
        depth=depth,
        diameter=max(finite, default=0),
        unreachable_share=1 - len(finite) / max(len(pairs), 1)
        if pairs
        else 0.0,
        beyond_depth_share=sum((depth, i) not in there[j] for i, j in pairs)
        / max(len(pairs), 1),
    )


def check(found: UnderReach, expected: UnderReach) -> None:
    assert (found.depth, found.diameter) == (expected.depth, expected.diameter)
    assert found.unreachable_share == pytest.approx(expected.unreachable_share)
    assert found.beyond_depth_share == pytest.approx(
        expected.beyond_depth_share
    )


@given(
    size=st.integers(1, 9),
    depth=st.integers(1, 4),
    edges=st.floats(0.05, 0.6),
    causal=st.booleans(),
    seed=st.integers(0, 1000),
)
@settings(deadline=None, derandomize=True, max_examples=40)
def test_layers_of_their_own_edges_equal_networkx(
    size: int, depth: int, edges: float, causal: bool, seed: int
) -> None:
    layers = [
        random_graph(size, edges, causal, seed + layer)
        for layer in range(depth)
    ]
    truly = all(
        bool((g.edge_index[0] <= g.edge_index[1]).all()) for g in layers
    )
    check(under_reach(layers), by_networkx(layers, truly))


@pytest.mark.parametrize('causal', [False, True])
def test_one_graph_for_all_layers(causal: bool) -> None:
    graph = random_graph(12, 0.15, causal, 3)
    for depth in (1, 2, 5):
        check(under_reach(graph, depth), by_networkx([graph] * depth, causal))
    # Shares are those of pairs whose shortest path is too long.
    lengths = dict(nx.all_pairs_shortest_path_length(networkx_of(graph)))
    far = [
        lengths[j].get(i, 99) > 2
        for i in range(12)
        for j in range(i if causal else 12)
        if i != j
    ]
    share = under_reach(graph, 2).beyond_depth_share
    assert share == pytest.approx(sum(far) / len(far))


def test_windows_in_closed_form() -> None:
    # A window of w tokens reaches L (w - 1) back.
    size, window = 20, 4
    graph = sliding_window_graph(size, window)
    for depth in (1, 3):
        found = under_reach(graph, depth)
        far = size - 1 - depth * (window - 1)
        assert found.beyond_depth_share == pytest.approx(
            far * (far + 1) / (size * (size - 1))
        )
        assert found.unreachable_share == 0.0
        assert found.diameter == -(-(size - 1) // (window - 1))


def test_a_layer_that_sees_all_is_enough() -> None:
    window, full = sliding_window_graph(9, 2), causal_graph(9)
    for layers in ([window, full], [full, window], [full] * 3):
        found = under_reach(layers)
        assert found == UnderReach(len(layers), 1, 0.0, 0.0)
    assert under_reach([window, window]).beyond_depth_share > 0
    # More layers than graphs go round again; fewer leave the rest out.
    assert under_reach([window, full], depth=1) == UnderReach(
        1, 1, 0.0, pytest.approx(28 / 36)
    )
    assert under_reach([window] * 8).beyond_depth_share == 0
    assert under_reach([window, window], depth=8).beyond_depth_share == 0


def test_both_directions() -> None:
    assert under_reach(complete_graph(5), 1) == UnderReach(1, 1, 0.0, 0.0)
    chain = Data(edge_index=torch.tensor([[0, 1], [1, 0]]), num_nodes=3)
    found = under_reach(chain, 2)
    assert found.unreachable_share == pytest.approx(4 / 6)
    # Causal first, then not: what is full of the one is not of the other.
    back = Data(edge_index=torch.tensor([[4], [0]]), num_nodes=5)
    layers = [causal_graph(5), back]
    check(under_reach(layers), by_networkx(layers, False))
    layers = [back, causal_graph(5)]
    check(under_reach(layers), by_networkx(layers, False))


def test_edges_without_weight_carry_nothing() -> None:
    graph = causal_graph(4)
    graph.edge_weight = (graph.edge_index[0] == graph.edge_index[1]).float()
    assert under_reach(graph, 3) == UnderReach(3, 0, 1.0, 1.0)


def test_layers_one_at_a_time() -> None:
    layers = [random_graph(7, 0.2, True, seed) for seed in range(3)]
    reach = Reach(7)
    for number, graph in enumerate(layers, 1):
        reach.add(graph)
        check(reach.result(), under_reach(layers[:number]))


def test_a_single_token() -> None:
    assert under_reach(causal_graph(1), 2) == UnderReach(2, 0, 0.0, 0.0)


def test_arguments_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="'depth' for a single graph"):
        under_reach(causal_graph(3))
    with pytest.raises(ValueError, match=r'same tokens \(got \[3, 4\]'):
        under_reach([causal_graph(3), causal_graph(4)])
    with pytest.raises(ValueError, match='depth'):
        under_reach(causal_graph(3), 0)
    with pytest.raises(TypeError, match='none'):
        under_reach([])
