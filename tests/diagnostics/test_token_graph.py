import math
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import balanced_forman_by_definition
from torch_geometric.data import Data

from gnnbridge.diagnostics import token_graph
from gnnbridge.diagnostics.token_graph import (
    path_lengths,
    resistance_by_distance,
    resistance_metrics,
    token_graph_metrics,
)
from gnnbridge.graph import causal_graph, sliding_window_graph

# Other order of sums and another solver, in float64.
CLOSE = 1e-9


def random_causal(seed: int, size: int, share: float) -> Data:
    """Random weights on random edges to later tokens, some self-loops."""
    rng = np.random.default_rng(seed)
    A = np.tril(rng.uniform(0.1, 1, (size, size)))
    A[rng.uniform(size=A.shape) > share] = 0
    target, source = np.nonzero(A)
    return Data(
        edge_index=torch.from_numpy(np.stack([source, target])),
        edge_weight=torch.from_numpy(A[target, source]),
        num_nodes=size,
    )


def matrix(graph: Data) -> np.ndarray:
    A = np.zeros((graph.num_nodes, graph.num_nodes))
    for edge, (source, target) in enumerate(graph.edge_index.T.tolist()):
        A[target, source] += float(graph.edge_weight[edge])
    return A


def naive_resistance(A: np.ndarray, hops: float | None) -> np.ndarray:
    """1 / (leave rate x chance to visit j from i), pair by pair.

    The chance solves the equations of the walk that steps along a row and is
    killed before each step with probability 1 / (1 + hops).
    """
    size = len(A)
    follow = 1.0 if hops is None else hops / (1 + hops)
    total = A.sum(1)
    off = A - np.diag(np.diag(A))
    rate = (1 - follow) * total + follow * off.sum(1)
    jump = np.zeros_like(A)
    some = rate > 0
    jump[some] = follow * off[some] / rate[some, None]
    R = np.full((size, size), math.inf)
    for j in range(size):
        hit = np.zeros(size)
        hit[j] = 1
        for i in range(j + 1, size):
            hit[i] = jump[i] @ hit
            if hit[i] > 0:
                R[i, j] = 1 / (rate[i] * hit[i])
    return R


def digraph(graph: Data) -> Any:
    G = nx.DiGraph()
    G.add_nodes_from(range(graph.num_nodes))
    G.add_edges_from((j, i) for j, i in graph.edge_index.T.tolist() if i != j)
    return G


GRAPHS = st.builds(
    random_causal,
    st.integers(0, 10**6),
    st.integers(1, 12),
    st.sampled_from([0.0, 0.2, 0.5, 1.0]),
)


@given(graph=GRAPHS)
@settings(deadline=None, max_examples=60, derandomize=True)
def test_paths_are_those_of_networkx(graph: Data) -> None:
    found = path_lengths(graph)
    lengths = dict(nx.all_pairs_shortest_path_length(digraph(graph)))
    for i in range(graph.num_nodes):
        for j in range(graph.num_nodes):
            assert found[i, j] == lengths[j].get(i, -1)


@given(graph=GRAPHS, hops=st.sampled_from([None, 0.7, 3.0]))
@settings(deadline=None, max_examples=60, derandomize=True)
def test_metrics_are_those_of_the_definitions(
    graph: Data, hops: float | None
) -> None:
    found = token_graph_metrics(graph, hops=hops)
    G, n = digraph(graph), graph.num_nodes
    assert found.num_edges == graph.edge_index.size(1)
    assert found.edges_per_token == found.num_edges / n
    lengths = dict(nx.all_pairs_shortest_path_length(G))
    pairs = [(j, i) for j in range(n) for i in range(j + 1, n)]
    ways = [lengths[j][i] for j, i in pairs if i in lengths[j]]
    assert found.unreachable_pairs == len(pairs) - len(ways)
    assert found.diameter == max(ways, default=0)
    R = naive_resistance(matrix(graph), hops)
    values = [R[i, j] for j, i in pairs]
    assert found.resistance.total == pytest.approx(sum(values), rel=CLOSE)
    assert found.resistance.worst == pytest.approx(
        max(values, default=0), rel=CLOSE
    )
    if pairs:
        # No two weights are equal: only infinite ones tie.
        assert found.resistance.worst_pair == pairs[int(np.argmax(values))]
    undirected = G.to_undirected()
    curvature = [
        balanced_forman_by_definition(undirected, u, v)
        for u, v in undirected.edges
    ]
    if curvature:
        assert found.mean_curvature == pytest.approx(
            np.mean(curvature), abs=CLOSE
        )
        assert found.least_curvature == pytest.approx(min(curvature), abs=CLOSE)
    else:
        assert found.mean_curvature is found.least_curvature is None


@pytest.mark.parametrize('seed', range(5))
def test_gap_is_that_of_networkx(seed: int) -> None:
    graph = random_causal(seed, 11, 0.6)
    A = matrix(graph)
    np.fill_diagonal(A, 0)
    G = nx.from_numpy_array((A + A.T) / 2)
    # Of several components both give 0; networkx scales no row without edges.
    L = nx.normalized_laplacian_matrix(G).toarray()
    expected = np.linalg.eigvalsh(L)[1]
    assert token_graph_metrics(graph).gap == pytest.approx(
        max(expected, 0), abs=CLOSE
    )


