import networkx as nx
import numpy as np
import pytest
from networks import NETWORKS

from gnnbridge.transforms.lanczos import largest_eigenpair


def start_of(size: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=size)


@pytest.mark.parametrize('name', [*NETWORKS, 'large'])
def test_it_is_the_largest_eigenvalue(name: str) -> None:
    graph = NETWORKS.get(name, nx.gnm_random_graph(150, 400, seed=1))
    matrix = nx.to_numpy_array(graph)
    found = largest_eigenpair(
        lambda x: matrix @ x,
        start_of(len(matrix)),
        tolerance=1e-12,
        max_products=2000,
    )
    assert found is not None
    value, vector = found
    assert value == pytest.approx(np.linalg.eigvalsh(matrix)[-1], abs=1e-10)
    assert np.abs(matrix @ vector - value * vector).max() < 1e-10
    assert vector @ vector == pytest.approx(1)


@pytest.mark.parametrize('size', [5, 70])
def test_of_a_multiple_one_the_projection_of_the_start(size: int) -> None:
    # The eigenvalue -1 of the complete graph: all that sums to zero.
    matrix = np.ones((size, size)) - np.eye(size)
    start = start_of(size)
    start -= start.mean()
    found = largest_eigenpair(
        lambda x: matrix @ x - np.mean(matrix @ x),
        start,
        tolerance=1e-12,
        max_products=100,
    )
    assert found is not None
    assert found[0] == pytest.approx(-1)
    expected = start / np.linalg.norm(start)
    assert np.allclose(found[1], expected, atol=1e-12)


def test_it_gives_up() -> None:
    matrix = nx.to_numpy_array(nx.path_graph(300))
    found = largest_eigenpair(
        lambda x: matrix @ x, start_of(300), tolerance=1e-12, max_products=50
    )
    assert found is None
