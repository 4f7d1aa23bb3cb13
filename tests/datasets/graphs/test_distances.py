"""Distances against networkx."""

import networkx as nx
import pytest
import torch
from torch_geometric.utils import to_networkx

from gnnbridge.datasets.graphs import (
    eccentricities,
    hop_distances,
    shortest_paths,
)
from gnnbridge.datasets.graphs.distances import _tree


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def undirected(graph):
    found = to_networkx(graph)
    assert all(found.has_edge(b, a) for a, b in found.edges)
    return found.to_undirected()


@pytest.mark.parametrize('size', [2, 3, 8, 20])
@pytest.mark.parametrize('max_distance', [2, 5, 30])
def test_nodes_give_their_distance_from_the_marked_one(size, max_distance):
    extra = 0 if size < 4 else 3
    graphs = shortest_paths(
        15, size=size, max_distance=max_distance, extra_edges=extra,
        generator=seeded(size),
    )  # fmt: skip
    for graph in graphs:
        (source,) = graph.x[:, 0].nonzero().flatten().tolist()
        assert graph.x[source, 0] == 1
        found = nx.single_source_shortest_path_length(undirected(graph), source)
        expected = [
            min(found[node], max_distance) - 1
            for node in range(size)
            if node != source
        ]
        assert graph.y.tolist() == expected
        assert graph.y.dtype == torch.int64
        assert graph.target_mask.tolist() == [n != source for n in range(size)]
        assert (graph.x[:, 1] >= 0).all()
        assert (graph.x[:, 1] < 1).all()


@pytest.mark.parametrize('size', [2, 9, 16])
def test_nodes_give_their_eccentricity(size):
    extra = 0 if size < 4 else 2
    graphs = eccentricities(
        15, size=size, extra_edges=extra, generator=seeded(1)
    )
    for graph in graphs:
        expected = nx.eccentricity(undirected(graph))
        assert graph.y.tolist() == [[expected[n]] for n in range(size)]
        assert graph.y.dtype == torch.float32
        assert graph.target_mask.all()
        assert (graph.x[:, 0] == 0).all()


def test_a_graph_gives_the_eccentricity_of_its_marked_node():
    graphs = eccentricities(20, size=12, level='graph', generator=seeded(2))
    for graph in graphs:
        (marked,) = graph.x[:, 0].nonzero().flatten().tolist()
        expected = nx.eccentricity(undirected(graph), marked)
        assert graph.y.tolist() == [[expected]]
        assert 'target_mask' not in graph


def test_graphs_are_connected_with_the_edges_asked_for():
    for extra in (0, 2, 15):
        graphs = shortest_paths(
            10, size=7, max_distance=3, extra_edges=extra, generator=seeded()
        )
        for graph in graphs:
            found = undirected(graph)
            assert nx.is_connected(found)
            assert found.number_of_edges() == 6 + extra
            assert nx.number_of_selfloops(found) == 0
            order = graph.edge_index[1] * 100 + graph.edge_index[0]
            assert (order.diff() > 0).all()


def test_trees_are_those_of_their_codes():
    for code in torch.randint(9, (30, 7), generator=seeded()).tolist():
        edges = _tree(code, 9).nonzero().tolist()
        expected = nx.from_prufer_sequence(code).edges
        assert sorted(map(tuple, edges)) == sorted(
            tuple(sorted(edge)) for edge in expected
        )


def test_every_tree_is_as_likely():
    graphs = shortest_paths(
        1600, size=4, max_distance=3, extra_edges=0, generator=seeded()
    )
    counts = {}
    for graph in graphs:
        key = tuple(graph.edge_index.flatten().tolist())
        counts[key] = counts.get(key, 0) + 1
    # Sixteen labelled trees of four nodes, each 100 times with a standard
    # deviation of 10.
    assert len(counts) == 16
    assert all(abs(count - 100) < 5 * 10 for count in counts.values())


def test_hops_of_graphs_in_pieces_are_as_many_as_nodes():
    adjacency = torch.zeros(2, 5, 5, dtype=torch.bool)
    adjacency[0, 0, 1] = adjacency[0, 1, 0] = True
    adjacency[1] = ~torch.eye(5, dtype=torch.bool)
    found = hop_distances(adjacency)
    for matrix, hops in zip(adjacency, found, strict=True):
        graph = nx.from_numpy_array(matrix.numpy())
        known = dict(nx.all_pairs_shortest_path_length(graph))
        for a in range(5):
            assert hops[a].tolist() == [known[a].get(b, 5) for b in range(5)]


@pytest.mark.parametrize('draw', [shortest_paths, eccentricities])
def test_the_generator_decides_everything(draw):
    sizes = {'max_distance': 4} if draw is shortest_paths else {}

    def drawn(seed):
        graphs = draw(5, size=8, **sizes, generator=seeded(seed))
        return [(g.x.tolist(), g.edge_index.tolist()) for g in graphs]

    assert drawn(0) == drawn(0) != drawn(1)


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (lambda g: eccentricities(0, size=5, generator=g), "'num_graphs'"),
        (lambda g: eccentricities(1, size=1, generator=g), "'size' .* 2"),
        (
            lambda g: eccentricities(1, size=4, extra_edges=4, generator=g),
            r"'extra_edges' .* most 3 .*\(got 4\)",
        ),
        (
            lambda g: eccentricities(1, size=4, extra_edges=-1, generator=g),
            "'extra_edges' .* least 0",
        ),
        (
            lambda g: eccentricities(1, size=4, level='edge', generator=g),
            "'level' .*'edge'",
        ),
        (
            lambda g: shortest_paths(1, size=4, max_distance=1, generator=g),
            "'max_distance' .* 2",
        ),
    ],
)
def test_sizes_that_make_no_task_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(seeded())
