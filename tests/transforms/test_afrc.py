from typing import Any

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
from networks import DIGRAPHS, NETWORKS, edges_of
from torch_geometric.data import Data

from gnnbridge.curvature.forman import augmented_forman
from gnnbridge.graph.causal import causal_graph
from gnnbridge.transforms.afrc import AFRC
from gnnbridge.transforms.changes import Changes
from gnnbridge.transforms.mixture import fit_two_gaussians

PROPERTY = settings(deadline=None, max_examples=25, derandomize=True)
GRAPHS = {**NETWORKS, **DIGRAPHS}
Edge = tuple[int, int]


def curvatures(graph: Any, cycles: int) -> dict[Edge, float]:
    """The formula, and cycles by their nodes; directions play no part."""
    skeleton = graph.to_undirected()
    found = {}
    for u, v in graph.edges:
        edge = (u, v) if graph.is_directed() else (min(u, v), max(u, v))
        near_u, near_v = set(skeleton[u]) - {v}, set(skeleton[v]) - {u}
        value = 2 - len(near_u) - len(near_v) + 3 * len(near_u & near_v)
        if cycles == 4:
            value += 2 * sum(
                skeleton.has_edge(w, x)
                for w in near_u
                for x in near_v
                if w != x
            )
        found[edge] = value
    return found


def naive(
    graph: Any, cycles: int, num_edges: int | None, num_removed: int | None
) -> tuple[list[Edge], list[Edge]]:
    """With the smallest node that there is to be had."""
    graph = graph.copy()
    before = graph.pred if graph.is_directed() else graph.adj
    first = values = curvatures(graph, cycles)
    added: list[Edge] = []
    while num_edges is None or len(added) < num_edges:
        edges = sorted((value, edge) for edge, value in values.items())
        if num_edges is None:
            fit = fit_two_gaussians(torch.tensor(list(values.values())).numpy())
            low = -float('inf') if fit is None else fit.crossing
            edges = [item for item in edges if item[0] < low]
        count = len(added)
        for _, (u, v) in edges:
            if num_edges is not None and len(added) == num_edges:
                break
            shortcuts = [(w, v) for w in sorted(before[u])]
            shortcuts += [(u, w) for w in sorted(graph.adj[v])]
            for k, l in shortcuts:
                if k != l and not graph.has_edge(k, l):
                    if not graph.is_directed():
                        k, l = min(k, l), max(k, l)
                    graph.add_edge(k, l)
                    added.append((k, l))
                    break
        if num_edges is None or len(added) == count:
            break
        values = curvatures(graph, cycles)
    highest = sorted((-value, edge) for edge, value in first.items())
    if num_removed is None:
        fit = fit_two_gaussians(torch.tensor(list(first.values())).numpy())
        high = (
            float('inf') if fit is None or num_edges is not None else fit.high
        )
        return added, [edge for value, edge in highest if -value > high]
    return added, [edge for _, edge in highest[:num_removed]]


def picks(changes: Changes, *, adds: bool, directed: bool) -> list[Edge]:
    edges = changes.edge_index[:, changes.is_added == adds].T.tolist()
    return [(u, v) for u, v in edges if directed or u < v]


@pytest.mark.parametrize(
    ('num_edges', 'num_removed'),
    [(None, None), (None, 0), (6, None), (6, 3), (None, 2), (95, 0)],
)
@pytest.mark.parametrize('cycles', [3, 4])
@pytest.mark.parametrize('name', GRAPHS)
def test_equals_the_naive_algorithm(
    name: str, cycles: Any, num_edges: int | None, num_removed: int | None
) -> None:
    graph = GRAPHS[name]
    transform = AFRC(
        num_edges, cycles=cycles, num_removed=num_removed, seed=None
    )
    changes = transform.plan(edges_of(graph))
    directed = graph.is_directed()
    added = picks(changes, adds=True, directed=directed)
    removed = picks(changes, adds=False, directed=directed)
    expected = naive(graph, cycles, num_edges, num_removed)
    assert (added, removed) == expected
    assert changes.num_steps == len(added) + len(removed)
    assert changes.exhausted == (len(added) < (num_edges or 0))


@pytest.mark.parametrize('name', ['karate', 'gnm-31', 'barabasi-albert-43'])
@pytest.mark.parametrize('cycles', [3, 4])
def test_a_shortcut_is_past_an_edge_of_low_curvature(
    name: str, cycles: Any
) -> None:
    edges = edges_of(NETWORKS[name])
    values = augmented_forman(edges, cycles=cycles)
    fit = fit_two_gaussians(values.chunk(2)[0].numpy())
    assert fit is not None
    low = edge_set(edges[:, values < fit.crossing])
    high = edge_set(edges[:, values > fit.high])
    changes = AFRC(cycles=cycles).plan(edges)
    assert edge_set(changes.removed) == high
    present = edge_set(edges)
    for u, v in changes.added[:, ::2].T.tolist():
        assert (u, v) not in present
        present |= {(u, v), (v, u)}
    # Each of the low edges has a triangle now, if it can have one at all.
    near = {node: {v for u, v in present if u == node} for node, _ in present}
    for u, v in low:
        assert near[u] & near[v]
    assert changes.added.size(1) <= len(low)


def test_hand_made() -> None:
    # F(1, 2) = 4 - 2 - 2, and 1 for the others; then 3 - 0 and 3 - 1.
    path = torch.tensor([[0, 1, 2], [1, 2, 3]])
    both = torch.cat([path, path.flip(0)], dim=1)
    changes = AFRC(1, seed=None).plan(both)
    assert changes.added.tolist() == [[0, 2], [2, 0]]
    assert AFRC(1, seed=None).plan(path).added.tolist() == [[0], [2]]
    # The limits: 0 and 1 are two points, halfway is 0.5, nothing above 1.
    changes = AFRC(seed=None).plan(both)
    assert changes.added.tolist() == [[0, 2], [2, 0]]
    assert changes.removed.numel() == 0


