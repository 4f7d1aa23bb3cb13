import math
from typing import Any

import networkx as nx
import numpy as np
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
from networks import (
    DIGRAPHS,
    NETWORKS,
    balanced_forman_by_definition,
    edges_of,
)
from torch import Tensor
from torch_geometric.data import Data

from gnnbridge.graph.causal import causal_graph
from gnnbridge.transforms.changes import Changes
from gnnbridge.transforms.sdrf import SDRF

PROPERTY = settings(deadline=None, max_examples=25, derandomize=True)
GRAPHS = {**NETWORKS, **DIGRAPHS}
Edge = tuple[int, int]


def curvature(graph: Any, edge: Edge) -> float:
    # Equal on paper, equal here.
    return round(balanced_forman_by_definition(graph, *edge), 9)


def curvatures(graph: Any) -> dict[Edge, float]:
    edges = [tuple(edge) for edge in graph.edges]
    if not graph.is_directed():
        edges = [(min(edge), max(edge)) for edge in edges]
    return {edge: curvature(graph, edge) for edge in edges}


def improvements(graph: Any, edge: Edge) -> dict[Edge, float]:
    """What the curvature of an edge gains by each candidate."""
    x, y = edge
    before = graph.pred if graph.is_directed() else graph.adj
    now, found = curvature(graph, edge), {}
    for k in {x, *before[x]}:
        for l in {y, *graph.adj[y]}:
            if k == l or graph.has_edge(k, l):
                continue
            name = (k, l) if graph.is_directed() else tuple(sorted((k, l)))
            graph.add_edge(k, l)
            found[name] = round(curvature(graph, edge) - now, 9)
            graph.remove_edge(k, l)
    return found


def naive(
    graph: Any, steps: int, bound: float = math.inf
) -> tuple[list[tuple[Edge | None, Edge | None]], list[float]]:
    """Algorithm 1 with every curvature from the beginning."""
    graph = graph.copy()
    events, trace = [], [min(curvatures(graph).values())]
    for _ in range(steps):
        added = removed = None
        for _, edge in sorted((v, e) for e, v in curvatures(graph).items()):
            gains = improvements(graph, edge)
            if gains:
                best = max(gains.values())
                added = min(e for e, gain in gains.items() if gain == best)
                graph.add_edge(*added)
                break
        values = curvatures(graph)
        values.pop(added, None)
        most = max(values.values())
        if most > bound:
            removed = min(e for e, value in values.items() if value == most)
            graph.remove_edge(*removed)
        if (added, removed) == (None, None):
            break
        events.append((added, removed))
        trace.append(min(curvatures(graph).values()))
    return events, trace


def events_of(changes: Changes) -> list[tuple[Edge | None, Edge | None]]:
    """The edge that is added in each step, and the one that is removed."""
    steps: list[list[Edge | None]] = [
        [None, None] for _ in range(changes.num_steps)
    ]
    for edge, adds, step in zip(
        changes.edge_index.T.tolist(),
        changes.is_added.tolist(),
        changes.step.tolist(),
        strict=True,
    ):
        which = 0 if adds else 1
        known = steps[step][which]
        # Of the two directions that from the smaller node comes first.
        assert known in (None, tuple(edge[::-1]))
        steps[step][which] = known or tuple(edge)
    return [(added, removed) for added, removed in steps]


@pytest.mark.parametrize('bound', [None, 0.4])
@pytest.mark.parametrize('name', GRAPHS)
def test_equals_the_naive_algorithm(name: str, bound: float | None) -> None:
    graph = GRAPHS[name]
    expected, trace = naive(graph, 6, math.inf if bound is None else bound)
    changes = SDRF(6, removal_bound=bound).plan(edges_of(graph))
    assert events_of(changes) == expected
    # Curvatures there are rounded.
    assert changes.trace.tolist() == pytest.approx(trace, abs=1e-8)
    assert changes.exhausted == (len(expected) < 6)
    assert changes.objective == 'least curvature'


def test_known_values() -> None:
    karate = SDRF(1).plan(edges_of(NETWORKS['karate']))
    assert karate.trace[0].item() == pytest.approx(-1.39583333, abs=1e-8)
    barbell = SDRF(2).plan(edges_of(NETWORKS['barbell']))
    assert barbell.trace[0].item() == pytest.approx(-1.2)
    # The bridge 4 - 5: the triangle gives it 2/6 + 2/5 - 2 + 2/6 + 1/5, a
    # square 2/5 + 2/5 - 2 + 2/5.
    assert barbell.added.tolist()[0][0] == 0
    assert barbell.added[:, 0].tolist() == [0, 5]
    assert barbell.added[:, 1].tolist() == [5, 0]


