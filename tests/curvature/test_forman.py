from collections import Counter
from importlib import import_module
from typing import Any

import networkx as nx
import pytest
import torch
from networks import DIGRAPHS, NETWORKS, edges_of
from torch import Tensor

from gnnbridge.curvature.forman import augmented_forman, forman

GRAPHS = {**NETWORKS, **DIGRAPHS}


def weighted_by_definition(edges: Tensor, weight: Tensor) -> list[float]:
    """Sums over the other edges that share a node, one by one."""
    pairs = [frozenset(pair) for pair in edges.T.tolist()]
    return [
        2
        - sum(
            (weight[e] / weight[k]).sqrt().item()
            for k, other in enumerate(pairs)
            if len(pair & other) == 1
        )
        for e, pair in enumerate(pairs)
    ]


def cycle_counts(graph: Any) -> dict[tuple[int, int], Counter[int]]:
    """How many simple cycles of each length go through each edge."""
    counts = {edge: Counter[int]() for edge in graph.edges}
    for cycle in nx.simple_cycles(graph, length_bound=4):
        if len(cycle) < 3:
            continue
        for u, v in zip(cycle, cycle[1:] + cycle[:1], strict=True):
            edge = (u, v) if (u, v) in counts else (v, u)
            counts[edge][len(cycle)] += 1
    return counts


@pytest.mark.parametrize('name', NETWORKS)
def test_without_weights_it_is_a_matter_of_degrees(name: str) -> None:
    graph = NETWORKS[name]
    edges = edges_of(graph)
    expected = [
        4 - graph.degree(u) - graph.degree(v) for u, v in edges.T.tolist()
    ]
    assert forman(edges).tolist() == expected


def test_directed_by_hand() -> None:
    # 0 -> 2, 1 -> 2, 2 -> 3, 3 -> 4, 3 -> 2: for 2 -> 3 three edges enter
    # its source, the reverse edge among them, and two leave its target.
    edges = torch.tensor([[0, 1, 2, 3, 3], [2, 2, 3, 4, 2]])
    assert forman(edges).tolist() == [1, 1, -3, 1, 0]
    assert forman(edges, num_nodes=9).tolist() == [1, 1, -3, 1, 0]
    # With weights: sqrt(w_e / w_e') for e' = 0 -> 2, 1 -> 2, 3 -> 2; and for
    # 3 -> 4, 3 -> 2.
    weight = torch.tensor([4.0, 1.0, 16.0, 4.0, 1.0])
    expected = 2 - (2 + 4 + 4) - (2 + 4)
    assert forman(edges, weight)[2].item() == expected


@pytest.mark.parametrize('name', ['gnm-31', 'star', 'cycle-4', 'karate'])
def test_weighted_is_its_definition(name: str) -> None:
    edges = edges_of(NETWORKS[name])
    half = edges.size(1) // 2
    generator = torch.Generator().manual_seed(0)
    weight = torch.rand(half, generator=generator, dtype=torch.float64) + 0.1
    curvature = forman(edges, torch.cat([weight, weight]))
    expected = weighted_by_definition(edges[:, :half], weight)
    # Sums of at most 32 roots.
    assert curvature[:half].tolist() == pytest.approx(expected, rel=1e-12)
    assert torch.equal(curvature[:half], curvature[half:])


def test_weights_count_by_their_ratios() -> None:
    edges = edges_of(NETWORKS['karate'])
    weight = torch.full((edges.size(1),), 0.3)
    torch.testing.assert_close(forman(edges, weight), forman(edges))


def test_gradient_in_the_weights() -> None:
    edges = edges_of(DIGRAPHS['gnp-9-dense'])
    weight = torch.rand(
        edges.size(1), generator=torch.Generator().manual_seed(1)
    )
    weight = (weight.double() + 0.1).requires_grad_()
    assert torch.autograd.gradcheck(lambda w: forman(edges, w), weight)


@pytest.mark.parametrize('name', GRAPHS)
def test_augmented_counts_the_cycles_of_networkx(name: str) -> None:
    graph = GRAPHS[name]
    edges = edges_of(graph)
    counts = cycle_counts(graph)
    listed = [counts[tuple(edge)] for edge in list(graph.edges)]
    repeat = edges.size(1) // len(listed)
    triangles = torch.tensor([count[3] for count in listed]).repeat(repeat)
    squares = torch.tensor([count[4] for count in listed]).repeat(repeat)
    plain = forman(edges)
    directed = graph.is_directed()
    assert torch.equal(
        augmented_forman(edges, directed=directed), plain + 3 * triangles
    )
    assert torch.equal(
        augmented_forman(edges, cycles=4), plain + 3 * triangles + 2 * squares
    )


def test_directed_cycles_of_a_symmetric_graph_are_counted_once_each() -> None:
    edges = edges_of(NETWORKS['gnm-19-dense'])
    for cycles in (3, 4):
        faces = [
            augmented_forman(edges, cycles=cycles, directed=directed)
            - forman(edges, directed=directed)
            for directed in (False, True)
        ]
        assert torch.equal(*faces)


def test_closed_forms() -> None:
    n = 7
    edges = edges_of(NETWORKS['complete'])
    flat = 4 - 2 * (n - 1)
    three = flat + 3 * (n - 2)
    four = three + 2 * (n - 2) * (n - 3)
    assert set(augmented_forman(edges).tolist()) == {three}
    assert set(augmented_forman(edges, cycles=4).tolist()) == {four}


def test_causal_graph_is_plain_and_its_skeleton_is_not() -> None:
    edges = edges_of(DIGRAPHS['causal'])
    assert torch.equal(augmented_forman(edges, cycles=4), forman(edges))
    both = torch.cat([edges, edges.flip(0)], dim=1)
    skeleton = augmented_forman(both)[: edges.size(1)]
    assert set(skeleton.tolist()) == {4 - 5 - 5 + 3 * 4}


def test_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    edges = edges_of(NETWORKS['karate'])
    whole = augmented_forman(edges, cycles=4)
    # The package has a function of the same name.
    module = import_module('gnnbridge.curvature.forman')
    monkeypatch.setattr(module, '_CHUNK', 50)
    assert torch.equal(augmented_forman(edges, cycles=4), whole)


def test_cycles_are_of_three_or_four_edges() -> None:
    edges = edges_of(NETWORKS['path'])
    with pytest.raises(ValueError, match=r'3 or 4 \(got 5\)'):
        augmented_forman(edges, cycles=5)  # type: ignore[arg-type]
