from itertools import combinations
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from attributed import causal_data, check_aligned, edge_set, undirected_data
from hypothesis import given, settings
from networks import DIGRAPHS, NETWORKS, edges_of
from scipy.linalg import eigh
from torch_geometric.data import Data

from gnnbridge.transforms.changes import Changes
from gnnbridge.transforms.proxy import ProxyAdd, ProxyDelete

PROPERTY = settings(deadline=None, max_examples=25, derandomize=True)
# No eigenvalue that is multiple on the way.
PLAIN = ['karate', 'barbell', 'gnm-31', 'barabasi-albert-43', 'tree']
Pair = tuple[int, int]


def picks(changes: Changes, added: bool = True) -> list[Pair]:
    edges = changes.edge_index[:, changes.is_added == added]
    return [(u, v) for u, v in edges.T.tolist() if u < v]


def gap_of(
    weights: np.ndarray, loops: float, number: int = 1
) -> tuple[float, np.ndarray]:
    degree = weights.sum(0)
    values, vectors = eigh(np.diag(degree) - weights, np.diag(degree + loops))
    return float(values[number]), vectors[:, number]


def connected(weights: np.ndarray, u: int, v: int) -> bool:
    graph = nx.from_numpy_array(weights)
    return nx.has_path(graph, u, v)


def naive(
    weights: np.ndarray,
    there: np.ndarray,
    edges: int,
    adds: bool,
    loops: float = 1.0,
    number: int = 1,
) -> tuple[list[Pair], list[float]]:
    """Every score of every pair, and every eigenvector of every graph."""
    weights, there = weights.copy(), there.copy()
    value, f = gap_of(weights, loops, number)
    found, trace = [], [value]
    for _ in range(edges):
        scores = {}
        for u, v in combinations(range(len(weights)), 2):
            change = 1.0 if adds else -weights[u, v]
            if there[u, v] == adds:
                continue
            if not adds and weights[u, v] > 0:
                without = weights.copy()
                without[[u, v], [v, u]] = 0
                if not connected(without, u, v):
                    continue
            step = (f[u] - f[v]) ** 2 - value * (f[u] ** 2 + f[v] ** 2)
            scores[u, v] = change * step
        if not scores:
            break
        best = max(scores.values())
        least = best - 1e-9 * abs(best)
        u, v = min(pair for pair, score in scores.items() if score >= least)
        found.append((u, v))
        weights[[u, v], [v, u]] = 1 if adds else 0
        there[[u, v], [v, u]] = adds
        value, f = gap_of(weights, loops, number)
        trace.append(value)
    return found, trace


def plain(graph: Any) -> np.ndarray:
    return nx.to_numpy_array(graph, nodelist=sorted(graph), weight=None)


@pytest.mark.parametrize('method', [ProxyAdd, ProxyDelete])
@pytest.mark.parametrize('name', PLAIN)
def test_it_is_the_formula(name: str, method: Any) -> None:
    graph = NETWORKS[name]
    for loops in (1.0, 0.0, 0.3):
        changes = method(6, self_loop_weight=loops).plan(edges_of(graph))
        adds = method is ProxyAdd
        there = plain(graph) > 0
        expected, trace = naive(plain(graph), there, 6, adds, loops)
        assert picks(changes, adds) == expected
        assert changes.trace.tolist() == pytest.approx(trace, abs=1e-11)
        assert changes.exhausted == (len(expected) < 6)


def test_the_eigenvalue_counts() -> None:
    # Nodes 5 and 6 are farther apart than 6 and 7, which gain more.
    rows = ['8244734', '212887', '47466', '7323', '336', '05', '0']
    weights = np.zeros((8, 8))
    for u, row in enumerate(rows):
        weights[u, u + 1 :] = [int(digit) for digit in row]
    weights += weights.T
    edges = torch.from_numpy(np.stack(np.nonzero(weights)))
    weight = torch.from_numpy(weights[tuple(edges.numpy())])
    _, f = gap_of(weights, 1.0)
    assert abs(f[5] - f[6]) > abs(f[6] - f[7])
    assert picks(ProxyAdd(1).plan(edges, weight)) == [(6, 7)]
    assert naive(weights, weights > 0, 1, True)[0] == [(6, 7)]


