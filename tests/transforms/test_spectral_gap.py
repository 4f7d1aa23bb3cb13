from typing import Any

import networkx as nx
import numpy as np
import pytest
from networks import NETWORKS
from scipy import sparse
from scipy.linalg import eigh

from gnnbridge.transforms import spectral_gap
from gnnbridge.transforms.spectral_gap import SpectralGap

GRAPHS = {**NETWORKS, 'large': nx.barabasi_albert_graph(200, 3, seed=2)}


def weights_of(graph: Any) -> np.ndarray:
    """Different weights, so that no eigenvalue is multiple."""
    matrix = nx.to_numpy_array(graph, nodelist=sorted(graph))
    noise = np.random.default_rng(0).random(matrix.shape) + 0.5
    return matrix * (noise + noise.T)


def reference(weights: np.ndarray, loops: float) -> tuple[Any, Any]:
    degree = weights.sum(0)
    return eigh(np.diag(degree) - weights, np.diag(degree + loops))


def gap_of(weights: np.ndarray, loops: float, label: Any = None) -> SpectralGap:
    label = np.zeros(len(weights), dtype=int) if label is None else label
    return SpectralGap(sparse.csr_array(weights), loops, label)


def check(gap: SpectralGap, weights: np.ndarray, loops: float) -> None:
    values, vectors = reference(weights, loops)
    assert gap.value == pytest.approx(values[1], abs=1e-12)
    degree = weights.sum(0) + loops
    assert gap.vector @ (degree * gap.vector) == pytest.approx(1)
    # That of a star without loops is multiple.
    space = vectors[:, np.abs(values - values[1]) < 1e-9]
    within = np.linalg.norm(space.T @ (degree * gap.vector))
    # The square of the residual over the distance to the next eigenvalue.
    assert within == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize('loops', [0.0, 1.0, 2.5])
@pytest.mark.parametrize('name', GRAPHS)
def test_it_is_the_second_pair(name: str, loops: float) -> None:
    weights = weights_of(GRAPHS[name])
    check(gap_of(weights, loops), weights, loops)


def test_by_equations_where_products_take_too_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(spectral_gap, '_PRODUCTS', 60)
    weights = weights_of(nx.path_graph(400))
    gap = gap_of(weights, 1.0)
    values, _ = reference(weights, 1.0)
    assert gap.value == pytest.approx(values[1], rel=1e-9)
    degree = weights.sum(0)
    residual = degree * gap.vector - weights @ gap.vector
    residual -= gap.value * (degree + 1) * gap.vector
    assert np.abs(residual).max() < 1e-12


def test_changes() -> None:
    weights = weights_of(NETWORKS['karate'])
    gap = gap_of(weights, 1.0)
    for u, v, by in [(3, 30, 1.0), (0, 1, -weights[0, 1]), (5, 6, 0.25)]:
        gap.change(u, v, by)
        weights[[u, v], [v, u]] += by
    gap.solve()
    check(gap, weights, 1.0)


def test_parts_have_a_gap_each_and_the_smallest_is_it() -> None:
    parts = [nx.cycle_graph(5), nx.complete_graph(3), nx.empty_graph(2)]
    graph = nx.disjoint_union_all(parts)
    weights = weights_of(graph)
    label = np.repeat([0, 1, 2, 3], [5, 3, 1, 1])
    gap = gap_of(weights, 1.0, label)
    values = reference(weights[:5, :5], 1.0)[0]
    assert gap.value == pytest.approx(values[1])
    assert np.abs(gap.vector[5:]).max() < 1e-12
    # As one part it has none.
    whole = gap_of(weights, 1.0)
    assert whole.value == pytest.approx(0, abs=1e-12)
    ranges = [whole.vector[:5], whole.vector[5:8]]
    assert max(np.ptp(part) for part in ranges) < 1e-12


@pytest.mark.parametrize('loops', [0.0, 1.0])
def test_nothing_is_left(loops: float) -> None:
    one = gap_of(np.zeros((1, 1)), loops)
    assert (one.value, one.vector.tolist()) == (0.0, [0.0])
    apart = gap_of(np.zeros((3, 3)), loops, np.arange(3))
    assert (apart.value, apart.vector.tolist()) == (0.0, [0.0, 0.0, 0.0])


def test_nodes_without_a_degree_are_left_out() -> None:
    weights = weights_of(nx.disjoint_union(nx.path_graph(4), nx.empty_graph(2)))
    gap = gap_of(weights, 0.0)
    assert gap.value == pytest.approx(reference(weights[:4, :4], 0.0)[0][1])
    assert gap.vector[4:].tolist() == [0, 0]


def test_a_multiple_one_is_the_same_every_time() -> None:
    first, second = (
        gap_of(nx.to_numpy_array(nx.cycle_graph(200)), 1.0) for _ in range(2)
    )
    assert np.array_equal(first.vector, second.vector)
