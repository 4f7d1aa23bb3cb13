import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric import EdgeIndex

from gnnbridge.nn.plan import AttentionPlan, plan_attention

PROPERTY = settings(deadline=None, max_examples=100, derandomize=True)


@PROPERTY
@given(
    st.lists(st.tuples(st.integers(-1, 4), st.integers(-1, 3)), max_size=6),
    st.integers(1, 4),
    st.integers(1, 3),
)
def test_a_plan_is_made_of_distinct_edges_within_range(edges, keys, queries):
    edge_index = torch.tensor(edges, dtype=torch.long).view(-1, 2).t()
    in_range = all(0 <= j < keys and 0 <= i < queries for j, i in edges)
    if in_range and len(set(edges)) == len(edges):
        plan = plan_attention(edge_index, (keys, queries))
        assert plan.edge_index.tolist() == edge_index.tolist()
        assert plan.num_edges == len(edges)
        assert plan.size == (keys, queries)
    else:
        with pytest.raises(ValueError, match='Expected e'):
            plan_attention(edge_index, (keys, queries))


@pytest.mark.parametrize(
    ('edge', 'name'),
    [
        ((5, 0), 'key 5 -> query 0'),
        ((-1, 2), 'key -1 -> query 2'),
        ((0, 3), 'key 0 -> query 3'),
        ((4, -2), 'key 4 -> query -2'),
    ],
)
def test_an_edge_out_of_range_is_named(edge, name):
    edge_index = torch.tensor([[0, 0], [4, 2], list(edge), [9, 9]]).t()
    with pytest.raises(ValueError, match=f'{name} at edge 2') as error:
        plan_attention(edge_index, (5, 3))
    assert 'from 5 keys to 3 queries' in str(error.value)


def test_a_duplicate_edge_is_named():
    edge_index = torch.tensor([[2, 0, 1, 0, 2], [1, 2, 1, 0, 1]])
    with pytest.raises(ValueError, match='key 2 -> query 1 at edges 0 and 4'):
        plan_attention(edge_index, (3, 3))
    # The same two numbers the other way round are another edge.
    edge_index = torch.tensor([[2, 1], [1, 2]])
    assert plan_attention(edge_index, (3, 3)).num_edges == 2


@pytest.mark.parametrize(
    ('edge_index', 'got'),
    [
        (torch.zeros(2, 1, dtype=torch.int32), 'torch.int32'),
        (torch.zeros(2, 1), 'torch.float32'),
        (torch.eye(2).to_sparse(), 'torch.float32'),
        ([[0], [0]], 'list'),
        (None, 'NoneType'),
    ],
)
def test_other_types_are_refused(edge_index, got):
    with pytest.raises(TypeError, match=rf'int64 tensor \(got {got}\)'):
        plan_attention(edge_index, (2, 2))


@pytest.mark.parametrize(
    'edge_index',
    [
        torch.zeros(2, dtype=torch.long),
        torch.zeros(3, 2, dtype=torch.long),
        torch.zeros(1, 2, 2, dtype=torch.long),
        torch.eye(2, dtype=torch.long).to_sparse(),
    ],
)
def test_other_shapes_are_refused(edge_index):
    with pytest.raises(ValueError, match=r'of shape \[2, E\]'):
        plan_attention(edge_index, (2, 2))


def test_edge_index_of_pyg_is_accepted_as_a_plain_tensor():
    edge_index = EdgeIndex(
        [[0, 1, 1], [1, 0, 1]], sparse_size=(2, 2), sort_order='row'
    )
    plan = plan_attention(edge_index, (2, 2))
    assert type(plan.edge_index) is torch.Tensor
    assert plan.edge_index.tolist() == [[0, 1, 1], [1, 0, 1]]


def test_a_plan_leaves_its_input_alone():
    edge_index = torch.tensor([[2, 0, 1], [1, 2, 0]])
    before = edge_index.clone()
    plan_attention(edge_index, (3, 3))
    assert torch.equal(edge_index, before)


def test_to_moves_the_edges_and_nothing_else():
    plan = plan_attention(torch.tensor([[0, 1], [1, 0]]), (3, 2))
    moved = plan.to('meta')
    assert moved.edge_index.device.type == 'meta'
    assert plan.edge_index.device.type == 'cpu'
    assert (moved.size, moved.backend) == (plan.size, plan.backend)
    assert torch.equal(plan.to('cpu').edge_index, plan.edge_index)


def test_explain_says_what_runs():
    plan = plan_attention(torch.tensor([[0, 1, 2], [1, 0, 0]]), (4, 3))
    assert plan.explain() == (
        "backend 'scatter': gather and scatter over 3 edges, 3 queries x 4 "
        'keys (25.0% of all pairs)'
    )
    empty = plan_attention(torch.zeros(2, 0, dtype=torch.long), (0, 0))
    assert '0 edges' in empty.explain()


def test_plans_are_compared_by_identity():
    edge_index = torch.tensor([[0, 1], [1, 0]])
    plan = plan_attention(edge_index, (2, 2))
    other = AttentionPlan(edge_index.clone(), (2, 2))
    assert plan == plan
    assert plan != other
    assert len({plan, other}) == 2
