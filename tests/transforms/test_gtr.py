import math
from itertools import combinations, permutations
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from attributed import causal_data, check_aligned, edge_set, undirected_data
from hypothesis import given, settings
from networks import DIGRAPHS, NETWORKS, edges_of
from torch import Tensor
from torch_geometric.data import Data

from gnnbridge.graph.dense import edges_to_dense
from gnnbridge.spectral.resistance import total_resistance
from gnnbridge.transforms import kirchhoff, score_tiles
from gnnbridge.transforms.changes import Changes
from gnnbridge.transforms.gtr import GTR

PROPERTY = settings(deadline=None, max_examples=25, derandomize=True)
Pair = tuple[int, int]


def picks(changes: Changes) -> list[Pair]:
    return [(u, v) for u, v in changes.added.T.tolist() if u < v]


def plain(graph: Any) -> np.ndarray:
    return nx.to_numpy_array(graph, nodelist=sorted(graph), weight=None)


def weighted(graph: Any, seed: int = 0) -> np.ndarray:
    matrix = plain(graph)
    noise = np.random.default_rng(seed).random(matrix.shape) + 0.1
    return matrix * (noise + noise.T)


def dense_edges(weights: np.ndarray) -> tuple[Tensor, Tensor]:
    edges = torch.from_numpy(np.stack(np.nonzero(weights)))
    return edges, torch.from_numpy(weights[tuple(edges.numpy())])


def parts_of(weights: np.ndarray) -> list[list[int]]:
    graph = nx.from_numpy_array(weights)
    return [sorted(nodes) for nodes in nx.connected_components(graph)]


def total_of(weights: np.ndarray, nodes: list[int] | None = None) -> Any:
    """Of one graph or, for the nodes of one component, of several."""
    if nodes is None:
        return sum(total_of(weights, nodes) for nodes in parts_of(weights))
    inner = weights[..., nodes, :][..., nodes]
    laplacian = np.eye(len(nodes)) * inner.sum(-1)[..., None] - inner
    # One over each eigenvalue but zero.
    return len(nodes) * (1 / np.linalg.eigvalsh(laplacian)[..., 1:]).sum(-1)


def naive(
    weights: np.ndarray, edges: int, conductance: float = 1.0
) -> tuple[list[Pair], list[float]]:
    """The total of the graph with each candidate."""
    weights, there = weights.copy(), weights > 0
    found, trace = [], [total_of(weights)]
    for _ in range(edges):
        gains = {}
        for nodes in parts_of(weights):
            pairs = [p for p in combinations(nodes, 2) if not there[p]]
            changed = np.repeat(weights[None], len(pairs), axis=0)
            for number, (u, v) in enumerate(pairs):
                changed[number, [u, v], [v, u]] += conductance
            lower = total_of(weights, nodes) - total_of(changed, nodes)
            gains.update(zip(pairs, lower.tolist(), strict=True))
        if not gains:
            break
        least = max(gains.values()) - 1e-9 * trace[0]
        u, v = min(pair for pair, gain in gains.items() if gain >= least)
        found.append((u, v))
        weights[[u, v], [v, u]] += conductance
        there[[u, v], [v, u]] = True
        trace.append(total_of(weights))
    return found, trace


@pytest.mark.parametrize('name', sorted(set(NETWORKS) - {'karate'}))
def test_it_is_the_best_edge_each_time(name: str) -> None:
    graph = NETWORKS[name]
    changes = GTR(3).plan(edges_of(graph), num_nodes=len(graph))
    expected, trace = naive(plain(graph), 3)
    assert picks(changes) == expected
    assert changes.trace.tolist() == pytest.approx(trace, rel=1e-9)
    assert changes.exhausted == (len(expected) < 3)
    assert changes.objective == 'total resistance'


