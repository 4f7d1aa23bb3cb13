import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import Batch, Data
from torch_geometric.utils import to_dense_adj

from gnnbridge.graph.cache import cache_graph
from gnnbridge.graph.causal import causal_graph, complete_graph
from gnnbridge.graph.dense import (
    as_attention,
    dense_to_edges,
    edges_to_dense,
    from_attention,
    to_attention,
)
from gnnbridge.graph.schema import is_causal, sort, validate

PROPERTY = settings(deadline=None, max_examples=25, derandomize=True)


def random_attention(seed, n, heads=None, causal=True, density=1.0):
    generator = torch.Generator().manual_seed(seed)
    shape = (n, n) if heads is None else (heads, n, n)
    A = torch.rand(shape, generator=generator) + 0.1
    A = A * (torch.rand(n, n, generator=generator) < density)
    A = A + torch.eye(n)
    A = A.tril() if causal else A
    return A / A.sum(dim=-1, keepdim=True)


def brute_force(data, weight):
    A = torch.zeros(data.num_nodes, data.num_nodes)
    for e, (j, i) in enumerate(data.edge_index.t().tolist()):
        A[i, j] += weight[e]
    return A


# orientation


def test_the_row_is_the_receiver():
    # Token 2 reads token 0 with weight 0.25: one entry, below the diagonal.
    data = Data(
        edge_index=torch.tensor([[0], [2]]),
        edge_weight=torch.tensor([0.25]),
        num_nodes=3,
    )
    A = to_attention(data)
    assert A.nonzero().tolist() == [[2, 0]]
    assert A[2, 0] == 0.25
    back = from_attention(A)
    assert back.edge_index.tolist() == [[0], [2]]


@PROPERTY
@given(st.integers(0, 999), st.integers(1, 7), st.booleans())
def test_to_attention_is_the_transpose_of_pygs_adjacency(seed, n, causal):
    A = random_attention(seed, n, heads=3, causal=causal, density=0.6)
    data = from_attention(A)
    adjacency = to_dense_adj(
        data.edge_index, edge_attr=data.edge_weight, max_num_nodes=n
    )[0]
    assert torch.equal(to_attention(data), adjacency.t())
    per_head = to_dense_adj(
        data.edge_index, edge_attr=data.edge_attr, max_num_nodes=n
    )[0]
    assert torch.equal(
        to_attention(data, per_head=True), per_head.permute(2, 1, 0)
    )
    assert torch.equal(to_attention(data), brute_force(data, data.edge_weight))


@PROPERTY
@given(
    st.integers(0, 999),
    st.integers(1, 7),
    st.one_of(st.none(), st.integers(1, 3)),
    st.booleans(),
)
def test_round_trip(seed, n, heads, causal):
    A = random_attention(seed, n, heads, causal=causal, density=0.5)
    data = validate(from_attention(A))
    assert is_causal(data) or not causal
    assert torch.equal(sort(data).edge_index, data.edge_index)
    assert torch.equal(to_attention(data, per_head=heads is not None), A)
    mean = A if heads is None else A.mean(dim=0)
    # The mean is taken over the edges only: same numbers, another order.
    assert torch.allclose(to_attention(data), mean, rtol=1e-6, atol=0)
    assert data.position.tolist() == list(range(n))
    assert data.get('num_heads') == heads


# to_attention, edges_to_dense


def test_without_weights_edges_count_one():
    assert torch.equal(to_attention(causal_graph(4)), torch.ones(4, 4).tril())
    assert to_attention(causal_graph(4)).dtype == torch.float32


def test_duplicates_add_up_as_in_to_dense_adj():
    edge_index = torch.tensor([[0, 0, 1], [1, 1, 1]])
    weight = torch.tensor([1.0, 2.0, 4.0])
    A = edges_to_dense(edge_index, weight, 2)
    assert A.tolist() == [[0.0, 0.0], [3.0, 4.0]]
    assert torch.equal(A, to_dense_adj(edge_index, edge_attr=weight)[0].t())


def test_a_batch_is_block_diagonal():
    first, second = random_attention(0, 3), random_attention(1, 4)
    batch = Batch.from_data_list(
        [from_attention(first), from_attention(second)]
    )
    assert torch.equal(to_attention(batch), torch.block_diag(first, second))


def test_rows_that_do_not_query_are_zero():
    A = to_attention(cache_graph(2, 5))
    assert torch.equal(A[:3], torch.zeros(3, 5))
    assert torch.equal(A[3:], torch.ones(5, 5).tril()[3:])


