import math
from fractions import Fraction

import networkx as nx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matrices import edges_of, random_causal, random_walk
from torch import Tensor

from gnnbridge.spectral.green import hitting_probability
from gnnbridge.spectral.laplacian import laplacian
from gnnbridge.spectral.resistance import effective_resistance
from gnnbridge.spectral.walk import (
    closed_classes,
    is_lower,
    split_hops,
    stationary,
    walk_on,
)

SETTINGS = settings(deadline=None, max_examples=50, derandomize=True)


def random_graph(size: int, seed: int, density: float) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    kept = torch.rand(size, size, generator=generator) < density
    return kept.double().fill_diagonal_(0)


def classes_by_networkx(A: Tensor) -> Tensor:
    # The walk goes from receiver to source, along the rows.
    graph = nx.from_numpy_array(A.numpy(), create_using=nx.DiGraph)
    same = torch.zeros(A.shape, dtype=torch.bool)
    for tokens in nx.attracting_components(graph):
        members = torch.tensor(sorted(tokens))
        same[members.unsqueeze(1), members] = True
    return same


def stationary_by_fractions(off: Tensor) -> list[Fraction]:
    """Eliminate in exact arithmetic."""
    size = len(off)
    rates = [[Fraction(value) for value in row] for row in off.tolist()]
    for i in range(size):
        rates[i][i] = -sum(rates[i])
    # x^T L = 0 with the last equation replaced by x_0 = 1.
    rows = [[rates[i][k] for i in range(size)] for k in range(size - 1)]
    rows.append([Fraction(int(i == 0)) for i in range(size)])
    right = [Fraction(0)] * (size - 1) + [Fraction(1)]
    for k in range(size):
        pivot = next(r for r in range(k, size) if rows[r][k] != 0)
        rows[k], rows[pivot] = rows[pivot], rows[k]
        right[k], right[pivot] = right[pivot], right[k]
        for r in range(size):
            if r != k and rows[r][k] != 0:
                factor = rows[r][k] / rows[k][k]
                pairs = zip(rows[r], rows[k], strict=True)
                rows[r] = [a - factor * b for a, b in pairs]
                right[r] -= factor * right[k]
    x = [right[k] / rows[k][k] for k in range(size)]
    return [value / sum(x) for value in x]


@SETTINGS
@given(
    size=st.integers(1, 12),
    seed=st.integers(0, 999),
    density=st.floats(0, 0.5),
)
def test_closed_classes_equal_those_of_networkx(
    size: int, seed: int, density: float
) -> None:
    A = random_graph(size, seed, density)
    assert torch.equal(closed_classes(A), classes_by_networkx(A))


def test_closed_classes_of_a_batch() -> None:
    graphs = [random_graph(7, seed, 0.15) for seed in range(6)]
    batch = torch.stack(graphs).reshape(2, 3, 7, 7)
    found = closed_classes(batch)
    assert found.shape == (2, 3, 7, 7)
    for graph, same in zip(graphs, found.reshape(6, 7, 7), strict=True):
        assert torch.equal(same, classes_by_networkx(graph))


def test_closed_classes_of_a_causal_graph_are_its_roots() -> None:
    A = torch.block_diag(random_causal(3, 0), random_causal(4, 1))
    A.fill_diagonal_(0)
    roots = torch.zeros(7, dtype=torch.bool)
    roots[[0, 3]] = True
    assert torch.equal(closed_classes(A), torch.diag(roots))


@pytest.mark.parametrize('size', [1, 2, 5, 12])
def test_stationary_is_the_left_eigenvector(size: int) -> None:
    off = random_walk(size, size).fill_diagonal_(0)
    x = stationary(off)
    values, vectors = torch.linalg.eig(laplacian(off).mT)
    vector = vectors[:, values.abs().argmin()].real
    torch.testing.assert_close(x, vector / vector.sum(), rtol=1e-10, atol=0)


@pytest.mark.parametrize('seed', range(5))
def test_stationary_of_weights_over_many_orders_of_magnitude(
    seed: int,
) -> None:
    generator = torch.Generator().manual_seed(seed)
    power = 12 * torch.rand(7, 7, generator=generator).double() - 6
    off = (10**power).fill_diagonal_(0)
    expected = stationary_by_fractions(off)
    # Without subtractions every entry is right, however small.
    for value, exact in zip(stationary(off).tolist(), expected, strict=True):
        assert value == pytest.approx(float(exact), rel=1e-13)