@pytest.mark.parametrize('conductance', [0.2, 1.0, 30.0])
@pytest.mark.parametrize('name', ['gnm-31', 'tree', 'ring-of-cliques'])
def test_with_weights(name: str, conductance: float) -> None:
    weights = weighted(NETWORKS[name])
    edges, weight = dense_edges(weights)
    method = GTR(3, weight=conductance)
    changes = method.plan(edges, weight, len(weights))
    expected, trace = naive(weights, 3, conductance)
    assert picks(changes) == expected
    assert changes.trace.tolist() == pytest.approx(trace, rel=1e-9)
    assert set(changes.weight.tolist()) == {conductance}


def test_weights_that_shall_not_count() -> None:
    edges, weight = dense_edges(weighted(NETWORKS['gnm-31']))
    method = GTR(4, weighted=False)
    ignored = method.plan(edges, weight)
    assert torch.equal(ignored.added, GTR(4).plan(edges).added)
    assert not torch.equal(ignored.added, GTR(4).plan(edges, weight).added)
    assert (method.static, GTR(4).static) == (True, False)


def test_numbers_of_the_released_code() -> None:
    barbell = GTR(5).plan(edges_of(nx.barbell_graph(5, 0))).trace
    assert [round(value, 4) for value in barbell.tolist()] == [
        49, 30.9286, 24.5238, 21.0357, 18.7143, 17.6896,
    ]  # fmt: skip
    path = GTR(5).plan(edges_of(nx.path_graph(10)))
    assert picks(path)[0] == (1, 8)
    assert [round(v, 3) for v in path.trace[[0, 1]].tolist()] == [165, 81.875]
    after = {
        'karate': 377.87,
        'ring-of-cliques': 117.89,
        'petersen': 23.16,
    }
    for name, total in after.items():
        trace = GTR(5).plan(edges_of(NETWORKS[name])).trace
        assert round(trace[-1].item(), 2) == total
    karate = GTR(2).plan(edges_of(NETWORKS['karate']))
    assert picks(karate) == [(16, 26), (11, 25)]


@pytest.mark.parametrize('graph', ['random', 'grid', 'path'])
def test_many_edges_later_the_total_is_exact(
    monkeypatch: pytest.MonkeyPatch, graph: str
) -> None:
    graphs = {
        'random': nx.gnm_random_graph(50, 90, seed=1),
        'grid': nx.convert_node_labels_to_integers(nx.grid_2d_graph(7, 7)),
        'path': nx.path_graph(60),
    }
    data = Data(
        edge_index=edges_of(graphs[graph]), num_nodes=len(graphs[graph])
    )
    whole = GTR(150).plan(data.edge_index, num_nodes=data.num_nodes)
    monkeypatch.setattr(score_tiles, '_WIDTH', 7)
    monkeypatch.setattr(score_tiles, '_CHANGES', 9)
    monkeypatch.setattr(kirchhoff, '_EDGES', 4)
    out, changes = GTR(150).rewire(data)
    assert torch.equal(changes.edge_index, whole.edge_index)
    weights = np.zeros((data.num_nodes, data.num_nodes))
    weights[tuple(out.edge_index.numpy())] = 1
    for trace in (changes.trace, whole.trace):
        assert trace[-1].item() == pytest.approx(total_of(weights), rel=1e-9)
        assert (trace.diff() < 0).all()


def test_components_stay_apart_and_their_size_counts() -> None:
    # The mean over the nodes falls more in the path, the sum in the ring.
    parts = [nx.path_graph(4), nx.empty_graph(2), nx.cycle_graph(7)]
    graph = nx.disjoint_union_all([*parts, nx.complete_graph(3)])
    changes = GTR(4).plan(edges_of(graph), num_nodes=16)
    expected, trace = naive(plain(graph), 4)
    assert picks(changes) == expected
    assert expected[0] == (6, 9)
    assert changes.trace.tolist() == pytest.approx(trace, rel=1e-9)