def test_budgets_share_their_first_steps() -> None:
    edges = edges_of(NETWORKS['karate'])
    for options in ({}, {'temperature': 5.0}, {'removal_bound': 0.3}):
        longest = SDRF(9, **options).plan(edges)
        for steps in (0, 4, 9):
            short = SDRF(steps, **options).plan(edges)
            first = longest.first(steps)
            assert torch.equal(first.edge_index, short.edge_index)
            assert torch.equal(first.is_added, short.is_added)
            assert torch.equal(first.trace, short.trace)


@pytest.mark.parametrize('temperature', [0.0, 6.0])
def test_draws_by_softmax(temperature: float) -> None:
    graph = nx.barbell_graph(3, 0)
    gains = improvements(graph.copy(), (2, 3))
    share = np.exp([temperature * gain for gain in gains.values()])
    expected = dict(zip(gains, share / share.sum(), strict=True))
    # The two ways round of a candidate are one.
    assert len(gains) == 8
    runs = 150
    count = dict.fromkeys(gains, 0)
    generator = torch.Generator().manual_seed(3)
    transform = SDRF(1, temperature, seed=generator)
    for _ in range(runs):
        count[events_of(transform.plan(edges_of(graph)))[0][0]] += 1
    for name, probability in expected.items():
        spread = math.sqrt(runs * probability * (1 - probability))
        # Four standard deviations: one in sixteen thousand.
        assert abs(count[name] - runs * probability) <= 4 * spread + 1


def test_two_common_neighbors_are_one_candidate() -> None:
    # 2 - 3 is the only edge missing around 0 - 1, once all others are there.
    edges = torch.tensor([[0, 0, 0, 1, 1], [1, 2, 3, 2, 3]])
    both = torch.cat([edges, edges.flip(0)], dim=1)
    for temperature in (0.0, 1.0, math.inf):
        changes = SDRF(2, temperature).plan(both)
        assert changes.added.tolist() == [[2, 3], [3, 2]]
        assert changes.exhausted


def test_large_temperatures_take_the_best() -> None:
    graph = NETWORKS['gnm-19-dense']
    edges = edges_of(graph)
    best = SDRF(1).plan(edges)
    _, edge = min((v, e) for e, v in curvatures(graph).items())
    gains = improvements(graph.copy(), edge)
    assert gains[events_of(best)[0][0]] == max(gains.values())
    for temperature in (1e4, 1e308):
        drawn = SDRF(1, temperature, seed=5).plan(edges)
        assert gains[events_of(drawn)[0][0]] == max(gains.values())


def test_seeds() -> None:
    edges = edges_of(NETWORKS['karate'])

    def plan(seed: Any) -> Tensor:
        return SDRF(6, 1.0, seed=seed).plan(edges).edge_index

    assert torch.equal(plan(0), SDRF(6, 1.0).plan(edges).edge_index)
    assert not torch.equal(plan(0), plan(1))
    generator = torch.Generator().manual_seed(0)
    assert not torch.equal(plan(generator), plan(generator))
    again = torch.Generator().manual_seed(0)
    assert torch.equal(plan(again), plan(torch.Generator().manual_seed(0)))


@PROPERTY
@given(
    data=causal_data(),
    temperature=st.sampled_from([math.inf, 2.0]),
    bound=st.sampled_from([None, 0.5]),
)
def test_causal_graphs_stay_causal(
    data: Data, temperature: float, bound: float | None
) -> None:
    out, changes = SDRF(5, temperature, removal_bound=bound).rewire(data)
    added = changes.added
    assert (added[0] < added[1]).all()
    assert not edge_set(added) & edge_set(data.edge_index)
    assert changes.num_steps <= 5
    if bound is None:
        assert edge_set(data.edge_index) <= edge_set(out.edge_index)
        assert added.size(1) == changes.num_steps
        assert changes.exhausted == (changes.num_steps < 5)
    check_aligned(data, out)


