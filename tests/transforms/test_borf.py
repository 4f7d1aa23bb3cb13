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

from gnnbridge.curvature.ollivier import ollivier_ricci
from gnnbridge.graph.causal import causal_graph
from gnnbridge.transforms.borf import BORF
from gnnbridge.transforms.changes import Changes
from gnnbridge.transforms.costliest_pair import costliest_pair
from gnnbridge.transforms.input_graph import read_edges
from gnnbridge.transforms.neighbor_sets import NeighborSets

PROPERTY = settings(deadline=None, max_examples=25, derandomize=True)
GRAPHS = {**NETWORKS, **DIGRAPHS}
Edge = tuple[int, int]


def naive(
    graph: Any, num_edges: int, batch_add: int, batch_remove: int
) -> tuple[list[Edge], list[Edge]]:
    """Algorithm 1 with every curvature from the beginning."""
    graph = graph.copy()
    all_added: list[Edge] = []
    all_removed: list[Edge] = []
    while len(all_added) < num_edges:
        edges = edges_of(graph)
        data = read_edges(edges, None, len(graph), None)
        neighbors = NeighborSets(data)
        values = ollivier_ricci(edges, directed=neighbors.directed).tolist()
        ranked = sorted(
            (round(value, 9), (u, v))
            for (u, v), value in zip(edges.T.tolist(), values, strict=True)
            if neighbors.directed or u < v
        )
        batch: list[Edge] = []
        for _, edge in ranked:
            pair = costliest_pair(neighbors, edge)
            if pair is not None and pair not in batch:
                batch.append(pair)
            if len(batch) == batch_add:
                break
        if not batch:
            break
        added = batch[: num_edges - len(all_added)]
        graph.add_edges_from(added)
        all_added += added
        if added == batch:
            ranked.sort(key=lambda item: (-item[0], item[1]))
            removed = [edge for _, edge in ranked[:batch_remove]]
            graph.remove_edges_from(removed)
            all_removed += removed
    return all_added, all_removed


def picks(changes: Changes, *, adds: bool, directed: bool) -> list[Edge]:
    edges = changes.edge_index[:, changes.is_added == adds].T.tolist()
    return [(u, v) for u, v in edges if directed or u < v]


@pytest.mark.parametrize(
    ('batch_add', 'batch_remove'), [(1, 0), (4, 0), (3, 2)]
)
@pytest.mark.parametrize('name', sorted(set(GRAPHS) - {'causal'}))
def test_equals_the_naive_algorithm(
    name: str, batch_add: int, batch_remove: int
) -> None:
    graph = GRAPHS[name]
    expected = naive(graph, 7, batch_add, batch_remove)
    transform = BORF(7, batch_add=batch_add, batch_remove=batch_remove)
    changes = transform.plan(edges_of(graph))
    directed = graph.is_directed()
    added = picks(changes, adds=True, directed=directed)
    assert (added, picks(changes, adds=False, directed=directed)) == expected
    assert changes.num_steps == len(added)
    assert changes.exhausted == (len(added) < 7)


def test_known_picks() -> None:
    # The bridge 4 - 5 is at -1.2, all others are above 0.
    barbell = BORF(1).plan(edges_of(NETWORKS['barbell']))
    assert barbell.added.tolist() == [[0, 6], [6, 0]]
    # In a ring all mass moves along edges.
    for name in ('cycle-5', 'complete', 'star'):
        changes = BORF(2, batch_remove=1).plan(edges_of(NETWORKS[name]))
        assert changes.exhausted
        assert changes.edge_index.numel() == 0


def test_budgets_share_their_first_steps() -> None:
    edges = edges_of(NETWORKS['karate'])
    for batch_remove in (0, 2):
        longest = BORF(9, batch_remove=batch_remove).plan(edges)
        for steps in (0, 1, 4, 6, 9):
            short = BORF(steps, batch_remove=batch_remove).plan(edges)
            first = longest.first(steps)
            assert torch.equal(first.edge_index, short.edge_index)
            assert torch.equal(first.is_added, short.is_added)