def test_per_head_needs_edge_attr():
    with pytest.raises(ValueError, match=r"'edge_attr' of shape \[E, H\]"):
        to_attention(causal_graph(3), per_head=True)


def test_to_attention_refuses_what_is_not_finite_but_takes_signs():
    data = from_attention(random_attention(0, 3))
    data.edge_weight = -data.edge_weight
    assert (to_attention(data) <= 0).all()
    data.edge_weight[2] = float('nan')
    with pytest.raises(ValueError, match=r'finite .*edge 2 \(1 -> 1\)'):
        to_attention(data)


def test_edges_to_dense_refuses_misfits():
    edge_index = causal_graph(3).edge_index
    with pytest.raises(ValueError, match=r'E = 6 \(got \[5\]\)'):
        edges_to_dense(edge_index, torch.ones(5), 3)
    with pytest.raises(ValueError, match=r'edge 3 \(0 -> 2\)'):
        edges_to_dense(edge_index, None, 2)


@pytest.mark.parametrize(
    ('dtype', 'expected'),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_weights_are_upcast_to_float32_at_least(dtype, expected):
    A = random_attention(0, 5, heads=2).to(dtype)
    data = from_attention(A)
    assert data.edge_weight.dtype == data.edge_attr.dtype == expected
    data.edge_weight = data.edge_weight.to(dtype)
    assert to_attention(data).dtype == expected
    assert as_attention(A).dtype == expected
    assert dense_to_edges(A)[1].dtype == expected


def test_the_head_mean_is_taken_after_the_upcast():
    # In float16 the three weights would sum to 1 + 2**-10 before rounding.
    A = torch.tensor([1.0, 2**-11, 2**-11], dtype=torch.float16)
    data = from_attention(A.reshape(3, 1, 1))
    assert data.edge_weight.item() == pytest.approx((1 + 2**-10) / 3, rel=1e-7)


# from_attention, dense_to_edges


def test_a_mask_keeps_zeros_and_leaves_out_the_rest():
    A = torch.tensor([[1.0, 0.0], [0.4, 0.6]])
    assert from_attention(A).num_edges == 3
    mask = torch.tensor([[True, True], [False, True]])
    data = from_attention(A, mask=mask)
    assert data.edge_index.tolist() == [[0, 1, 1], [0, 0, 1]]
    assert torch.equal(data.edge_weight, torch.tensor([1.0, 0.0, 0.6]))


def test_an_entry_of_one_head_is_an_edge_of_all():
    A = torch.zeros(2, 2, 2)
    A[0, 1, 0] = 0.5
    A[1, 1, 1] = 1.0
    data = from_attention(A)
    assert data.edge_index.tolist() == [[0, 1], [1, 1]]
    assert data.edge_attr.tolist() == [[0.5, 0.0], [0.0, 1.0]]
    assert data.edge_weight.tolist() == [0.25, 0.5]


def test_heads_that_cancel_are_still_an_edge():
    A = torch.tensor([[[0.5]], [[-0.5]]])
    with pytest.raises(ValueError, match=r"-0.5 at \[1, 0, 0\].*'signed'"):
        from_attention(A)
    data = from_attention(A, weights='signed')
    assert data.edge_weight.tolist() == [0.0]
    assert data.edge_attr.tolist() == [[0.5, -0.5]]


@pytest.mark.parametrize(
    ('A', 'match'),
    [
        (torch.ones(2, 3), r'square .*\[2, 3\]'),
        (torch.ones(3), r'square .*\[3\]'),
        (torch.ones(0, 0), r'square .*\[0, 0\]'),
        (torch.ones(2, 2, 2, 2), r'\[H, N, N\] .*\[2, 2, 2, 2\]'),
        (torch.tensor([[1.0, float('nan')], [0, 1]]), r'nan at \[0, 1\]'),
        (torch.zeros(2, 2), 'at least one edge'),
    ],
)
def test_from_attention_refuses_misfits(A, match):
    with pytest.raises(ValueError, match=match):
        from_attention(A)


@pytest.mark.parametrize('A', [torch.ones(2, 2).bool(), torch.ones(2, 2).int()])
def test_from_attention_refuses_masks(A):
    with pytest.raises(TypeError, match='from_mask'):
        from_attention(A)


@pytest.mark.parametrize('mask', [torch.ones(2, 2), torch.ones(3, 3).bool()])
def test_a_mask_that_does_not_fit_is_refused(mask):
    with pytest.raises(ValueError, match=r"'mask' to be bool .*\[2, 2\]"):
        from_attention(torch.eye(2), mask=mask)


# as_attention


def test_as_attention_takes_both_forms():
    A = random_attention(3, 6, causal=False)
    data = from_attention(A)
    assert as_attention(A) is A
    assert torch.equal(
        as_attention(data.edge_index, data.edge_weight, data.num_nodes), A
    )
    heads = random_attention(4, 5, heads=2)
    data = from_attention(heads)
    assert torch.equal(as_attention(data.edge_index, data.edge_attr), heads)
    stack = heads.reshape(2, 1, 5, 5)
    assert torch.equal(as_attention(stack, num_nodes=5), stack)


def test_two_edges_of_two_nodes_are_edges_not_a_matrix():
    edge_index = torch.tensor([[0, 0], [0, 1]])
    assert as_attention(edge_index).tolist() == [[1.0, 0.0], [1.0, 0.0]]
    A = edge_index.float()
    assert as_attention(A).tolist() == [[0.0, 0.0], [0.0, 1.0]]


def test_the_number_of_nodes_can_exceed_the_edges():
    assert as_attention(torch.tensor([[0], [1]])).shape == (2, 2)
    assert as_attention(torch.tensor([[0], [1]]), num_nodes=4).shape == (4, 4)


@pytest.mark.parametrize(
    ('arguments', 'error', 'match'),
    [
        (([[0], [1]],), TypeError, 'as a tensor .*got list'),
        ((torch.ones(2, 2).bool(),), TypeError, 'integer .*got torch.bool'),
        ((torch.ones(2, 2).int(),), TypeError, 'int64 .*got torch.int32'),
        ((torch.ones(3, 4).long(),), ValueError, r'shape \[2, E\]'),
        ((torch.ones(2, 0).long(),), ValueError, 'at least one edge'),
        ((torch.ones(2, 1).long(), None, 0), ValueError, 'at least one node'),
        (
            (torch.tensor([[0], [5]]), None, 3),
            ValueError,
            r'edge 0 \(0 -> 5\)',
        ),
        (
            (torch.tensor([[0], [-1]]), None, 3),
            ValueError,
            r'edge 0 \(0 -> -1\)',
        ),
        (
            (torch.tensor([[0], [1]]), torch.tensor([-1.0])),
            ValueError,
            r'non-negative .*edge 0 \(0 -> 1\)',
        ),
        (
            (torch.tensor([[0], [1]]), torch.ones(2)),
            ValueError,
            r'one row for each of the 1 edges',
        ),
        (
            (torch.tensor([[0], [1]]), torch.ones(1).long()),
            TypeError,
            'floating dtype',
        ),
        ((torch.ones(2, 3),), ValueError, r'square .*\[2, 3\]'),
        ((torch.eye(2), torch.ones(2)), ValueError, "no 'edge_weight'"),
        ((torch.eye(2), None, 3), ValueError, "'num_nodes' to be 2, .*got 3"),
        ((-torch.eye(2),), ValueError, r'non-negative .*-1.0 at \[0, 0\]'),
        ((torch.eye(2) / 0,), ValueError, r'finite .*inf at \[0, 0\]'),
    ],
)
def test_as_attention_refuses_misfits(arguments, error, match):
    with pytest.raises(error, match=match):
        as_attention(*arguments)


def test_as_attention_takes_signs_on_request():
    A = torch.tensor([[1.0, 0.0], [1.5, -0.5]])
    assert as_attention(A, weights='signed') is A
    data = from_attention(A, weights='signed')
    assert torch.equal(
        as_attention(data.edge_index, data.edge_weight, weights='signed'), A
    )


# gradients


@pytest.mark.parametrize('shape', [(6,), (6, 2)])
def test_gradient_of_the_dense_matrix(shape):
    edge_index = torch.cat(
        [complete_graph(2).edge_index, torch.tensor([[0, 1], [2, 1]])], dim=1
    )  # one duplicate
    weight = torch.rand(
        shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    ).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda w: as_attention(edge_index, w, 3), weight
    )


def test_gradient_of_the_edge_weights():
    # No zeros: a finite difference would step below them.
    A = random_attention(0, 3, heads=2, causal=False).double()
    assert torch.autograd.gradcheck(
        lambda A: (from_attention(A).edge_weight, from_attention(A).edge_attr),
        A.requires_grad_(),
    )


def test_inputs_are_left_as_they_were():
    A = random_attention(0, 4, heads=2)
    before = A.clone()
    data = from_attention(A)
    weight = data.edge_weight.clone()
    to_attention(data).fill_(7.0)
    assert torch.equal(A, before)
    assert torch.equal(data.edge_weight, weight)
