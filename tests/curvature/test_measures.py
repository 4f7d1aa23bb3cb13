import networkx as nx
import numpy as np
import pytest
import torch
from networks import DIGRAPHS, NETWORKS, edges_of

from gnnbridge.curvature.measures import (
    Measures,
    neighborhoods,
    transport_problems,
)
from gnnbridge.curvature.simple_graph import read_graph


def dense(measures: Measures) -> torch.Tensor:
    size = len(measures.start) - 1
    owner = np.repeat(np.arange(size), np.diff(measures.start))
    table = torch.zeros(size, size, dtype=torch.float64)
    table[owner, measures.node] = measures.mass
    return table


def test_measures_by_hand() -> None:
    # 0 -> 2, 1 -> 2, 2 -> 3 with the weights 1, 3, 5.
    edges = torch.tensor([[0, 1, 2], [2, 2, 3]])
    weight = torch.tensor([1.0, 3.0, 5.0])
    graph = read_graph(edges, weight, None, None)
    both = neighborhoods(graph, 0.2)
    into = [[1, 0, 0, 0], [0, 1, 0, 0], [0.2, 0.6, 0.2, 0], [0, 0, 0.8, 0.2]]
    out = [[0.2, 0, 0.8, 0], [0, 0.2, 0.8, 0], [0, 0, 0.2, 0.8], [0, 0, 0, 1]]
    for measures, expected in ((both.into, into), (both.out, out)):
        torch.testing.assert_close(
            dense(measures), torch.tensor(expected).double()
        )


@pytest.mark.parametrize('alpha', [0.0, 0.5])
@pytest.mark.parametrize('name', ['karate', 'gnp-9-dense', 'grid'])
def test_problems_are_the_differences(name: str, alpha: float) -> None:
    network = {**NETWORKS, **DIGRAPHS}[name]
    graph = read_graph(edges_of(network), None, None, None)
    neighbors = neighborhoods(graph, alpha)
    u, v = graph.edge_index.numpy()
    problems = transport_problems(u, v, neighbors)
    excess = dense(neighbors.into)[u] - dense(neighbors.out)[v]
    for masses, block, part in (
        (problems.supply, problems.supply_block, excess),
        (problems.demand, problems.demand_block, -excess),
    ):
        moved = np.bincount(block, masses.numpy(), u.size)
        torch.testing.assert_close(
            torch.from_numpy(moved), part.clamp(min=0).sum(1)
        )
    sizes = [
        np.bincount(block, minlength=u.size)
        for block in (problems.supply_block, problems.demand_block)
    ]
    pair_block = problems.supply_block[problems.pair_supply]
    assert (pair_block == problems.demand_block[problems.pair_demand]).all()
    counts = np.bincount(pair_block, minlength=u.size)
    assert (counts == sizes[0] * sizes[1]).all()


def test_distances_are_those_of_networkx() -> None:
    network = DIGRAPHS['gnp-15']
    hops = dict(nx.all_pairs_shortest_path_length(network))
    graph = read_graph(edges_of(network), None, None, None)
    neighbors = neighborhoods(graph, 0.5)
    u, v = graph.edge_index.numpy()
    seen = set()
    for k in range(u.size):
        problems = transport_problems(u[k : k + 1], v[k : k + 1], neighbors)
        excess = dense(neighbors.into)[u[k]] - dense(neighbors.out)[v[k]]
        supply = (excess > 1e-15).nonzero().flatten()[problems.pair_supply]
        demand = (excess < -1e-15).nonzero().flatten()[problems.pair_demand]
        expected = [
            hops[a.item()][b.item()]
            for a, b in zip(supply, demand, strict=True)
        ]
        assert problems.distance.tolist() == expected
        seen.update(expected)
    assert seen == {1, 2, 3}


def test_shared_nodes_are_supplies_of_nothing() -> None:
    graph = read_graph(edges_of(NETWORKS['complete']), None, None, None)
    neighbors = neighborhoods(graph, 0.0)
    u, v = np.array([0]), np.array([1])
    problems = transport_problems(u, v, neighbors, keep_shared=True)
    assert problems.supply.tolist() == pytest.approx([1 / 6] + [0] * 5)
    assert problems.demand.tolist() == pytest.approx([1 / 6])
