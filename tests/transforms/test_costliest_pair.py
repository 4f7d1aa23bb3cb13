from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from networks import DIGRAPHS, NETWORKS, edges_of
from scipy.optimize import linprog

from gnnbridge.transforms.costliest_pair import costliest_pair
from gnnbridge.transforms.input_graph import read_edges
from gnnbridge.transforms.neighbor_sets import NeighborSets

GRAPHS = {**NETWORKS, **DIGRAPHS}
Edge = tuple[int, int]


def neighbors_of(graph: Any) -> NeighborSets:
    return NeighborSets(read_edges(edges_of(graph), None, len(graph), None))


def by_linear_programs(graph: Any, u: int, v: int) -> Edge | None:
    """The largest mass times distance of each pair over all optimal plans."""
    near = list((graph.pred if graph.is_directed() else graph.adj)[u]) or [u]
    far = list(graph.adj[v]) or [v]
    excess = dict.fromkeys([*near, *far], 0.0)
    for p in near:
        excess[p] += 1 / len(near)
    for q in far:
        excess[q] -= 1 / len(far)
    supply = {p: x for p, x in excess.items() if x > 1e-12}
    demand = {q: -x for q, x in excess.items() if x < -1e-12}
    pairs = [(p, q) for p in supply for q in demand]
    if not pairs:
        return None
    hops = dict(nx.all_pairs_shortest_path_length(graph))
    cost = np.array([hops[p][q] for p, q in pairs], dtype=float)
    rows = [[p == a for p, _ in pairs] for a in supply]
    rows += [[q == b for _, q in pairs] for b in demand]
    masses = [*supply.values(), *demand.values()]
    best = linprog(cost, A_eq=np.array(rows), b_eq=masses).fun
    found = {}
    for place, (p, q) in enumerate(pairs):
        if cost[place] > 1:
            most = linprog(
                -np.eye(len(pairs))[place],
                A_eq=np.array(rows),
                b_eq=masses,
                # The room that the solver's rounding needs.
                A_ub=[cost],
                b_ub=[best + 1e-9],
            ).fun
            name = (p, q) if graph.is_directed() else tuple(sorted((p, q)))
            found[name] = round(-most * cost[place], 6)
    most = max(found.values(), default=0)
    return min(e for e in found if found[e] == most) if most > 0 else None


@pytest.mark.parametrize('name', sorted(set(GRAPHS) - {'star'}))
def test_equals_linear_programs(name: str) -> None:
    graph = GRAPHS[name]
    neighbors = neighbors_of(graph)
    edges = list(map(tuple, neighbors.edges().T.tolist()))
    for edge in edges[:: max(1, len(edges) // 5)]:
        expected = by_linear_programs(graph, *edge)
        assert costliest_pair(neighbors, edge) == expected


def test_a_plan_that_is_the_only_one() -> None:
    # 0, 1 -> 2 -> 3 -> 4, 5 with ways of two hops from 0 to 4 by 6.
    edges = torch.tensor([[0, 1, 2, 3, 3, 0, 6], [2, 2, 3, 4, 5, 6, 4]])
    neighbors = NeighborSets(read_edges(edges, None, None, None))
    # From 0 to 4 two hops and from 1 to 5 three, or three and three.
    assert costliest_pair(neighbors, (2, 3)) == (1, 5)


@pytest.mark.parametrize('name', ['cycle-5', 'complete', 'path', 'star'])
def test_nothing_where_all_mass_moves_along_edges(name: str) -> None:
    neighbors = neighbors_of(NETWORKS[name])
    for edge in map(tuple, neighbors.edges().T.tolist()):
        assert costliest_pair(neighbors, edge) is None


def test_nothing_to_move() -> None:
    # Before 0 and after 1 there is 2 alone.
    edges = torch.tensor([[0, 1, 2], [1, 2, 0]])
    neighbors = NeighborSets(read_edges(edges, None, None, None))
    assert costliest_pair(neighbors, (0, 1)) is None
    # All mass of the two ends stays there, and moves along the edge.
    alone = NeighborSets(read_edges(torch.tensor([[0], [1]]), None, 2, None))
    assert costliest_pair(alone, (0, 1)) is None