def test_three_tokens_by_hand() -> None:
    # Row 1 is half on 0; row 2 a quarter on 0, half on 1.
    graph = Data(
        edge_index=torch.tensor([[0, 0, 1, 0, 1, 2], [0, 1, 1, 2, 2, 2]]),
        edge_weight=torch.tensor([1.0, 0.5, 0.5, 0.25, 0.5, 0.25]),
        num_nodes=3,
    )
    found = token_graph_metrics(graph)
    # 1 / 0.5 from 1 to 0; every walk from 2 ends at 0: 1 / 0.75; 1 / 0.5.
    assert found.resistance.total == pytest.approx(2 + 4 / 3 + 2)
    assert found.resistance.worst == 2
    # Equal ones: the smallest pair, source first.
    assert found.resistance.worst_pair == (0, 1)
    assert (found.diameter, found.unreachable_pairs) == (1, 0)
    # A triangle: 2/2 + 2/2 - 2 + 2 * 1/2 + 1/2.
    assert found.mean_curvature == found.least_curvature == 1.5


def test_attention_is_even_without_weights() -> None:
    graph = sliding_window_graph(9, 3, sinks=1)
    degree = torch.bincount(graph.edge_index[1])
    weighted = graph.clone()
    weighted.edge_weight = 1 / degree[graph.edge_index[1]].double()
    assert token_graph_metrics(graph, hops=2) == token_graph_metrics(
        weighted, hops=2
    )


def test_a_window_has_its_length_in_steps() -> None:
    found = token_graph_metrics(sliding_window_graph(11, 3))
    # Ten positions, two at a step.
    assert found.diameter == 5
    assert found.unreachable_pairs == 0
    assert found.num_edges == 11 * 3 - 3


@pytest.mark.parametrize('size', [1, 2, 3, 8])
def test_the_full_graph_has_a_closed_form(size: int) -> None:
    graph = causal_graph(size)
    found = token_graph_metrics(graph)
    curvature = [
        balanced_forman_by_definition(nx.complete_graph(size), 0, 1)
        for _ in range(size > 1)
    ]
    expected = curvature[0] if curvature else None
    assert found.mean_curvature == pytest.approx(expected, abs=1e-12)
    assert found.diameter == min(size - 1, 1)
    assert found.num_edges == size * (size + 1) // 2


def test_pairs_out_of_reach() -> None:
    graph = Data(edge_index=torch.tensor([[0, 2], [1, 3]]), num_nodes=4)
    found = token_graph_metrics(graph, hops=1)
    assert found.unreachable_pairs == 4
    assert found.resistance.total == math.inf
    assert found.resistance.worst == math.inf
    assert found.resistance.worst_pair == (0, 2)
    assert found.diameter == 1


@pytest.mark.parametrize('size', [1, 4])
def test_no_edges(size: int) -> None:
    graph = Data(
        edge_index=torch.empty(2, 0, dtype=torch.int64), num_nodes=size
    )
    found = token_graph_metrics(graph)
    assert found.unreachable_pairs == size * (size - 1) // 2
    assert (found.diameter, found.gap, found.num_edges) == (0, 0, 0)
    assert found.mean_curvature is None
    assert found.resistance.total == (0 if size == 1 else math.inf)


def test_repeated_edges_are_one_way() -> None:
    twice = torch.tensor([[0, 0, 1], [1, 1, 2]])
    found = token_graph_metrics(Data(edge_index=twice, num_nodes=3))
    assert found.diameter == 2
    assert found.num_edges == 3


def test_what_goes_backwards_is_refused() -> None:
    graph = Data(edge_index=torch.tensor([[1], [0]]), num_nodes=2)
    for measure in (
        token_graph_metrics,
        resistance_metrics,
        resistance_by_distance,
        path_lengths,
    ):
        with pytest.raises(ValueError, match='Expected a causal graph'):
            measure(graph)


def test_no_node_is_refused() -> None:
    graph = Data(edge_index=torch.empty(2, 0, dtype=torch.int64), num_nodes=0)
    with pytest.raises(ValueError, match='at least one node'):
        token_graph_metrics(graph)


def test_curvature_that_takes_long_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    graph = sliding_window_graph(12, 4)
    assert token_graph_metrics(graph).mean_curvature is not None
    work = token_graph._work(torch.tensor([[0, 1, 1], [1, 2, 3]]), num_nodes=4)
    # Degrees 1, 3, 1, 1: around 1 there are 3, around each other one 3.
    assert work == 3 * 3 + 3 * 3
    monkeypatch.setattr(token_graph, '_MOST_WORK', 5)
    found = token_graph_metrics(graph)
    assert found.mean_curvature is found.least_curvature is None
    full = token_graph_metrics(causal_graph(12))
    assert full.mean_curvature == pytest.approx(12 / 11)


def test_quantiles_by_distance() -> None:
    graph = random_causal(3, 10, 0.8)
    R = naive_resistance(matrix(graph), 1.5)
    found = resistance_by_distance(graph, (0.0, 0.5, 1.0), hops=1.5)
    assert found.shape == (3, 9)
    for d in range(1, 10):
        values = sorted(R[i, i - d] for i in range(d, 10))
        middle = values[math.ceil((len(values) - 1) / 2)]
        expected = [values[0], middle, values[-1]]
        assert found[:, d - 1].tolist() == pytest.approx(expected, rel=CLOSE)


def test_one_token_has_no_distances() -> None:
    assert resistance_by_distance(causal_graph(1)).shape == (3, 0)


def test_input_is_left_alone_and_the_result_is_plain() -> None:
    graph = random_causal(1, 7, 0.7)
    before = graph.clone()
    found = token_graph_metrics(graph, hops=2).to_dict()
    assert torch.equal(graph.edge_index, before.edge_index)
    assert torch.equal(graph.edge_weight, before.edge_weight)
    assert found['resistance']['hops'] == 2
    assert {type(v) for v in found.values()} <= {int, float, dict}