@pytest.mark.parametrize('method', [ProxyAdd, ProxyDelete])
def test_weights_count_unless_they_shall_not(method: Any) -> None:
    graph = NETWORKS['gnm-31']
    edges = edges_of(graph)
    half = torch.rand(61, generator=torch.Generator().manual_seed(0)).double()
    # An edge that does not conduct can go, and need not come.
    half[7] = 0
    weight = torch.cat([half, half])
    dense = np.zeros((31, 31))
    dense[tuple(edges.numpy())] = weight
    changes = method(8).plan(edges, weight)
    adds = method is ProxyAdd
    expected, trace = naive(dense, plain(graph) > 0, 8, adds)
    assert picks(changes, adds) == expected
    assert changes.trace.tolist() == pytest.approx(trace, abs=1e-11)
    ignored = method(8, weighted=False)
    assert torch.equal(
        ignored.plan(edges, weight).edge_index,
        method(8).plan(edges).edge_index,
    )
    assert (ignored.static, method(8).static) == (True, False)


def test_deletions_of_the_plain_formula_raise_the_gap() -> None:
    # The released code's lower it, from 0.1640 to 0.1501.
    graph = nx.barabasi_albert_graph(40, 2, seed=3)
    trace = ProxyDelete(3).plan(edges_of(graph)).trace
    assert [round(value, 4) for value in trace[[0, -1]].tolist()] == [
        0.1640,
        0.1700,
    ]


def test_by_hand() -> None:
    # The path 0 - 1 - 2 with self-loops: f is antisymmetric, (1, 0, -1), and
    # lambda = 1 / 2 for f' D f = 1, so that f_0 = 1 / 2.
    edges = edges_of(nx.path_graph(3))
    changes = ProxyAdd(1).plan(edges)
    assert picks(changes) == [(0, 2)]
    assert changes.trace.tolist() == pytest.approx([0.5, 1.0])
    assert changes.objective == 'spectral gap'


def test_bridges_stay() -> None:
    changes = ProxyDelete(3).plan(edges_of(NETWORKS['tree']))
    assert changes.edge_index.numel() == 0
    assert changes.exhausted
    # The bridge of a barbell is where it should be cut, and is not.
    graph = NETWORKS['barbell']
    out = ProxyDelete(99)(Data(edge_index=edges_of(graph), num_nodes=10))
    left = nx.Graph(out.edge_index.T.tolist())
    assert left.has_edge(4, 5)
    assert nx.is_tree(left)


def test_edges_that_do_not_conduct_can_go_and_hold_nothing() -> None:
    # The path 0 - 1 - 2, and nothing between 2 and 0, and 2 and 3.
    edges = torch.tensor([[0, 1, 0, 2], [1, 2, 2, 3]])
    weight = torch.tensor([1.0, 1.0, 0.0, 0.0])
    changes = ProxyDelete(9, causal=True).plan(edges, weight)
    assert changes.removed.T.tolist() == [[0, 2], [2, 3]]
    assert changes.exhausted
    assert changes.trace.tolist() == pytest.approx([0.5, 0.5, 0.5])


def test_components_are_joined() -> None:
    graph = nx.disjoint_union_all(
        [nx.cycle_graph(4), nx.path_graph(3), nx.empty_graph(2)]
    )
    data = Data(edge_index=edges_of(graph), num_nodes=9)
    out, changes = ProxyAdd(3).rewire(data)
    assert nx.is_connected(nx.Graph(out.edge_index.T.tolist()))
    assert changes.trace[:3].tolist() == pytest.approx([0, 0, 0], abs=1e-12)
    assert changes.trace[3] > 0.01


def test_of_several_components_the_smallest_gap_counts() -> None:
    slow, fast = nx.cycle_graph(8), nx.complete_graph(5)
    slow.add_edge(0, 2)
    graph = nx.disjoint_union_all([fast, slow, nx.empty_graph(1)])
    changes = ProxyDelete(2).plan(edges_of(graph), num_nodes=14)
    expected, trace = naive(plain(slow), plain(slow) > 0, 2, False)
    assert picks(changes, False) == [(u + 5, v + 5) for u, v in expected]
    # Once the slow one is a path, the fast one's turn comes.
    assert changes.trace[:2].tolist() == pytest.approx(trace[:2])
    assert len(expected) == 2 or changes.exhausted


@pytest.mark.parametrize('method', [ProxyAdd, ProxyDelete])
def test_a_period_is_a_step(method: Any) -> None:
    edges = edges_of(NETWORKS['karate'])
    changes = method(7, period=3).plan(edges)
    assert changes.num_steps == 3
    assert changes.trace.numel() == 4
    assert [changes.first(k).edge_index.size(1) for k in (1, 2, 3)] == [
        6,
        12,
        14,
    ]
    # The first of a period are the best of the same scores.
    weights = plain(NETWORKS['karate'])
    value, f = gap_of(weights, 1.0)
    adds = method is ProxyAdd
    sign = 1 if adds else -1
    scores = {
        (u, v): sign * ((f[u] - f[v]) ** 2 - value * (f[u] ** 2 + f[v] ** 2))
        for u, v in combinations(range(34), 2)
        if (weights[u, v] == 0) == adds
    }
    ranked = sorted(scores, key=lambda pair: (-round(scores[pair], 9), pair))
    expected: list[Pair] = []
    for u, v in ranked:
        left = weights.copy()
        left[[u, v], [v, u]] = 0
        if len(expected) < 3 and (adds or connected(left, u, v)):
            expected.append((u, v))
            weights = left
    assert picks(changes, adds)[:3] == expected
    assert torch.equal(method(3, period=3).plan(edges).edge_index,
                       changes.first(1).edge_index)  # fmt: skip


