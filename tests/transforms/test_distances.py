import networkx as nx
import numpy as np
import pytest
import torch
from networks import DIGRAPHS, NETWORKS, edges_of

from gnnbridge.transforms.distances import blocks, shells, structure
from gnnbridge.transforms.input_graph import read_edges

GRAPHS = {**NETWORKS, **DIGRAPHS}


@pytest.mark.parametrize('name', GRAPHS)
def test_shells_are_those_of_networkx(name: str) -> None:
    graph = GRAPHS[name]
    n = graph.number_of_nodes()
    back = structure(read_edges(edges_of(graph), None, n, False))
    rows = np.arange(0, n, 2)
    found = {
        (length, int(node), int(rows[at]))
        for length, place, nodes in shells(back, rows, 4)
        for at, node in zip(place, nodes, strict=True)
    }
    distance = dict(nx.all_pairs_shortest_path_length(graph))
    expected = {
        (length, source, target)
        for source, lengths in distance.items()
        for target, length in lengths.items()
        if 2 <= length <= 4 and target % 2 == 0
    }
    assert found == expected


def test_structure_has_no_loops_and_no_weights() -> None:
    edges = torch.tensor([[0, 0, 1, 0], [0, 1, 2, 1]])
    back = structure(read_edges(edges, None, 3, None))
    assert back.toarray().tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0]]


def test_blocks_cover_all_nodes() -> None:
    assert [b.tolist() for b in blocks(5, 10)] == [[0, 1], [2, 3], [4]]
    assert [b.tolist() for b in blocks(2, 1)] == [[0], [1]]