def test_edges_that_do_not_conduct_connect_nothing() -> None:
    # 0 - 1 - 2, 2 - 3 without conductance, 3 - 4 - 5.
    edges = edges_of(nx.path_graph(6))
    weight = torch.tensor([1.0, 1, 0, 1, 1] * 2)
    changes = GTR(9).plan(edges, weight)
    assert picks(changes) == [(0, 2), (3, 5)]
    assert changes.trace.tolist() == pytest.approx([8, 6, 4])
    assert changes.exhausted


@pytest.mark.parametrize('tiny', [1e-14, 1e-40])
def test_weights_of_too_different_sizes(tiny: float) -> None:
    edges = edges_of(NETWORKS['barbell'])
    bridge = (edges.sum(0) == 9) & (edges.diff(dim=0)[0].abs() == 1)
    weight = torch.where(bridge, tiny, 1.0).double()
    assert bridge.sum() == 2
    with pytest.raises(ValueError, match=f'from {tiny} to 1'):
        GTR(1).plan(edges, weight)
    # This is far, and still one over the weight but for some digits.
    near = GTR(1).plan(edges, torch.where(bridge, 1e-6, 1.0).double())
    assert near.trace[0].item() == pytest.approx(25e6, rel=1e-5)


@pytest.mark.parametrize('kind', ['undirected', 'lyapunov'])
@pytest.mark.parametrize('size', [1, 2, 5])
def test_complete_graphs_have_no_candidates(size: int, kind: Any) -> None:
    edges = edges_of(nx.complete_graph(size))
    changes = GTR(3, kind=kind).plan(edges, num_nodes=size)
    assert changes.exhausted
    assert changes.edge_index.shape == (2, 0)
    assert changes.trace.tolist() == pytest.approx([size - 1])


def test_without_edges_there_is_nothing_to_improve() -> None:
    none = torch.empty(2, 0, dtype=torch.long)
    changes = GTR(3).plan(none, num_nodes=4)
    assert changes.exhausted
    assert changes.trace.tolist() == [0]
    assert not GTR(0).plan(none, num_nodes=4).exhausted


def test_causal_graphs_get_edges_to_later_nodes() -> None:
    edges = edges_of(DIGRAPHS['window-and-sink'])
    both = torch.cat([edges, edges.flip(0)], dim=1)
    added = GTR(5).plan(edges).added
    assert (added[0] < added[1]).all()
    assert edge_set(added) == set(picks(GTR(5).plan(both)))


@pytest.mark.parametrize('kind', ['undirected', 'lyapunov'])
def test_a_small_budget_is_the_beginning_of_a_large_one(kind: Any) -> None:
    edges = edges_of(DIGRAPHS['window-and-sink'])
    large = GTR(9, kind=kind).plan(edges)
    small = GTR(4, kind=kind).plan(edges)
    assert torch.equal(large.first(4).edge_index, small.edge_index)
    assert torch.equal(large.first(4).trace, small.trace)


def lyapunov(A: Tensor) -> float:
    return float(total_resistance(A, kind='lyapunov'))


def naive_directed(
    A: Tensor, edges: int, conductance: float, causal: bool
) -> tuple[list[Pair], list[float]]:
    A, there = A.clone(), A > 0
    found, trace = [], [lyapunov(A)]
    for _ in range(edges):
        gains = {}
        for source, target in permutations(range(len(A)), 2):
            if there[target, source] or (causal and source > target):
                continue
            changed = A.clone()
            changed[target, source] += conductance
            gains[source, target] = trace[-1] - lyapunov(changed)
        slack = 1e-9 * trace[-1]
        if not gains or max(gains.values()) <= slack:
            break
        least = max(gains.values()) - slack
        edge = min(edge for edge, gain in gains.items() if gain >= least)
        found.append(edge)
        A[edge[::-1]] += conductance
        there[edge[::-1]] = True
        trace.append(lyapunov(A))
    return found, trace