def test_draws_from_all_that_there_are() -> None:
    # The edge 2 - 3 is the lowest, and 0 and 1 are at its end 2.
    edges = torch.tensor([[0, 1, 2, 3, 3], [2, 2, 3, 4, 5]])
    both = torch.cat([edges, edges.flip(0)], dim=1)
    generator = torch.Generator().manual_seed(0)
    transform = AFRC(1, seed=generator)
    found = [
        tuple(transform.plan(both).added[:, 0].tolist()) for _ in range(40)
    ]
    assert set(found) == {(0, 3), (1, 3)}
    # Four standard deviations around the middle.
    assert 7 < found.count((0, 3)) < 33
    assert torch.equal(
        AFRC(3).plan(both).edge_index, AFRC(3, seed=0).plan(both).edge_index
    )


def test_budgets_share_their_first_steps() -> None:
    edges = edges_of(NETWORKS['karate'])
    # More than there are edges, so that there is a second round.
    longest = AFRC(90).plan(edges)
    assert longest.added.size(1) == 180
    for steps in (0, 7, 80):
        short = AFRC(steps).plan(edges)
        first = longest.first(steps)
        assert torch.equal(first.edge_index, short.edge_index)
        assert not short.exhausted


@PROPERTY
@given(
    data=causal_data(),
    num_edges=st.sampled_from([None, 5]),
    cycles=st.sampled_from([3, 4]),
)
def test_causal_graphs_stay_causal(
    data: Data, num_edges: int | None, cycles: Any
) -> None:
    out, changes = AFRC(num_edges, cycles=cycles).rewire(data)
    added = changes.added
    assert (added[0] < added[1]).all()
    assert not edge_set(added) & edge_set(data.edge_index)
    if num_edges is not None:
        assert edge_set(data.edge_index) <= edge_set(out.edge_index)
        assert changes.exhausted == (added.size(1) < num_edges)
    check_aligned(data, out)


@PROPERTY
@given(data=undirected_data(), num_edges=st.sampled_from([None, 4]))
def test_undirected_graphs_stay_undirected(
    data: Data, num_edges: int | None
) -> None:
    out, changes = AFRC(num_edges).rewire(data)
    assert edge_set(out.edge_index) == edge_set(out.edge_index.flip(0))
    assert len(edge_set(out.edge_index)) == out.num_edges
    assert (changes.added[0] != changes.added[1]).all()
    check_aligned(data, out)


def test_ends_when_nothing_is_missing() -> None:
    for edges in (
        edges_of(NETWORKS['complete']),
        causal_graph(7).edge_index,
        torch.tensor([[0, 1], [1, 0]]),
    ):
        changes = AFRC(3).plan(edges)
        assert changes.exhausted
        assert changes.edge_index.numel() == 0
    # A star becomes the complete graph.
    star = AFRC(30).plan(edges_of(NETWORKS['star']))
    assert star.added.size(1) == 2 * 10
    assert star.exhausted
    none = torch.zeros(2, 0, dtype=torch.long)
    for num_nodes in (1, 4):
        for causal in (None, False):
            assert AFRC(2, causal=causal).plan(none, None, num_nodes).exhausted
            found = AFRC(causal=causal).plan(none, None, num_nodes)
            assert not found.exhausted
            assert found.edge_index.numel() == 0


def test_removing_more_than_there_is() -> None:
    path = torch.tensor([[0, 1], [1, 2]])
    changes = AFRC(0, num_removed=3).plan(path)
    assert changes.removed.tolist() == [[0, 1], [1, 2]]
    assert changes.exhausted


def test_weights_loops_and_repetitions_play_no_part() -> None:
    edges = edges_of(NETWORKS['barbell-path'])
    expected = AFRC().plan(edges).edge_index
    weight = torch.rand(edges.size(1)) + 0.5
    assert torch.equal(AFRC().plan(edges, weight).edge_index, expected)
    more = torch.cat([edges, edges[:, :5], edges[:1].repeat(2, 1)], dim=1)
    assert torch.equal(AFRC().plan(more).edge_index, expected)


def test_components_and_isolated_nodes() -> None:
    path = torch.tensor([[0, 1, 2, 5, 6, 7], [1, 2, 3, 6, 7, 8]])
    both = torch.cat([path, path.flip(0)], dim=1)
    changes = AFRC(2, seed=None).plan(both, num_nodes=11)
    assert changes.added[:, ::2].tolist() == [[0, 5], [2, 7]]


def test_input_stays_as_it_is() -> None:
    data = attributed(edges_of(NETWORKS['karate']), 34)
    copy = data.clone()
    AFRC()(data)
    for name, value in copy.to_dict().items():
        assert torch.equal(torch.as_tensor(data[name]), torch.as_tensor(value))


@pytest.mark.parametrize(
    ('options', 'error', 'match'),
    [
        ({'num_edges': -1}, ValueError, "'num_edges' to be at least 0"),
        ({'num_edges': 2.0}, TypeError, "'num_edges' to be an integer"),
        ({'num_removed': -1}, ValueError, "'num_removed' to be at least 0"),
        ({'cycles': 5}, ValueError, "'cycles' to be 3 or 4"),
    ],
)
def test_arguments(
    options: dict[str, Any], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        AFRC(**options)


def test_repr() -> None:
    assert repr(AFRC()) == (
        'AFRC(num_edges=None, cycles=3, num_removed=None, seed=0, causal=None)'
    )
