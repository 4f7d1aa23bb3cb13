from importlib import import_module
from typing import Any

import networkx as nx
import numpy as np
import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import DIGRAPHS, NETWORKS, edges_of
from torch import Tensor

from gnnbridge.curvature.ollivier import curvature_of_edges, ollivier_ricci
from gnnbridge.curvature.simple_graph import read_graph
from gnnbridge.graph.causal import causal_graph, sliding_window_graph

SETTINGS = settings(deadline=None, max_examples=25, derandomize=True)
GRAPHS = {**NETWORKS, **DIGRAPHS}


def with_weights(graph: Any, seed: int) -> tuple[Any, Tensor]:
    """A copy with random weights, and the weights along `edges_of`."""
    graph = graph.copy()
    rng = np.random.default_rng(seed)
    weight = rng.random(graph.number_of_edges()) ** 3 + 1e-3
    for edge, value in zip(graph.edges, weight, strict=True):
        graph.edges[edge]['weight'] = value
    repeat = 1 if graph.is_directed() else 2
    return graph, torch.from_numpy(weight).repeat(repeat)


def by_definition(graph: Any, alpha: float) -> list[float]:
    """All pairs of hops by networkx and all transport by POT."""
    hops = dict(nx.all_pairs_shortest_path_length(graph))
    directed = graph.is_directed()
    values = []
    for u, v in edges_of(graph).T.tolist():
        near_u = graph.pred[u] if directed else graph.adj[u]
        mu, nu = measure(u, near_u, alpha), measure(v, graph.adj[v], alpha)
        cost = [[float(hops[a][b]) for b in nu] for a in mu]
        values.append(
            1 - ot.emd2(list(mu.values()), list(nu.values()), np.array(cost))
        )
    return values


def measure(node: int, near: Any, alpha: float) -> dict[int, float]:
    if not near:
        return {node: 1.0}
    weight = {k: data.get('weight', 1.0) for k, data in near.items()}
    total = sum(weight.values())
    mass = {k: (1 - alpha) * w / total for k, w in weight.items()}
    return {**mass, node: alpha}


@pytest.mark.parametrize('alpha', [0.0, 0.5, 0.3])
@pytest.mark.parametrize('name', GRAPHS)
def test_equals_the_definition(name: str, alpha: float) -> None:
    graph = GRAPHS[name]
    curvature = ollivier_ricci(edges_of(graph), alpha=alpha)
    expected = by_definition(graph, alpha)
    # POT's own rounding.
    assert curvature.tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize('alpha', [0.0, 1e-7, 0.123456789])
@pytest.mark.parametrize('name', ['gnm-31', 'karate', 'gnp-15', 'causal'])
def test_weights_are_shares(name: str, alpha: float) -> None:
    graph, weight = with_weights(GRAPHS[name], 0)
    curvature = ollivier_ricci(edges_of(graph), weight, alpha=alpha)
    expected = by_definition(graph, alpha)
    assert curvature.tolist() == pytest.approx(expected, abs=1e-12)
    scaled = ollivier_ricci(edges_of(graph), 8 * weight, alpha=alpha)
    torch.testing.assert_close(scaled, curvature, rtol=0, atol=1e-12)


def test_bottlenecks() -> None:
    barbell = NETWORKS['barbell']
    found = dict(
        zip(
            barbell.edges,
            ollivier_ricci(edges_of(barbell)).tolist(),
            strict=False,
        )
    )
    assert found[0, 1] == pytest.approx(0.75)
    assert found[4, 5] == pytest.approx(-1.2)


def test_closed_forms() -> None:
    complete = ollivier_ricci(edges_of(NETWORKS['complete']))
    assert complete.tolist() == pytest.approx([5 / 6] * 42)
    petersen = ollivier_ricci(edges_of(NETWORKS['petersen']))
    assert petersen.tolist() == pytest.approx([-1 / 3] * 30)
    ring = edges_of(nx.cycle_graph(9))
    assert ollivier_ricci(ring).tolist() == pytest.approx([0] * 18)
    cycle = ollivier_ricci(edges_of(NETWORKS['cycle-5']), alpha=0.5)
    assert cycle.tolist() == pytest.approx([0.25] * 10)
    tree = NETWORKS['tree']
    curvature = ollivier_ricci(edges_of(tree))
    expected = [
        -2 * max(1 - 1 / tree.degree(u) - 1 / tree.degree(v), 0)
        for u, v in edges_of(tree).T.tolist()
    ]
    assert curvature.tolist() == pytest.approx(expected)


@pytest.mark.parametrize('alpha', [0.0, 0.5, 1.0])
@pytest.mark.parametrize('n', [2, 6, 23])
def test_full_causal_attention_is_flat(n: int, alpha: float) -> None:
    data = causal_graph(n)
    curvature = ollivier_ricci(data.edge_index, alpha=alpha)
    torch.testing.assert_close(curvature, torch.zeros_like(curvature))
    weight = torch.rand(
        data.num_edges, generator=torch.Generator().manual_seed(n)
    )
    weighted = ollivier_ricci(data.edge_index, weight + 0.01, alpha=alpha)
    torch.testing.assert_close(weighted, torch.zeros_like(curvature))