@pytest.mark.parametrize('conductance', [0.5, 1.0, 4.0])
@pytest.mark.parametrize('weights', [False, True])
@pytest.mark.parametrize('name', ['window-and-sink', 'gnp-9-dense', 'cycle'])
def test_directed_form(name: str, weights: bool, conductance: float) -> None:
    graph = DIGRAPHS[name]
    edges = edges_of(graph)
    weight = None
    if weights:
        generator = torch.Generator().manual_seed(1)
        weight = torch.rand(edges.size(1), generator=generator).double() + 0.1
    method = GTR(3, kind='lyapunov', weight=conductance)
    changes = method.plan(edges, weight)
    A = edges_to_dense(edges, weight, len(graph)).double()
    causal = name == 'window-and-sink'
    expected, trace = naive_directed(A, 3, conductance, causal)
    assert [tuple(edge) for edge in changes.added.T.tolist()] == expected
    assert changes.trace.tolist() == pytest.approx(trace, rel=1e-9)
    assert changes.exhausted == (len(expected) < 3)


def test_directed_form_ends_where_no_edge_helps() -> None:
    # The one candidate, 1 -> 3, ties node 3 to the slow node 1.
    edges = torch.tensor([[0, 0, 1, 0, 2], [1, 2, 2, 3, 3]])
    weight = torch.tensor([0.1, 10, 1, 1, 0.1]).double()
    A = edges_to_dense(edges, weight, 4)
    before = lyapunov(A)
    A[3, 1] += 10
    assert lyapunov(A) > before + 8
    changes = GTR(1, kind='lyapunov', weight=10.0).plan(edges, weight)
    assert changes.edge_index.numel() == 0
    assert changes.exhausted
    assert changes.trace.tolist() == pytest.approx([before])
    # A weaker one does help.
    assert GTR(1, kind='lyapunov').plan(edges, weight).num_steps == 1


def test_directed_form_without_weights() -> None:
    edges = edges_of(DIGRAPHS['window-and-sink'])
    twice = torch.cat([edges, edges[:, :5]], dim=1)
    weight = torch.rand(twice.size(1), generator=torch.Generator())
    method = GTR(2, kind='lyapunov', weighted=False)
    expected = GTR(2, kind='lyapunov').plan(edges)
    for changes in (
        method.plan(twice, weight),
        GTR(2, kind='lyapunov').plan(twice),
    ):
        assert torch.equal(changes.edge_index, expected.edge_index)
        assert torch.equal(changes.trace, expected.trace)


def test_directed_form_asks_for_one_closed_class() -> None:
    edges = torch.tensor([[0, 2], [1, 3]])
    with pytest.raises(ValueError, match='nodes 0 and 2 in different ones'):
        GTR(1, kind='lyapunov').plan(edges)


@PROPERTY
@given(data=undirected_data() | causal_data())
def test_nothing_else_changes(data: Data) -> None:
    before = data.clone()
    out, changes = GTR(4).rewire(data)
    check_aligned(data, out)
    edges = edge_set(out.edge_index)
    assert len(edges) == out.edge_index.size(1)
    assert not any(u == v for u, v in edges - edge_set(data.edge_index))
    if bool((data.edge_index[0] <= data.edge_index[1]).all()):
        assert all(u <= v for u, v in edges)
    else:
        assert edges == {(v, u) for u, v in edges}
    assert (changes.trace.diff() < 0).all()
    assert torch.equal(data.edge_index, before.edge_index)
    assert torch.equal(data.edge_weight, before.edge_weight)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'num_edges': -1}, "'num_edges' to be at least 0"),
        ({'num_edges': 1, 'weight': 0.0}, "'weight' to be positive"),
        ({'num_edges': 1, 'weight': math.nan}, "'weight' to be positive"),
        ({'num_edges': 1, 'kind': 'directed'}, "'undirected' or 'lyapunov'"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GTR(**arguments)


def test_it_says_what_it_is() -> None:
    assert repr(GTR(2)) == (
        "GTR(num_edges=2, weight=1.0, kind='undirected', weighted=True, "
        'causal=None)'
    )
