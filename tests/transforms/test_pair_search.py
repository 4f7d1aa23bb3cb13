from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from gnnbridge.transforms.lazy_neighbors import LazyNeighbors
from gnnbridge.transforms.pair_search import best_free_pair

PROPERTY = settings(deadline=None, derandomize=True)
# Convex in each number, as those of FoSR and of ProxyAdd are.
SCORES: dict[str, Callable[[float, float], float]] = {
    'product': lambda a, b: -a * b,
    'proxy': lambda a, b: 0.7 * (a * a + b * b) - 2 * a * b,
    'half-way': lambda a, b: 0.5 * (a * a + b * b) - 2 * a * b,
    'sum': lambda a, b: a + b,
}


def neighbors_of(size: int, edges: set[tuple[int, int]]) -> dict[int, set[int]]:
    found: dict[int, set[int]] = {node: set() for node in range(size)}
    for u, v in edges:
        found[u].add(v)
        found[v].add(u)
    return found


def matrix_of(edges: list[tuple[int, int]]) -> sparse.csr_array:
    matrix = sparse.lil_array((1000, 1000))
    for u, v in edges:
        matrix[u, v] = matrix[v, u] = 1
    return matrix.tocsr()


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[float], set[tuple[int, int]]]:
    # Few different numbers make many ties.
    number = st.integers(-3, 3) | st.floats(-1, 1).map(lambda a: round(a, 3))
    values = draw(st.lists(number.map(float), min_size=1, max_size=9))
    pairs = list(combinations(range(len(values)), 2))
    edges = draw(st.sets(st.sampled_from(pairs))) if pairs else set()
    return values, edges


@pytest.mark.parametrize('name', SCORES)
@PROPERTY
@given(graph=graphs())
def test_it_is_the_first_of_the_best(
    name: str, graph: tuple[list[float], set[tuple[int, int]]]
) -> None:
    values, edges = graph
    score = SCORES[name]
    scores = {
        (u, v): score(values[u], values[v])
        for u, v in combinations(range(len(values)), 2)
        if (u, v) not in edges
    }
    found = best_free_pair(
        np.array(values), neighbors_of(len(values), edges), score
    )
    if not scores:
        assert found is None
        return
    best = max(scores.values())
    # Numbers with three digits make scores that are equal or 1e-6 apart, and
    # those that are equal on paper differ by rounding.
    least = best - 1e-9 * max(abs(best), 1e-3)
    assert found == min(pair for pair, s in scores.items() if s >= least)


def test_numbers_that_differ_by_rounding_are_equal() -> None:
    values = np.array([1.0, 1 + 1e-12, -1.0, -1 - 1e-13])
    found = best_free_pair(values, neighbors_of(4, set()), SCORES['product'])
    assert found == (0, 2)


@pytest.mark.parametrize('name', SCORES)
def test_only_the_nodes_at_the_ends_are_looked_at(name: str) -> None:
    values = np.random.default_rng(0).normal(size=1000)
    best = best_free_pair(values, LazyNeighbors(matrix_of([])), SCORES[name])
    assert best is not None
    neighbors = LazyNeighbors(matrix_of([best]))
    found = best_free_pair(values, neighbors, SCORES[name])
    assert found not in (None, best)
    assert len(neighbors) < 9


def test_sets_of_neighbors_follow_the_changes() -> None:
    matrix = sparse.csr_array(np.ones((3, 3)) - np.eye(3))
    neighbors = LazyNeighbors(matrix)
    neighbors.remove(0, 2)
    assert [neighbors[node] for node in range(3)] == [{1}, {0, 2}, {1}]
    neighbors.add(0, 2)
    assert neighbors[2] == {0, 1}
