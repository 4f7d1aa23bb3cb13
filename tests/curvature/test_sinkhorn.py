import numpy as np
import pytest
import torch
from networks import DIGRAPHS, NETWORKS, edges_of

from gnnbridge.curvature.measures import (
    Problems,
    neighborhoods,
    transport_problems,
)
from gnnbridge.curvature.simple_graph import read_graph
from gnnbridge.curvature.sinkhorn import sinkhorn_cost
from gnnbridge.curvature.transport import transport_cost


def problems_of(name: str, alpha: float) -> Problems:
    edges = edges_of({**NETWORKS, **DIGRAPHS}[name])
    generator = torch.Generator().manual_seed(0)
    weight = torch.rand(edges.size(1), generator=generator) + 0.1
    graph = read_graph(edges, weight, None, True)
    u, v = graph.edge_index.numpy()
    neighbors = neighborhoods(graph, alpha)
    return transport_problems(u, v, neighbors, keep_shared=True)


@pytest.mark.parametrize('iterations', [1, 30])
@pytest.mark.parametrize('name', ['karate', 'gnp-15', 'gnp-9-dense'])
def test_cost_is_a_bound_by_potentials(name: str, iterations: int) -> None:
    problems = problems_of(name, 0.1)
    problems.supply.requires_grad_()
    problems.demand.requires_grad_()
    cost = sinkhorn_cost(problems, iterations)
    exact = torch.from_numpy(transport_cost(problems, None))
    assert (cost <= exact + 1e-12).all()
    f, g = torch.autograd.grad(cost.sum(), [problems.supply, problems.demand])
    pairs = f[problems.pair_supply] + g[problems.pair_demand]
    # Where several are as good, the gradient is their mean.
    distance = torch.from_numpy(problems.distance).double()
    assert (pairs <= distance + 1e-12).all()
    value = np.zeros(problems.size)
    for block, mass, potential in (
        (problems.supply_block, problems.supply, f),
        (problems.demand_block, problems.demand, g),
    ):
        part = (mass * potential).detach().numpy()
        value += np.bincount(block, part, problems.size)
    assert cost.tolist() == pytest.approx(value.tolist(), abs=1e-12)


def test_enough_iterations_reach_the_cost() -> None:
    problems = problems_of('karate', 0.0)
    cost = sinkhorn_cost(problems, 300)
    exact = transport_cost(problems, None).tolist()
    assert cost.tolist() == pytest.approx(exact, abs=1e-12)


def test_nothing_to_move() -> None:
    graph = read_graph(edges_of(NETWORKS['cycle-3']), None, None, None)
    neighbors = neighborhoods(graph, 1 / 3)
    u, v = np.array([0, 1]), np.array([1, 2])
    problems = transport_problems(u, v, neighbors, keep_shared=True)
    problems.supply.requires_grad_()
    cost = sinkhorn_cost(problems, 5)
    assert cost.tolist() == [0, 0]
    (gradient,) = torch.autograd.grad(cost.sum(), problems.supply)
    assert gradient.isfinite().all()
