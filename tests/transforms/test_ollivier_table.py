import networkx as nx
import numpy as np
import pytest
import torch
from networks import DIGRAPHS, NETWORKS, edges_of

from gnnbridge.curvature.ollivier import ollivier_ricci
from gnnbridge.graph.causal import causal_graph
from gnnbridge.transforms.input_graph import read_edges
from gnnbridge.transforms.neighbor_sets import NeighborSets
from gnnbridge.transforms.ollivier_table import OllivierTable

GRAPHS = {
    **{name: NETWORKS[name] for name in ('karate', 'gnm-31', 'grid', 'tree')},
    **DIGRAPHS,
    # Most changes are far from most edges.
    'long': nx.circulant_graph(60, [1, 3]),
}


def everywhere(table: OllivierTable) -> list[tuple[float, tuple[int, int]]]:
    """All curvatures, from the beginning, the lowest first."""
    edges = torch.from_numpy(table.neighbors.edges())
    directed = table.neighbors.directed
    given = edges if directed else torch.cat([edges, edges.flip(0)], dim=1)
    values = ollivier_ricci(given, directed=directed).tolist()
    pairs = map(tuple, edges.T.tolist())
    return sorted(
        (round(value, 9), edge)
        for edge, value in zip(pairs, values, strict=False)
    )


def check(table: OllivierTable) -> None:
    expected = everywhere(table)
    edges, values = table.ranked()
    assert edges == [edge for _, edge in expected]
    # Flows end at 1e-14; the others are rounded to nine digits.
    assert values == pytest.approx([v for v, _ in expected], abs=2e-9)
    downwards = sorted(expected, key=lambda item: (-item[0], item[1]))
    assert table.ranked(descending=True)[0] == [edge for _, edge in downwards]


@pytest.mark.parametrize('batch', [1, 3])
@pytest.mark.parametrize('name', GRAPHS)
def test_follows_edges_that_come_and_go(name: str, batch: int) -> None:
    graph = GRAPHS[name]
    data = read_edges(edges_of(graph), None, len(graph), None)
    table = OllivierTable(NeighborSets(data))
    rng = np.random.default_rng(batch)
    check(table)
    for _ in range(5):
        for _ in range(batch):
            u, v = map(int, rng.choice(len(graph), 2, replace=False))
            u, v = table.neighbors.name(u, v)
            if v in table.neighbors.after[u]:
                table.remove(u, v)
            else:
                table.add(u, v)
        check(table)


def test_computes_only_what_has_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    graph = GRAPHS['long']
    data = read_edges(edges_of(graph), None, len(graph), None)
    table = OllivierTable(NeighborSets(data))
    computed = []
    compute = table._curvature

    def count(edges: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        computed.append(wanted.size)
        return compute(edges, wanted)

    monkeypatch.setattr(table, '_curvature', count)
    table.ranked()
    table.ranked()
    table.add(0, 30)
    table.ranked()
    # The edge itself and the four others at each of its ends.
    assert computed == [120, 9]


def test_zeros_are_equal() -> None:
    # All curvatures are 0 on paper, and here up to 2e-16.
    edges = causal_graph(11).edge_index
    edges = edges[:, (edges != torch.tensor([[4], [5]])).any(0)]
    table = OllivierTable(NeighborSets(read_edges(edges, None, None, None)))
    table.remove(9, 10)
    table.add(10, 9)
    ranked, values = table.ranked()
    assert values == pytest.approx(0, abs=1e-12)
    assert ranked == sorted(ranked)


def test_without_edges() -> None:
    none = torch.zeros(2, 0, dtype=torch.long)
    table = OllivierTable(NeighborSets(read_edges(none, None, 3, None)))
    assert table.ranked()[0] == []
    table.add(0, 1)
    assert table.ranked()[0] == [(0, 1)]
