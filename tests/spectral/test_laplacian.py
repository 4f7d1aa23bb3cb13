import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.utils import get_laplacian, to_dense_adj

from gnnbridge.spectral.laplacian import laplacian, leave_rate


def test_row_is_receiver() -> None:
    # Token 2 receives 0.25 from token 0 and 0.5 from token 1.
    edge_index = torch.tensor([[0, 0, 1, 2], [0, 2, 2, 2]])
    weight = torch.tensor([1.0, 0.25, 0.5, 0.25])
    expected = torch.tensor(
        [[0, 0, 0], [0, 0, 0], [-0.25, -0.5, 0.75]], dtype=torch.float64
    )
    assert torch.equal(laplacian(edge_index, weight), expected)
    assert leave_rate(edge_index, weight).tolist() == [0.0, 0.0, 0.75]


def test_edges_without_weights_count_one_each() -> None:
    edge_index = torch.tensor([[0, 0, 1], [1, 2, 2]])
    assert leave_rate(edge_index, num_nodes=5).tolist() == [0, 1, 2, 0, 0]


def test_equals_pyg_on_a_symmetric_graph() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.rand(7, 7, generator=generator, dtype=torch.float64)
    weight = (weight + weight.mT).triu(1)
    weight = weight + weight.mT
    source, target = weight.nonzero(as_tuple=True)
    edge_index = torch.stack([source, target])
    index, value = get_laplacian(edge_index, weight[source, target])
    expected = to_dense_adj(index, edge_attr=value)[0]
    torch.testing.assert_close(laplacian(weight), expected)


def test_a_small_leave_rate_keeps_its_digits() -> None:
    # In float32 the diagonal rounds to one, and 1 - A_ii to zero.
    A = torch.tensor([[1.0, 0.0], [3e-9, 1 - 3e-9]])
    assert A[1, 1] == 1
    assert leave_rate(A)[1].item() == pytest.approx(3e-9, rel=1e-6)


def test_batches_and_returns_float64() -> None:
    A = torch.rand(2, 3, 5, 5, generator=torch.Generator().manual_seed(1))
    before = A.clone()
    out = laplacian(A)
    assert out.dtype == torch.float64
    assert leave_rate(A).shape == (2, 3, 5)
    assert torch.equal(out[1, 2], laplacian(A[1, 2]))
    assert torch.equal(out.diagonal(dim1=-2, dim2=-1), leave_rate(A))
    assert torch.equal(A, before)


def test_refuses_negative_weights() -> None:
    A = torch.tensor([[1.0, 0.0], [-0.5, 1.5]])
    with pytest.raises(ValueError, match='non-negative'):
        laplacian(A)
    with pytest.raises(ValueError, match='non-negative'):
        leave_rate(A)


@settings(deadline=None, max_examples=25, derandomize=True)
@given(size=st.integers(1, 9), seed=st.integers(0, 99), loop=st.floats(0, 9))
def test_rows_sum_to_zero_and_self_loops_cancel(
    size: int, seed: int, loop: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    A = torch.rand(size, size, generator=generator, dtype=torch.float64)
    L = laplacian(A)
    # The diagonal is the sum of the same numbers, up to its rounding.
    torch.testing.assert_close(
        L.sum(-1), torch.zeros(size, dtype=torch.float64), atol=1e-14, rtol=0
    )
    assert torch.equal(L, laplacian(A + loop * torch.eye(size)))
