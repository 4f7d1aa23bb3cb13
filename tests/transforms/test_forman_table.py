from typing import Any

import numpy as np
import pytest
import torch
from networks import DIGRAPHS, NETWORKS, edges_of

from gnnbridge.curvature.balanced_forman import balanced_forman
from gnnbridge.transforms.forman_table import FormanTable
from gnnbridge.transforms.input_graph import read_edges
from gnnbridge.transforms.neighbor_sets import NeighborSets

GRAPHS = {**NETWORKS, **DIGRAPHS}


def table_of(graph: Any) -> FormanTable:
    data = read_edges(edges_of(graph), None, len(graph), None)
    return FormanTable(NeighborSets(data))


def everywhere(table: FormanTable) -> dict[tuple[int, int], float]:
    """All curvatures, from the beginning."""
    edges = torch.from_numpy(table.neighbors.edges())
    directed = table.neighbors.directed
    given = edges if directed else torch.cat([edges, edges.flip(0)], dim=1)
    values = balanced_forman(given, directed=directed).tolist()
    return dict(zip(map(tuple, edges.T.tolist()), values, strict=False))


def check(table: FormanTable) -> None:
    values = everywhere(table)
    least, most = min(values.values()), max(values.values())
    assert sorted(table.edges) == sorted(values)
    # The same few operations in another order.
    assert table.least() == pytest.approx(least, abs=1e-12)
    assert table.bottleneck() == min(
        edge for edge, value in values.items() if value < least + 1e-9
    )
    assert table.most_curved(most - 1e-6, other_than=None) == min(
        edge for edge, value in values.items() if value > most - 1e-9
    )
    assert table.most_curved(most, other_than=None) is None


@pytest.mark.parametrize('name', GRAPHS)
def test_follows_edges_that_come_and_go(name: str) -> None:
    graph = GRAPHS[name]
    table = table_of(graph)
    rng = np.random.default_rng(len(name))
    check(table)
    for _ in range(12):
        u, v = map(int, rng.choice(len(graph), 2, replace=False))
        u, v = table.neighbors.name(u, v)
        if v not in table.neighbors.after[u]:
            table.add(u, v)
        elif len(table.edges) > 1:
            table.remove(u, v)
        check(table)


@pytest.mark.parametrize('name', ['karate', 'gnp-15'])
def test_bounds_are_replaced_where_they_matter(name: str) -> None:
    table = table_of(GRAPHS[name])
    missing = [
        (u, v)
        for u in range(9)
        for v in range(u + 1, 9)
        if v not in table.neighbors.after[u]
    ]
    # Many steps without a look at the values.
    for edge in missing:
        table.add(*edge)
    check(table)


def test_an_edge_that_is_left_out_is_not_the_most_curved() -> None:
    table = table_of(NETWORKS['barbell'])
    # All edges of the two cliques but those at the bridge have 1.25.
    assert table.most_curved(1.0, other_than=None) == (0, 1)
    assert table.most_curved(1.0, other_than=(0, 1)) == (0, 2)


def test_a_bound_that_moves_is_still_a_bound() -> None:
    table = table_of(NETWORKS['barbell-path'])
    # In the square 2 - 5 - 4 - 3, which is not counted before it matters.
    table.add(2, 5)
    # Far from there; the new edge takes its place.
    table.remove(8, 9)
    value = everywhere(table)[2, 5]
    for edge in everywhere(table):
        if edge != (2, 5):
            table.mark_full(edge)
    assert table.bottleneck() == (2, 5)
    assert table._value[table._row[2, 5]] == pytest.approx(value)


def test_full_edges_come_back_when_something_near_changes() -> None:
    table = table_of(NETWORKS['path'])
    assert table.bottleneck() == (0, 1)
    table.mark_full((0, 1))
    assert table.bottleneck() == (1, 2)
    for edge in [(1, 2), (2, 3), (3, 4), (4, 5), (5, 6)]:
        table.mark_full(edge)
    assert table.bottleneck() is None
    table.add(1, 6)
    # Between nodes of three neighbours and of two: 2/3 + 2/2 - 2.
    assert table.bottleneck() == (1, 2)
    assert table.least() == pytest.approx(-1 / 3)
    table.mark_full((1, 2))
    table.mark_full((1, 6))
    table.mark_full((5, 6))
    assert table.bottleneck() == (0, 1)
    table.mark_full((0, 1))
    assert table.bottleneck() is None


def test_all_edges_come_back_when_one_goes() -> None:
    # Without 0 -> 3 it can be added for 0 -> 1 -> 3, which has no part in it.
    edges = torch.tensor([[0, 1, 0, 3], [1, 3, 3, 4]])
    table = FormanTable(NeighborSets(read_edges(edges, None, None, None)))
    for edge in list(table.edges):
        table.mark_full(edge)
    assert table.bottleneck() is None
    table.remove(0, 3)
    assert table.bottleneck() == (0, 1)


def test_without_edges() -> None:
    none = torch.zeros(2, 0, dtype=torch.long)
    table = FormanTable(NeighborSets(read_edges(none, None, 3, None)))
    assert np.isnan(table.least())
    assert table.bottleneck() is None
    assert table.most_curved(-np.inf, other_than=None) is None
    table.add(0, 1)
    assert (table.least(), table.bottleneck()) == (0.0, (0, 1))
    table.remove(0, 1)
    assert table.bottleneck() is None