def test_batches_that_find_less_are_whole() -> None:
    # Two bridges, and nothing else to relieve.
    barbell = edges_of(NETWORKS['barbell'])
    both = torch.cat([barbell, barbell + 10], dim=1)
    transform = BORF(40, batch_add=20, batch_remove=1)
    longest = transform.plan(both)
    whole = int(longest.step[~longest.is_added][0]) + 1
    assert whole < 20
    short = BORF(whole, batch_add=20, batch_remove=1).plan(both)
    assert torch.equal(longest.first(whole).edge_index, short.edge_index)
    cut = BORF(whole - 1, batch_add=20, batch_remove=1).plan(both)
    assert cut.is_added.all()


def test_nothing_is_removed_unless_asked() -> None:
    edges = edges_of(NETWORKS['karate'])
    out, changes = BORF(8).rewire(Data(edge_index=edges, num_nodes=34))
    assert changes.removed.numel() == 0
    assert torch.equal(out.edge_index[:, : edges.size(1)], edges)
    changes = BORF(8, batch_remove=3).plan(edges)
    assert changes.removed.size(1) == 2 * 2 * 3


@PROPERTY
@given(data=causal_data(), remove=st.integers(0, 2))
def test_causal_graphs_stay_causal(data: Data, remove: int) -> None:
    out, changes = BORF(4, batch_add=2, batch_remove=remove).rewire(data)
    added = changes.added
    assert (added[0] < added[1]).all()
    assert not edge_set(added) & edge_set(data.edge_index)
    if remove == 0:
        assert edge_set(data.edge_index) <= edge_set(out.edge_index)
        assert added.size(1) == changes.num_steps
        assert changes.exhausted == (changes.num_steps < 4)
    check_aligned(data, out)


@PROPERTY
@given(data=undirected_data())
def test_undirected_graphs_stay_undirected(data: Data) -> None:
    out, changes = BORF(3, batch_add=2).rewire(data)
    assert edge_set(out.edge_index) == edge_set(out.edge_index.flip(0))
    assert out.num_edges == data.num_edges + 2 * changes.num_steps
    assert len(edge_set(out.edge_index)) == out.num_edges
    check_aligned(data, out)


def test_graphs_with_nothing_to_add() -> None:
    none = torch.zeros(2, 0, dtype=torch.long)
    for num_nodes in (1, 4):
        for causal in (None, False):
            changes = BORF(2, causal=causal).plan(none, num_nodes=num_nodes)
            assert changes.exhausted
            assert changes.trace.numel() == 0
    assert not BORF(0).plan(none, num_nodes=1).exhausted
    assert BORF(1).plan(causal_graph(9).edge_index).exhausted


def test_components_and_isolated_nodes() -> None:
    barbell = edges_of(NETWORKS['barbell'])
    both = torch.cat([barbell, barbell + 12], dim=1)
    changes = BORF(2).plan(both, num_nodes=30)
    assert changes.added[:, ::2].tolist() == [[0, 12], [6, 18]]


def test_weights_loops_and_repetitions_play_no_part() -> None:
    edges = edges_of(NETWORKS['barbell-path'])
    expected = BORF(4).plan(edges).edge_index
    weight = torch.rand(edges.size(1)) + 0.5
    assert torch.equal(BORF(4).plan(edges, weight).edge_index, expected)
    more = torch.cat([edges, edges[:, :5], edges[:1].repeat(2, 1)], dim=1)
    assert torch.equal(BORF(4).plan(more).edge_index, expected)


def test_input_stays_as_it_is() -> None:
    data = attributed(edges_of(NETWORKS['karate']), 34)
    copy = data.clone()
    BORF(4, batch_remove=1)(data)
    for name, value in copy.to_dict().items():
        assert torch.equal(torch.as_tensor(data[name]), torch.as_tensor(value))


@pytest.mark.parametrize(
    ('options', 'error', 'match'),
    [
        ({'num_edges': -1}, ValueError, "'num_edges' to be at least 0"),
        ({'num_edges': 2.0}, TypeError, "'num_edges' to be an integer"),
        ({'batch_add': 0}, ValueError, "'batch_add' to be at least 1"),
        ({'batch_remove': -1}, ValueError, "'batch_remove' to be at least 0"),
    ],
)
def test_arguments(
    options: dict[str, Any], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        BORF(**{'num_edges': 1, **options})


def test_repr() -> None:
    assert repr(BORF(3)) == (
        'BORF(num_edges=3, batch_add=4, batch_remove=0, causal=None)'
    )
