from itertools import product
from typing import Any

import pytest
import torch
from networks import (
    DIGRAPHS,
    NETWORKS,
    balanced_forman_by_definition,
    edges_of,
)

from gnnbridge.transforms.forman_candidates import candidates
from gnnbridge.transforms.input_graph import read_edges
from gnnbridge.transforms.neighbor_sets import NeighborSets

GRAPHS = {**NETWORKS, **DIGRAPHS}


def with_edge(
    graph: Any, missing: tuple[int, int], edge: tuple[int, int]
) -> float:
    """The curvature of an edge with a missing one in the graph."""
    graph.add_edge(*missing)
    value = balanced_forman_by_definition(graph, *edge)
    graph.remove_edge(*missing)
    return value


def missing_around(
    neighbors: NeighborSets, edge: tuple[int, int]
) -> set[tuple[int, int]]:
    x, y = edge
    into, out = neighbors.before[x] | {x}, neighbors.after[y] | {y}
    return {
        neighbors.name(k, l)
        for k, l in product(into, out)
        if k != l and l not in neighbors.after[k]
    }


@pytest.mark.parametrize('name', GRAPHS)
def test_every_value_is_that_of_the_graph_with_the_edge(name: str) -> None:
    graph = GRAPHS[name].copy()
    data = read_edges(edges_of(graph), None, len(graph), None)
    neighbors = NeighborSets(data)
    for edge in map(tuple, neighbors.edges().T[::2].tolist()):
        found = candidates(neighbors, edge)
        names = list(zip(found.u.tolist(), found.v.tolist(), strict=True))
        assert names == sorted(missing_around(neighbors, edge))
        expected = [with_edge(graph, name, edge) for name in names]
        # The same few operations in another order.
        assert found.value.tolist() == pytest.approx(expected, abs=1e-12)


def test_kinds_of_candidates() -> None:
    # 0 and 1 at one end of 2 - 3, 4 and 5 at the other.
    edges = torch.tensor([[0, 1, 2, 3, 3], [2, 2, 3, 4, 5]])
    both = torch.cat([edges, edges.flip(0)], dim=1)
    neighbors = NeighborSets(read_edges(both, None, None, None))
    found = candidates(neighbors, (2, 3))
    names = zip(found.u.tolist(), found.v.tolist(), strict=True)
    value = dict(zip(names, found.value.tolist(), strict=True))
    # A square: 2/3 + 2/3 - 2 + (1 + 1) / (1 * 3).
    assert value[0, 4] == pytest.approx(0)
    # A triangle: 2/4 + 2/3 - 2 + 2/4 + 1/3.
    assert value[0, 3] == value[2, 4] == pytest.approx(0)
    assert (0, 1) not in value