def test_directed_without_neighbours_stays() -> None:
    # 0 -> 1 -> 2: from 0 itself over 0 -> 1 to 2, from 0 over 1 -> 2 to 2.
    path = torch.tensor([[0, 1], [1, 2]])
    assert ollivier_ricci(path).tolist() == [-1, -1]
    assert ollivier_ricci(torch.tensor([[0], [1]])).tolist() == [0]
    longer = torch.tensor([[0, 1, 2], [1, 2, 3]])
    assert ollivier_ricci(longer).tolist() == [-1, -2, -1]


def test_sinks_bend_a_window_less() -> None:
    window = sliding_window_graph(24, 3).edge_index
    sinks = sliding_window_graph(24, 3, sinks=1).edge_index
    least = [ollivier_ricci(edges).min().item() for edges in (window, sinks)]
    assert least[0] < least[1] < 0


def test_large_graphs_take_smaller_chunks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    edges = edges_of(NETWORKS['karate'])
    whole = ollivier_ricci(edges)
    module = import_module('gnnbridge.curvature.ollivier')
    monkeypatch.setattr(module, '_SMALL', 4)
    monkeypatch.setattr(module, '_CHUNK', 3000)
    torch.testing.assert_close(ollivier_ricci(edges), whole)


@pytest.mark.parametrize('name', ['karate', 'gnp-15'])
def test_some_of_the_edges(name: str) -> None:
    graph = read_graph(edges_of(GRAPHS[name]), None, None, None)
    whole = ollivier_ricci(graph.edge_index)
    chosen = np.array([31, 4, 17])
    values = curvature_of_edges(graph, chosen)
    # The same flows in other company.
    assert values.tolist() == pytest.approx(whole[chosen].tolist(), abs=1e-12)
    assert curvature_of_edges(graph, chosen[:0]).size == 0


@pytest.mark.parametrize('alpha', [0.0, 0.5])
@pytest.mark.parametrize('name', [*DIGRAPHS, 'gnm-31', 'barbell', 'tree'])
def test_sinkhorn_is_near_and_never_below(name: str, alpha: float) -> None:
    graph, weight = with_weights(GRAPHS[name], 1)
    edges = edges_of(graph)
    for given_weight in (None, weight):
        exact = ollivier_ricci(edges, given_weight, alpha=alpha)
        near = ollivier_ricci(
            edges, given_weight, alpha=alpha, method='sinkhorn'
        )
        assert (near >= exact - 1e-12).all()
        # What 100 iterations leave open, on few edges.
        assert (near <= exact + 0.02).all()
        assert (near > exact + 1e-9).float().mean() <= 0.1


def test_sinkhorn_gets_better_with_iterations() -> None:
    graph, weight = with_weights(NETWORKS['karate'], 2)
    edges = edges_of(graph)
    exact = ollivier_ricci(edges, weight)
    errors = [
        (
            ollivier_ricci(
                edges, weight, method='sinkhorn', iterations=iterations
            )
            - exact
        ).sum()
        for iterations in (1, 10, 400)
    ]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2].item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize('name', ['gnp-9-dense', 'sparse-causal', 'petersen'])
def test_gradient_in_the_weights(name: str) -> None:
    graph, weight = with_weights(GRAPHS[name], 3)
    edges = edges_of(graph)
    half = weight[: graph.number_of_edges()].clone().requires_grad_()

    def curvature(half: Tensor) -> Tensor:
        weight = half.repeat(edges.size(1) // half.numel())
        return ollivier_ricci(edges, weight, alpha=0.2, method='sinkhorn')

    assert torch.autograd.gradcheck(curvature, half, fast_mode=True)


def test_gradient_is_one_of_a_kink_where_masses_are_equal() -> None:
    # At equal shares node 4 has as much of the measure into 0 as of that out
    # of 1. With the weights into 0 summing to one, transport is convex.
    edges = torch.tensor([[0, 2, 4, 1, 1, 3], [1, 0, 0, 3, 4, 2]])
    weight = torch.tensor([1.0, 0.5, 0.5, 0.5, 0.5, 1.0], dtype=torch.float64)
    weight.requires_grad_()
    value = ollivier_ricci(edges, weight, method='sinkhorn')[0]
    (gradient,) = torch.autograd.grad(value, weight)
    for step in (-0.1, 0.1):
        move = step * torch.tensor([0.0, 1, -1, 0, 0, 0]).double()
        moved = ollivier_ricci(edges, weight.detach() + move)[0]
        assert moved <= value + gradient @ move + 1e-12


@SETTINGS
@given(size=st.integers(2, 9), seed=st.integers(0, 999), alpha=st.floats(0, 1))
def test_bounds(size: int, seed: int, alpha: float) -> None:
    graph = nx.gnp_random_graph(size, 0.5, seed=seed, directed=seed % 2 == 0)
    curvature = ollivier_ricci(edges_of(graph), alpha=alpha)
    assert (curvature >= -2 - 1e-12).all()
    assert (curvature <= 1 + 1e-12).all()


@pytest.mark.parametrize(
    ('options', 'match'),
    [
        ({'alpha': 1.5}, 'between 0 and 1'),
        ({'alpha': float('nan')}, 'between 0 and 1'),
        ({'iterations': 10}, "method='sinkhorn'"),
        ({'method': 'sinkhorn', 'iterations': 0}, 'iterations'),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        ollivier_ricci(torch.tensor([[0], [1]]), **options)


def test_unknown_method_names_what_there_is() -> None:
    with pytest.raises(NotImplementedError, match="'exact', 'sinkhorn'"):
        ollivier_ricci(torch.tensor([[0], [1]]), method='emd')  # type: ignore[arg-type]