@PROPERTY
@given(data=undirected_data(), steps=st.integers(0, 8))
def test_undirected_graphs_stay_undirected(data: Data, steps: int) -> None:
    out, changes = SDRF(steps).rewire(data)
    assert edge_set(out.edge_index) == edge_set(out.edge_index.flip(0))
    assert out.num_edges == data.num_edges + 2 * changes.num_steps
    assert len(edge_set(out.edge_index)) == out.num_edges
    assert (changes.added[0] != changes.added[1]).all()
    check_aligned(data, out)


def test_directed_graphs_get_single_edges() -> None:
    # 4, 5, 6 -> 3 -> 2 -> 0, 1, 7: an edge past 3 -> 2 makes a square.
    edges = torch.tensor([[4, 5, 6, 3, 2, 2, 2], [3, 3, 3, 2, 0, 1, 7]])
    changes = SDRF(1).plan(edges)
    assert changes.added.tolist() == [[4], [0]]
    # 2/3 + 2/3 - 2, and then two squares more over 1 * 3.
    assert changes.trace.tolist() == pytest.approx([-2 / 3, 0], abs=1e-12)


def test_ends_when_nothing_is_missing() -> None:
    complete = SDRF(3).plan(edges_of(NETWORKS['complete']))
    assert complete.exhausted
    assert complete.edge_index.numel() == 0
    causal = SDRF(3).plan(causal_graph(7).edge_index)
    assert causal.exhausted
    none = torch.zeros(2, 0, dtype=torch.long)
    for num_nodes in (1, 4):
        for causal_ in (None, False):
            changes = SDRF(2, causal=causal_).plan(none, num_nodes=num_nodes)
            assert changes.exhausted
            assert changes.trace.numel() == 0
    assert not SDRF(0).plan(none, num_nodes=1).exhausted


def test_an_edge_without_candidates_is_passed_over() -> None:
    # The edge 0 - 1 has curvature 0, those of the ring 1.
    graph = nx.Graph([(0, 1), (2, 3), (3, 4), (4, 5), (5, 2)])
    changes = SDRF(3).plan(edges_of(graph), num_nodes=7)
    assert events_of(changes) == [((2, 4), None), ((3, 5), None)]
    assert changes.exhausted
    assert changes.trace.tolist() == [0, 0, 0]


def test_removal_alone() -> None:
    # Nothing can be added to a complete graph: 2/6 + 2/6 - 2 + 3 * 5/6.
    edges = edges_of(NETWORKS['complete'])
    changes = SDRF(1, removal_bound=7 / 6 - 1e-6).plan(edges)
    assert events_of(changes) == [(None, (0, 1))]
    assert not changes.exhausted
    # The bound itself is not above it.
    assert SDRF(1, removal_bound=7 / 6).plan(edges).exhausted


def test_weights_loops_and_repetitions_play_no_part() -> None:
    edges = edges_of(NETWORKS['barbell-path'])
    expected = SDRF(4).plan(edges).edge_index
    weight = torch.rand(edges.size(1)) + 0.5
    assert torch.equal(SDRF(4).plan(edges, weight).edge_index, expected)
    more = torch.cat([edges, edges[:, :5], edges[:1].repeat(2, 1)], dim=1)
    assert torch.equal(SDRF(4).plan(more).edge_index, expected)


def test_input_stays_as_it_is() -> None:
    data = attributed(edges_of(NETWORKS['karate']), 34)
    copy = data.clone()
    SDRF(4, removal_bound=0.1)(data)
    for name, value in copy.to_dict().items():
        assert torch.equal(torch.as_tensor(data[name]), torch.as_tensor(value))


@pytest.mark.parametrize(
    ('options', 'error', 'match'),
    [
        ({'num_edges': -1}, ValueError, "'num_edges' to be at least 0"),
        ({'num_edges': 1.5}, TypeError, "'num_edges' to be an integer"),
        ({'temperature': -1.0}, ValueError, 'Use 0 to draw'),
        ({'temperature': math.nan}, ValueError, 'NaN'),
        ({'temperature': '1'}, TypeError, "'temperature' to be a number"),
        ({'removal_bound': True}, TypeError, "'removal_bound' to be a number"),
        ({'removal_bound': math.nan}, ValueError, "'removal_bound'"),
    ],
)
def test_arguments(
    options: dict[str, Any], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        SDRF(**{'num_edges': 1, **options})


def test_repr() -> None:
    assert repr(SDRF(3)) == (
        'SDRF(num_edges=3, temperature=inf, removal_bound=None, seed=0, '
        'causal=None)'
    )
