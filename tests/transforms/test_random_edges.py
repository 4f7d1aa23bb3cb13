from collections import Counter
from typing import Any

import networkx as nx
import pytest
import torch
from attributed import (
    causal_data,
    check_aligned,
    edge_set,
    undirected_data,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import NETWORKS, edges_of
from torch_geometric.data import Data

from gnnbridge.graph.causal import causal_graph, sliding_window_graph
from gnnbridge.transforms.random_edges import RandomEdges

PROPERTY = settings(deadline=None, max_examples=25, derandomize=True)


@PROPERTY
@given(causal_data(), st.integers(0, 20), st.booleans())
def test_causal_graphs(data: Data, count: int, each: bool) -> None:
    before = data.clone()
    options = {'per_node' if each else 'num_edges': count}
    out, changes = RandomEdges(**options).rewire(data)  # type: ignore[arg-type]
    assert (changes.added[0] < changes.added[1]).all()
    check_aligned(data, out)
    n = data.num_nodes
    proper = data.edge_index[:, data.edge_index[0] != data.edge_index[1]]
    if each:
        free = torch.arange(n) - proper[1].bincount(minlength=n)
        added = changes.added[1].bincount(minlength=n)
        assert torch.equal(added, free.clamp(max=count))
        assert changes.exhausted == bool((free < count).any())
    else:
        free_pairs = n * (n - 1) // 2 - proper.size(1)
        assert changes.added.size(1) == min(count, free_pairs)
        assert changes.exhausted == (free_pairs < count)
    assert torch.equal(data.edge_index, before.edge_index)


@PROPERTY
@given(undirected_data(), st.integers(0, 20))
def test_undirected_graphs(data: Data, count: int) -> None:
    out, changes = RandomEdges(count).rewire(data)
    check_aligned(data, out)
    n, size = data.num_nodes, data.num_edges // 2
    added = min(count, n * (n - 1) // 2 - size)
    assert changes.added.size(1) == 2 * added
    assert torch.equal(changes.added[:, ::2], changes.added[:, 1::2].flip(0))
    out, changes = RandomEdges(per_node=2, causal=False).rewire(data)
    check_aligned(data, out)
    gained = changes.added[1].bincount(minlength=n)
    free = n - 1 - data.edge_index[1].bincount(minlength=n)
    assert (gained >= free.clamp(max=2)).all()
    edges = edge_set(out.edge_index)
    assert edges == {(v, u) for u, v in edges}


@pytest.mark.parametrize('listed', [0, 1 << 21])
def test_a_smaller_budget_is_the_start_of_a_larger_one(
    listed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('gnnbridge.transforms.random_edges._LISTED', listed)
    for edges in (
        edges_of(NETWORKS['karate']),
        sliding_window_graph(40, 4).edge_index,
    ):
        many = RandomEdges(60).plan(edges)
        few = RandomEdges(7).plan(edges)
        assert torch.equal(many.first(7).edge_index, few.edge_index)
        assert not edge_set(many.added) & edge_set(edges)
        assert len(edge_set(many.added)) == many.added.size(1)


@pytest.mark.parametrize('listed', [0, 1 << 21])
def test_all_pairs_are_found(
    listed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('gnnbridge.transforms.random_edges._LISTED', listed)
    edges = edges_of(nx.path_graph(12))
    changes = RandomEdges(1000).plan(edges)
    assert changes.exhausted
    assert changes.added.size(1) == 12 * 11 - 22


@pytest.mark.parametrize('per_node', [1, 3])
def test_a_longer_sequence_has_the_rows_of_a_shorter_one(per_node: int) -> None:
    transform = RandomEdges(per_node=per_node, seed=5)
    long = transform(sliding_window_graph(60, 4, sinks=1)).edge_index
    for length in (1, 17, 59):
        short = transform(sliding_window_graph(length, 4, sinks=1)).edge_index
        start = long[:, long[1] < length]
        assert edge_set(short) == edge_set(start)


def test_rows_do_not_depend_on_one_another() -> None:
    transform = RandomEdges(per_node=2)
    edges = sliding_window_graph(30, 3).edge_index
    row = torch.stack([torch.arange(13), torch.full((13,), 12)])
    full = torch.cat([edges[:, edges[1] != 12], row], dim=1)
    one, two = transform.plan(edges).added, transform.plan(full).added
    assert (two[1] != 12).all()
    assert torch.equal(one[:, one[1] != 12], two[:, two[1] != 12])


def test_nodes_choose_apart() -> None:
    # Into late nodes from all quarters of the earlier ones.
    none = torch.empty(2, 0, dtype=torch.long)
    source, target = RandomEdges(per_node=1).plan(none, num_nodes=400).added
    quarter = (4 * source / target).long()[200:]
    # Five deviations of a binomial count.
    assert (quarter.bincount(minlength=4) - 50).abs().max() < 5 * 50**0.5


@pytest.mark.parametrize('options', [{'num_edges': 1}, {'per_node': 1}])
def test_all_are_as_likely(options: dict[str, Any]) -> None:
    # Into node 5, which has an edge from 1, or between any two of six.
    edges = torch.tensor([[1], [5]])
    drawn = Counter(
        tuple(edge)
        for seed in range(700)
        for edge in RandomEdges(seed=seed, **options)
        .plan(edges)
        .added.T.tolist()
        if 'num_edges' in options or edge[1] == 5
    )
    possible = 14 if 'num_edges' in options else 4
    assert len(drawn) == possible
    # Five deviations of a binomial count.
    mean = 700 / possible
    assert all(abs(c - mean) < 5 * mean**0.5 for c in drawn.values())


def test_no_pair_is_chosen_twice() -> None:
    changes = RandomEdges(per_node=2).plan(edges_of(nx.cycle_graph(30)))
    assert changes.added.size(1) == 2 * 2 * 30


def test_generators_move_on() -> None:
    edges = edges_of(NETWORKS['petersen'])
    generator = torch.Generator().manual_seed(3)
    moving = RandomEdges(5, seed=generator)
    assert not torch.equal(moving.plan(edges).added, moving.plan(edges).added)
    fixed = RandomEdges(5, seed=3)
    assert torch.equal(fixed.plan(edges).added, fixed.plan(edges).added)


def test_complete_graphs_have_no_room() -> None:
    for options in ({'num_edges': 3}, {'per_node': 2}):
        changes = RandomEdges(**options).plan(causal_graph(6).edge_index)  # type: ignore[arg-type]
        assert changes.added.numel() == 0
        assert changes.exhausted


@pytest.mark.parametrize(
    'options',
    [{}, {'num_edges': 1, 'per_node': 1}, {'num_edges': -1}, {'per_node': -1}],
)
def test_arguments(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match='Expected'):
        RandomEdges(**options)  # type: ignore[arg-type]