def test_stationary_of_a_nearly_disconnected_class() -> None:
    # Two pairs with an exchange of 1e-12: flow balance gives x by hand.
    off = torch.zeros(4, 4, dtype=torch.float64)
    off[0, 1] = off[1, 0] = off[2, 3] = off[3, 2] = 1
    off[1, 2], off[2, 1] = 1e-12, 3e-12
    # x_1 1e-12 = x_2 3e-12, and within a pair both are equal.
    assert stationary(off).tolist() == pytest.approx(
        [0.375, 0.375, 0.125, 0.125], rel=1e-11
    )


def test_stationary_with_gradients_is_the_same() -> None:
    off = random_walk(6, 0).fill_diagonal_(0)
    x = stationary(off.clone().requires_grad_())
    torch.testing.assert_close(x.detach(), stationary(off))

    def by_weights(logits: Tensor) -> Tensor:
        return stationary(logits.exp() * (1 - torch.eye(6)))

    logits = torch.randn(6, 6, generator=torch.Generator().manual_seed(1))
    assert torch.autograd.gradcheck(
        by_weights, logits.double().requires_grad_()
    )


@pytest.mark.parametrize('seed', range(5))
def test_gradients_do_not_cost_the_digits_of_the_stationary_law(
    seed: int,
) -> None:
    generator = torch.Generator().manual_seed(seed)
    power = 12 * torch.rand(7, 7, generator=generator).double() - 6
    off = (10**power).fill_diagonal_(0)
    x = stationary(off.clone().requires_grad_()).detach()
    torch.testing.assert_close(x, stationary(off), rtol=1e-6, atol=0)


@pytest.mark.parametrize('size', [1, 2, 511, 512, 513, 514, 1025, 1100])
def test_is_lower_finds_one_edge_anywhere(size: int) -> None:
    A = torch.ones(size, size).tril()
    assert is_lower(A)
    half = size // 2
    quarter = half // 2
    places = {
        (0, size - 1),
        (0, 1),
        (size - 2, size - 1),
        (half - 1, half),
        (half, half + 1),
        (quarter - 1, quarter),
        (half + quarter - 1, half + quarter),
        (0, half - 1),
        (half, size - 1),
    }
    for i, j in places:
        if 0 <= i < j < size:
            A[i, j] = 1e-30
            assert not is_lower(A), (i, j)
            A[i, j] = 0
    assert is_lower(A)


def test_is_lower_of_a_batch_is_that_of_all() -> None:
    A = torch.ones(2, 600, 600).tril()
    assert is_lower(A)
    A[1, 10, 11] = 1
    assert not is_lower(A)


def test_split_hops() -> None:
    assert split_hops(0) == (0, 1)
    follow, kill = split_hops(3.0)
    # A walk that is killed with this probability makes 3 steps on average.
    assert follow / kill == pytest.approx(3)
    assert follow + kill == 1
    with pytest.raises(ValueError, match='hops=None'):
        split_hops(math.inf)


def test_rows_of_the_jumps_sum_to_one_or_to_what_is_not_killed() -> None:
    A = random_causal(6, 2)
    free, killed = (walk_on(A, hops, A.dtype) for hops in (None, 3.0))
    eye = torch.eye(6, dtype=torch.float64)
    rows = (eye - free.system).sum(1)
    torch.testing.assert_close(
        rows, torch.tensor([0.0, 1, 1, 1, 1, 1]).double()
    )
    # Killed: 1 / 4 of the weight of the row, over the rate of leaving.
    expected = 1 - 0.25 / (0.25 + 0.75 * (1 - A.diagonal()))
    torch.testing.assert_close((eye - killed.system).sum(1), expected)
    assert free.peers is None
    assert killed.lower


@pytest.mark.parametrize('dense', [True, False])
@pytest.mark.parametrize(
    ('dtype', 'tiny'), [(torch.float32, 1e-40), (torch.float64, 1e-310)]
)
def test_leave_rates_whose_inverse_overflows(
    dtype: torch.dtype, tiny: float, dense: bool
) -> None:
    # Softmax leaves such weights where a token attends to itself alone.
    A = torch.eye(3, dtype=torch.float64)
    A[1, 0] = tiny
    A[2] = torch.tensor([0.25, 0.25, 0.5])
    given = (A,) if dense else edges_of(A)
    h = hitting_probability(*given, rows=[1, 2], dtype=dtype)
    assert h.tolist() == [[1, 1, 0], [1, 0.5, 1]]
    R = effective_resistance(*given, rows=[1, 2], dtype=dtype)
    # 1 / tiny itself is beyond the largest number.
    assert R.tolist() == [[math.inf, 0, math.inf], [2, 4, 0]]