def test_a_small_budget_is_the_beginning_of_a_large_one() -> None:
    edges = edges_of(NETWORKS['gnm-31'])
    for method in (ProxyAdd, ProxyDelete):
        large, small = method(9).plan(edges), method(4).plan(edges)
        assert torch.equal(large.first(4).edge_index, small.edge_index)
        assert torch.equal(large.first(4).trace, small.trace)


@pytest.mark.parametrize('loops', [0.0, 1.0])
@pytest.mark.parametrize('size', [1, 2, 4])
def test_there_is_an_end(size: int, loops: float) -> None:
    complete = edges_of(nx.complete_graph(size))
    pairs = size * (size - 1) // 2
    more = ProxyAdd(1, self_loop_weight=loops)
    changes = more.plan(complete, num_nodes=size)
    assert changes.exhausted
    assert changes.edge_index.numel() == 0
    none = torch.empty(2, 0, dtype=torch.long)
    every = ProxyAdd(99, self_loop_weight=loops, causal=False)
    changes = every.plan(none, num_nodes=size)
    assert len(set(picks(changes))) == len(picks(changes)) == pairs
    fewer = ProxyDelete(99, self_loop_weight=loops)
    changes = fewer.plan(complete, num_nodes=size)
    assert len(picks(changes, False)) == pairs - (size - 1)
    assert changes.exhausted
    assert changes.trace.isfinite().all()


@pytest.mark.parametrize('method', [ProxyAdd, ProxyDelete])
@pytest.mark.parametrize('name', ['petersen', 'cycle-5', 'complete', 'grid'])
def test_symmetric_graphs_have_one_result(name: str, method: Any) -> None:
    edges = edges_of(NETWORKS[name])
    first, second = method(3).plan(edges), method(3).plan(edges)
    assert torch.equal(first.edge_index, second.edge_index)
    assert torch.equal(first.trace, second.trace)


def test_causal_graphs_get_edges_to_later_nodes() -> None:
    edges = edges_of(DIGRAPHS['window-and-sink'])
    both = torch.cat([edges, edges.flip(0)], dim=1)
    added = ProxyAdd(4).plan(edges).added
    assert (added[0] < added[1]).all()
    assert edge_set(added) == set(picks(ProxyAdd(4).plan(both)))
    removed = ProxyDelete(4).plan(edges).removed
    assert edge_set(removed) == set(picks(ProxyDelete(4).plan(both), False))


@PROPERTY
@given(data=undirected_data() | causal_data())
def test_nothing_else_changes(data: Data) -> None:
    before = data.clone()
    causal = bool((data.edge_index[0] <= data.edge_index[1]).all())
    for method in (ProxyAdd(3), ProxyDelete(2)):
        out, changes = method.rewire(data)
        check_aligned(data, out)
        edges = edge_set(out.edge_index)
        assert len(edges) == out.edge_index.size(1)
        assert not any(u == v for u, v in edges - edge_set(data.edge_index))
        if causal:
            assert all(u <= v for u, v in edges)
        else:
            assert edges == {(v, u) for u, v in edges}
        assert changes.trace.isfinite().all()
    assert torch.equal(data.edge_index, before.edge_index)
    assert torch.equal(data.edge_weight, before.edge_weight)


@pytest.mark.parametrize('method', [ProxyAdd, ProxyDelete])
@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'num_edges': -1}, "'num_edges' to be at least 0"),
        ({'num_edges': 1, 'period': 0}, "'period' to be at least 1"),
        ({'num_edges': 1, 'self_loop_weight': -0.5}, "'self_loop_weight'"),
        (
            {'num_edges': 1, 'self_loop_weight': float('nan')},
            "'self_loop_weight'",
        ),
    ],
)
def test_bad_arguments(
    method: Any, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        method(**arguments)


def test_they_say_what_they_are() -> None:
    expected = 'period=1, self_loop_weight=1.0, weighted=True, causal=None)'
    assert repr(ProxyAdd(2)) == f'ProxyAdd(num_edges=2, {expected}'
    assert repr(ProxyDelete(2)) == f'ProxyDelete(num_edges=2, {expected}'
