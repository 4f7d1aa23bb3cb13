"""What holds for every curvature: order, duplicates, self-loops, checks."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import DIGRAPHS, NETWORKS, edges_of
from torch import Tensor

import gnnbridge.curvature as package
from gnnbridge.curvature import (
    augmented_forman,
    balanced_forman,
    forman,
    ollivier_ricci,
)
from gnnbridge.graph.dense import edges_to_dense

Curvature = Callable[..., Tensor]
WITHOUT_WEIGHTS = {
    'augmented_forman-3': augmented_forman,
    'augmented_forman-4': partial(augmented_forman, cycles=4),
    'balanced_forman': balanced_forman,
}
WITH_WEIGHTS = {
    'forman': forman,
    'ollivier_ricci': ollivier_ricci,
    'ollivier_ricci-lazy': partial(ollivier_ricci, alpha=0.4),
    'ollivier_ricci-sinkhorn': partial(
        ollivier_ricci, method='sinkhorn', iterations=20
    ),
}
ALL = {**WITHOUT_WEIGHTS, **WITH_WEIGHTS}
SETTINGS = settings(deadline=None, max_examples=10, derandomize=True)

every = pytest.mark.parametrize('curvature', ALL.values(), ids=ALL)
weighted = pytest.mark.parametrize(
    'curvature', WITH_WEIGHTS.values(), ids=WITH_WEIGHTS
)
unweighted = pytest.mark.parametrize(
    'curvature', WITHOUT_WEIGHTS.values(), ids=WITHOUT_WEIGHTS
)


def random_edges(seed: int, *, symmetric: bool) -> Tensor:
    """Distinct edges between up to nine nodes, without self-loops."""
    generator = torch.Generator().manual_seed(seed)
    size = int(torch.randint(2, 10, (), generator=generator))
    kept = torch.rand(size, size, generator=generator) < 0.5
    kept[0, 1] = True
    kept.fill_diagonal_(False)
    if symmetric:
        kept = kept | kept.mT
    order = torch.randperm(int(kept.sum()), generator=generator)
    return kept.nonzero().T[:, order]


def random_weights(edges: Tensor, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.rand(edges.size(1), generator=generator) + 0.1
    return weight.double()


def close(left: Tensor, right: Tensor) -> None:
    # Sums in another order; the rounds of a flow end at 1e-14.
    torch.testing.assert_close(left, right, rtol=0, atol=1e-12)


def test_exports() -> None:
    assert package.__all__ == [
        'augmented_forman',
        'balanced_forman',
        'forman',
        'ollivier_ricci',
    ]


@every
@SETTINGS
@given(seed=st.integers(0, 999), symmetric=st.booleans())
def test_names_of_nodes_and_order_of_edges_do_not_matter(
    curvature: Curvature, seed: int, symmetric: bool
) -> None:
    edges = random_edges(seed, symmetric=symmetric)
    values = curvature(edges)
    assert values.dtype == torch.float64
    assert values.shape == (edges.size(1),)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(edges.size(1), generator=generator)
    names = torch.randperm(12, generator=generator)
    renamed = names[edges[:, order]]
    if 'method' in getattr(curvature, 'keywords', {}):
        # Few iterations, and a tie falls to either side.
        torch.testing.assert_close(
            curvature(renamed), values[order], rtol=0, atol=0.1
        )
    else:
        close(curvature(renamed), values[order])


@every
@SETTINGS
@given(seed=st.integers(0, 999))
def test_both_directions_have_one_value(
    curvature: Curvature, seed: int
) -> None:
    edges = random_edges(seed, symmetric=True)
    values = edges_to_dense(edges, curvature(edges), 9)
    assert torch.equal(values, values.mT)


@weighted
def test_symmetric_weights_have_one_value(curvature: Curvature) -> None:
    edges = edges_of(NETWORKS['gnm-31'])
    half = random_weights(edges, 0)[: edges.size(1) // 2]
    values = curvature(edges, torch.cat([half, half]))
    first, second = values.chunk(2)
    assert torch.equal(first, second)


@every
def test_self_loops_are_left_out(curvature: Curvature) -> None:
    edges = edges_of(DIGRAPHS['window-and-sink'])
    loops = torch.arange(13).repeat(2, 1)
    values = curvature(torch.cat([loops, edges], dim=1))
    assert not values[:13].any()
    assert torch.equal(values[13:], curvature(edges))


@every
def test_repeated_edges_are_one(curvature: Curvature) -> None:
    edges = edges_of(NETWORKS['karate'])
    twice = torch.cat([edges[:, :9], edges], dim=1)
    values = curvature(edges)
    assert torch.equal(curvature(twice), torch.cat([values[:9], values]))


@weighted
def test_weights_of_repeated_edges_add_up(curvature: Curvature) -> None:
    edges = edges_of(DIGRAPHS['gnp-15'])
    weight = random_weights(edges, 1)
    parts = torch.cat([weight[:9] * 0.25, weight])
    parts[9:18] *= 0.75
    twice = torch.cat([edges[:, :9], edges], dim=1)
    values = curvature(edges, weight)
    close(curvature(twice, parts), torch.cat([values[:9], values]))


@every
def test_a_matrix_gives_a_matrix(curvature: Curvature) -> None:
    edges = edges_of(DIGRAPHS['window-and-sink'])
    A = edges_to_dense(edges, None, 14) + torch.eye(14)
    expected = edges_to_dense(edges, curvature(edges, num_nodes=14), 14)
    found = curvature(A)
    close(found, expected)
    assert not found.triu().any()


@weighted
def test_a_matrix_of_weights(curvature: Curvature) -> None:
    edges = edges_of(DIGRAPHS['gnp-15'])
    weight = random_weights(edges, 2)
    A = edges_to_dense(edges, weight, 15)
    expected = edges_to_dense(edges, curvature(edges, weight), 15)
    close(curvature(A), expected)


@every
def test_arguments_stay_as_they_are(curvature: Curvature) -> None:
    edges = edges_of(DIGRAPHS['gnp-15'])
    copy = edges.clone()
    curvature(edges)
    assert torch.equal(edges, copy)
    A = edges_to_dense(edges, None, 15)
    copy = A.clone()
    curvature(A)
    assert torch.equal(A, copy)


@every
def test_smallest_graphs(curvature: Curvature) -> None:
    none = torch.zeros(2, 0, dtype=torch.long)
    for num_nodes in (None, 1, 5):
        values = curvature(none, num_nodes=num_nodes)
        assert values.shape == (0,)
        assert values.dtype == torch.float64
    assert curvature(torch.tensor([[0], [0]])).tolist() == [0]
    assert torch.equal(curvature(torch.zeros(3, 3)), torch.zeros(3, 3).double())
    pair = torch.tensor([[0, 1], [1, 0]])
    expected = 2 if 'forman' in str(curvature) else 0
    if curvature is balanced_forman:
        expected = 0
    if curvature is ALL['ollivier_ricci-lazy']:
        # 0.6 - 0.4 has to go across.
        expected = pytest.approx(0.8)
    assert curvature(pair).tolist() == [expected, expected]


@every
def test_isolated_nodes_do_not_count(curvature: Curvature) -> None:
    edges = edges_of(NETWORKS['barbell'])
    assert torch.equal(curvature(edges, num_nodes=40), curvature(edges))
    assert torch.equal(curvature(edges + 7), curvature(edges))


@every
def test_directed_is_inferred(curvature: Curvature) -> None:
    edges = edges_of(NETWORKS['gnm-31'])
    close(curvature(edges), curvature(edges, directed=False))
    one_way = edges[:, : edges.size(1) // 2]
    close(curvature(one_way), curvature(one_way, directed=True))


@weighted
def test_unequal_weights_are_a_direction(curvature: Curvature) -> None:
    edges = edges_of(NETWORKS['cycle-5'])
    weight = random_weights(edges, 3)
    close(curvature(edges, weight), curvature(edges, weight, directed=True))
    half = random_weights(edges, 3)[:5].float()
    # Symmetric but for the rounding of float32.
    nearly = torch.cat([half, half * (1 + 1e-7)])
    assert torch.equal(
        curvature(edges, nearly), curvature(edges, nearly, directed=False)
    )
    with pytest.raises(ValueError, match='both directions'):
        curvature(edges, weight, directed=False)


@every
def test_missing_reverse_is_named(curvature: Curvature) -> None:
    edges = torch.tensor([[3, 1, 1, 0], [3, 2, 0, 1]])
    with pytest.raises(ValueError, match=r'edge 1 \(1 -> 2\).*directed=True'):
        curvature(edges, directed=False)


@unweighted
def test_weights_without_a_meaning_are_an_error(curvature: Curvature) -> None:
    edges = edges_of(NETWORKS['cycle-4'])
    ones = torch.ones(8)
    assert torch.equal(curvature(edges, ones), curvature(edges))
    ones[3] = 0.5
    with pytest.raises(ValueError, match=r'0\.5 on edge 3'):
        curvature(edges, ones)
    with pytest.raises(ValueError, match='without weights'):
        curvature(torch.tensor([[0.5, 0.0], [0.5, 0.5]]))


@every
@pytest.mark.parametrize(
    ('arguments', 'error', 'match'),
    [
        ((torch.tensor([[0], [3]]), None, 3), ValueError, '3 nodes 0 to 2'),
        ((torch.tensor([[0, -1], [1, 0]]),), ValueError, '-1'),
        ((torch.tensor([[0], [1]]).int(),), TypeError, 'int64'),
        ((torch.tensor([0, 1]),), ValueError, r'shape \[2, E\]'),
        (([[0], [1]],), TypeError, 'list'),
        ((torch.zeros(0, 0),), ValueError, 'square'),
        ((torch.ones(2, 3, 3),), ValueError, 'one matrix'),
        ((torch.ones(3, 3), None, 4), ValueError, 'num_nodes'),
        ((torch.ones(3, 3), torch.ones(9)), ValueError, 'edge_weight'),
        ((-torch.ones(3, 3),), ValueError, 'non-negative'),
        ((torch.full((2, 2), float('nan')),), ValueError, 'finite'),
    ],
)
def test_graphs_that_are_none(
    curvature: Curvature,
    arguments: tuple[Any, ...],
    error: type[Exception],
    match: str,
) -> None:
    with pytest.raises(error, match=match):
        curvature(*arguments)


@every
@pytest.mark.parametrize(
    ('weight', 'match'),
    [
        ([1.0, -1.0], 'non-negative'),
        ([1.0, float('nan')], 'finite'),
        ([1.0, float('inf')], 'finite'),
        ([1.0, 0.0], r'positive \(got 0 on edge 1 \(1 -> 2\)'),
        ([1.0], '2 edges'),
        ([[1.0, 1.0], [1.0, 1.0]], 'one head at a time'),
    ],
)
def test_weights_that_are_none(
    curvature: Curvature, weight: Any, match: str
) -> None:
    edges = torch.tensor([[0, 1], [1, 2]])
    with pytest.raises(ValueError, match=match):
        curvature(edges, torch.tensor(weight))
