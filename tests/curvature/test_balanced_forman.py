from importlib import import_module
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from networks import (
    DIGRAPHS,
    NETWORKS,
    balanced_forman_by_definition,
    edges_of,
)

from gnnbridge.curvature.balanced_forman import (
    balanced_forman,
    balanced_forman_of_counts,
)
from gnnbridge.curvature.ollivier import ollivier_ricci


@pytest.mark.parametrize('name', [*NETWORKS, *DIGRAPHS])
def test_equals_the_definition(name: str) -> None:
    graph = {**NETWORKS, **DIGRAPHS}[name]
    edges = edges_of(graph)
    curvature = balanced_forman(edges)
    expected = [
        balanced_forman_by_definition(graph, u, v) for u, v in edges.T.tolist()
    ]
    # The same few operations in another order.
    assert curvature.tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ('graph', 'edge', 'expected'),
    [
        (NETWORKS['cycle-3'], (0, 1), 3 / 2),
        (NETWORKS['cycle-4'], (0, 1), 1.0),
        (NETWORKS['cycle-5'], (0, 1), 0.0),
        (nx.cycle_graph(11), (4, 5), 0.0),
        (NETWORKS['complete'], (2, 5), 7 / 6),
        (
            nx.convert_node_labels_to_integers(nx.grid_2d_graph(6, 6)),
            (14, 15),
            0.0,
        ),
        (nx.balanced_tree(3, 4), (1, 5), 4 / 4 - 2),
        (NETWORKS['path'], (2, 3), 0.0),
        (NETWORKS['path'], (0, 1), 0.0),
        (NETWORKS['star'], (0, 1), 0.0),
    ],
)
def test_table_of_the_paper(
    graph: Any, edge: tuple[int, int], expected: float
) -> None:
    edges = edges_of(graph)
    at = edges.T.tolist().index(list(edge))
    curvature = balanced_forman(edges)[at]
    assert curvature.item() == pytest.approx(expected, abs=1e-12)


def test_bottlenecks() -> None:
    barbell = NETWORKS['barbell']
    edges = edges_of(barbell)
    found = dict(
        zip(barbell.edges, balanced_forman(edges).tolist(), strict=False)
    )
    assert found[0, 1] == pytest.approx(1.25)
    assert found[0, 4] == pytest.approx(0.85)
    assert found[4, 5] == pytest.approx(-1.2)
    edges = edges_of(NETWORKS['karate'])
    curvature = balanced_forman(edges)
    assert edges[:, curvature.argmin()].tolist() == [0, 31]
    assert curvature.min().item() == pytest.approx(-1.39583333, abs=1e-8)


@pytest.mark.parametrize('name', NETWORKS)
def test_bounds_ollivier_from_below(name: str) -> None:
    edges = edges_of(NETWORKS[name])
    # Theorem 2 of the paper, for the curvature of lazy walks per step made.
    lazy = 2 * ollivier_ricci(edges, alpha=0.5)
    assert (balanced_forman(edges) <= lazy + 1e-12).all()


def test_full_causal_graph() -> None:
    n = 9
    edges = torch.tensor([(u, v) for v in range(n) for u in range(v)]).T
    expected = []
    for u, v in edges.T.tolist():
        before, after = u, n - 1 - v
        largest = max(before, after)
        value = 0.0
        if min(before, after) > 1:
            # Every token before u sends to every token after v.
            value = 2 / before + 2 / after - 2
            value += (before + after) / largest**2
        expected.append(value)
    assert balanced_forman(edges).tolist() == pytest.approx(expected)


def test_a_way_past_the_edge_raises_it() -> None:
    # 0, 1 -> 2 -> 3 -> 4, 5.
    edges = torch.tensor([[0, 1, 2, 3, 3], [2, 2, 3, 4, 5]])
    past = torch.cat([edges, torch.tensor([[0], [4]])], dim=1)
    assert balanced_forman(edges)[2].item() == 0.0
    assert balanced_forman(past)[2].item() == 1.0


def test_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    edges = edges_of(NETWORKS['karate'])
    whole = balanced_forman(edges)
    # The package has a function of the same name.
    module = import_module('gnnbridge.curvature.balanced_forman')
    monkeypatch.setattr(module, '_CHUNK', 50)
    assert torch.equal(balanced_forman(edges), whole)


def test_formula_of_counts() -> None:
    # 2/3 + 2/4 - 2 + 2 * 2/4 + 2/3 + 3 / (2 * 4), and without neighbours.
    values = balanced_forman_of_counts(
        np.array([3, 1]),
        np.array([4, 9]),
        triangles=np.array([2, 0]),
        squares=3,
        gamma=np.array([2, 0]),
    )
    assert values.tolist() == pytest.approx([29 / 24, 0])
