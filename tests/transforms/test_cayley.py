from itertools import product

import networkx as nx
import numpy as np
import pytest
import torch
from torch import Tensor

from gnnbridge.transforms.cayley import (
    cayley_graph,
    cayley_size,
    smallest_modulus,
)

GENERATORS = [
    np.array([[1, 1], [0, 1]]),
    np.array([[1, -1], [0, 1]]),
    np.array([[1, 0], [1, 1]]),
    np.array([[1, 0], [-1, 1]]),
]


def gap(edges: Tensor, size: int) -> float:
    """The second eigenvalue of the normalised Laplacian."""
    graph = nx.Graph(edges.T.tolist())
    assert len(graph) == size
    return float(np.sort(nx.normalized_laplacian_spectrum(graph))[1])


def group(n: int) -> nx.Graph:
    """All matrices of determinant 1, and their products, by enumeration."""
    graph = nx.Graph()
    for entries in product(range(n), repeat=4):
        matrix = np.array(entries).reshape(2, 2)
        a, b, c, d = entries
        if (a * d - b * c) % n == 1:
            for generator in GENERATORS:
                other = tuple(((matrix @ generator) % n).ravel().tolist())
                graph.add_edge(entries, other)
    return graph


@pytest.mark.parametrize('n', [2, 3, 4, 6])
def test_graph_is_that_of_the_group(n: int) -> None:
    expected = group(n)
    for order in ('breadth', 'depth'):
        edges = cayley_graph(n, order=order)  # type: ignore[arg-type]
        graph = nx.Graph(edges.T.tolist())
        assert edges.size(1) == 2 * graph.number_of_edges()
        assert nx.is_isomorphic(graph, expected)
        assert len(graph) == cayley_size(n)


# Orders of SL(2, Z_n); gaps of the graphs.
@pytest.mark.parametrize(
    ('n', 'size', 'value'),
    [
        (2, 6, 0.5),
        (3, 24, 0.3170),
        (4, 48, 0.2929),
        (5, 120, 0.1910),
        (6, 144, 0.2386),
        (7, 336, 0.1464),
        (11, 1320, 0.0955),
    ],
)
def test_sizes_and_gaps(n: int, size: int, value: float) -> None:
    assert cayley_size(n) == size
    assert gap(cayley_graph(n), size) == pytest.approx(value, abs=5e-5)


def test_sizes_do_not_grow_with_the_modulus() -> None:
    sizes = [cayley_size(n) for n in range(1, 14)]
    assert sizes == [
        1, 6, 24, 48, 120, 144, 336, 384, 648, 720, 1320, 1152, 2184,
    ]  # fmt: skip
    assert smallest_modulus(1) == 1
    assert smallest_modulus(50) == 5
    assert smallest_modulus(1000) == 11
    assert smallest_modulus(1321) == 13


@pytest.mark.parametrize(
    ('order', 'nodes', 'value'),
    # The values of the order 'depth' are those of the code first released.
    [
        ('depth', 50, 0.0496),
        ('depth', 100, 0.1395),
        ('breadth', 50, 0.0700),
        ('breadth', 100, 0.1231),
    ],
)
def test_what_is_cut_off_costs_gap(
    order: str, nodes: int, value: float
) -> None:
    edges = cayley_graph(5, order=order)  # type: ignore[arg-type]
    edges = edges[:, (edges < nodes).all(dim=0)]
    assert gap(edges, nodes) == pytest.approx(value, abs=5e-5)


@pytest.mark.parametrize('n', [3, 5, 8])
def test_breadth_first_numbers(n: int) -> None:
    graph = nx.Graph(cayley_graph(n).T.tolist())
    distance = nx.single_source_shortest_path_length(graph, 0)
    lengths = [distance[node] for node in range(len(graph))]
    assert lengths == sorted(lengths)
    assert sorted(graph[0]) == [1, 2, 3, 4]


def test_result_is_fresh_and_sorted() -> None:
    edges = cayley_graph(3)
    pairs = edges[:, ::2]
    assert torch.equal(edges[:, 1::2], pairs.flip(0))
    key = pairs[0] * 24 + pairs[1]
    assert (key.diff() > 0).all()
    edges += 1
    assert int(cayley_graph(3).min()) == 0
    assert cayley_graph(1).shape == (2, 0)


def test_modulus_is_positive() -> None:
    with pytest.raises(ValueError, match="'n' to be at least 1"):
        cayley_graph(0)
