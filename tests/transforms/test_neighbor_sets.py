import pytest
import torch
from networks import DIGRAPHS, NETWORKS, edges_of

from gnnbridge.transforms.input_graph import read_edges
from gnnbridge.transforms.neighbor_sets import NeighborSets


@pytest.mark.parametrize('name', [*NETWORKS, *DIGRAPHS])
def test_neighbors_of_networkx(name: str) -> None:
    graph = {**NETWORKS, **DIGRAPHS}[name]
    edges = edges_of(graph)
    loops = torch.tensor([[0, 2], [0, 2]])
    given = torch.cat([edges, loops, edges[:, :3]], dim=1)
    neighbors = NeighborSets(read_edges(given, None, len(graph) + 1, None))
    assert neighbors.directed == graph.is_directed()
    before = graph.pred if graph.is_directed() else graph.adj
    for node in graph:
        assert neighbors.after[node] == set(graph.adj[node])
        assert neighbors.before[node] == set(before[node])
    assert neighbors.after[len(graph)] == set()
    expected = sorted(
        edge if graph.is_directed() else tuple(sorted(edge))
        for edge in graph.edges
    )
    assert list(map(tuple, neighbors.edges().T.tolist())) == expected


def test_edges_that_change() -> None:
    ring = torch.tensor([[0, 1, 2], [1, 2, 0]])
    both = torch.cat([ring, ring.flip(0)], dim=1)
    undirected = NeighborSets(read_edges(both, None, 4, None))
    undirected.add(3, 1)
    undirected.remove(2, 0)
    assert undirected.edges().tolist() == [[0, 1, 1], [1, 2, 3]]
    assert undirected.name(3, 1) == (1, 3)
    directed = NeighborSets(read_edges(ring, None, 4, None))
    directed.add(3, 1)
    directed.remove(2, 0)
    assert directed.edges().tolist() == [[0, 1, 3], [1, 2, 1]]
    assert directed.name(3, 1) == (3, 1)


def test_without_edges() -> None:
    none = torch.zeros(2, 0, dtype=torch.long)
    for causal in (None, False):
        neighbors = NeighborSets(read_edges(none, None, 3, causal))
        assert neighbors.edges().shape == (2, 0)
