import networkx as nx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import Batch, Data, HeteroData
from torch_geometric.edge_index import EdgeIndex

from gnnbridge.graph.causal import causal_graph, sliding_window_graph
from gnnbridge.graph.dense import from_attention
from gnnbridge.graph.schema import (
    edge_attributes,
    is_causal,
    roots,
    select_edges,
    sort,
    validate,
)

PROPERTY = settings(deadline=None, max_examples=25, derandomize=True)


def graph(edges, num_nodes, **attributes):
    edge_index = torch.tensor(edges, dtype=torch.long)
    edge_index = edge_index.reshape(-1, 2).t().contiguous()
    return Data(edge_index=edge_index, num_nodes=num_nodes, **attributes)


def attention(n, heads=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    A = torch.rand(heads, n, n, generator=generator).tril()
    return from_attention(A / A.sum(dim=-1, keepdim=True))


@st.composite
def edge_lists(draw, causal=False):
    n = draw(st.integers(1, 7))
    node = st.integers(0, n - 1)
    pairs = draw(
        st.lists(st.tuples(node, node), min_size=1, max_size=20, unique=True)
    )
    if causal:
        pairs = list({(min(pair), max(pair)) for pair in pairs})
    return pairs, n


# validate


def test_validate_returns_the_same_object():
    data = attention(5)
    assert validate(data, causal=True, single_root=True) is data
    batch = Batch.from_data_list([attention(3), attention(5)])
    assert validate(batch, causal=True, single_root=True) is batch


@pytest.mark.parametrize('data', [None, HeteroData(), torch.eye(3)])
def test_what_is_no_graph_is_refused(data):
    with pytest.raises(TypeError, match='Expected a torch_geometric'):
        validate(data)


def test_edge_index_of_the_wrong_type_or_dtype():
    edge_index = torch.tensor([[0, 0], [0, 1]])
    with pytest.raises(TypeError, match=r'int64 .*got torch.int32'):
        validate(Data(edge_index=edge_index.int(), num_nodes=2))
    with pytest.raises(TypeError, match=r'int64 .*got torch.float32'):
        validate(Data(edge_index=edge_index.float(), num_nodes=2))
    with pytest.raises(TypeError, match=r'plain tensor .*got NoneType'):
        validate(Data(num_nodes=2))
    wrapped = EdgeIndex(edge_index, sparse_size=(2, 2), sort_order='col')
    with pytest.raises(TypeError, match=r'as_tensor\(\)'):
        validate(Data(edge_index=wrapped, num_nodes=2))
    assert validate(Data(edge_index=wrapped.as_tensor(), num_nodes=2))


@pytest.mark.parametrize('shape', [(3, 2), (2,), (2, 3, 1)])
def test_edge_index_of_the_wrong_shape(shape):
    with pytest.raises(ValueError, match=r'shape \[2, E\]'):
        validate(Data(edge_index=torch.zeros(shape).long(), num_nodes=2))


def test_empty_graphs_are_refused():
    with pytest.raises(ValueError, match='at least one node'):
        validate(graph([], 0))
    with pytest.raises(ValueError, match='at least one edge'):
        validate(graph([], 3))


@pytest.mark.parametrize('bad', [(0, 3), (3, 1), (-1, 1)])
def test_an_edge_out_of_range_is_named(bad):
    data = graph([(0, 0), (0, 1), bad], 3)
    match = rf'nodes 0 to 2 .*edge 2 \({bad[0]} -> {bad[1]}\)'
    with pytest.raises(ValueError, match=match):
        validate(data)


@pytest.mark.parametrize('name', ['edge_weight', 'edge_attr'])
@pytest.mark.parametrize(
    ('value', 'match'),
    [
        (float('nan'), 'finite'),
        (float('inf'), 'finite'),
        (-0.25, r"non-negative .*-0.25.*weights='signed'"),
    ],
)
def test_a_bad_weight_is_named(name, value, match):
    data = attention(4)
    data[name] = data[name].clone()
    data[name].view(data.num_edges, -1)[4, -1] = value
    with pytest.raises(ValueError, match=f"'{name}' to be {match}") as error:
        validate(data)
    assert 'edge 4 (1 -> 2)' in str(error.value)


def test_signed_weights_need_the_option():
    data = attention(4)
    data.edge_weight = -data.edge_weight
    assert validate(data, weights='signed') is data
    data.edge_weight[0] = float('nan')
    with pytest.raises(ValueError, match='finite'):
        validate(data, weights='signed')
    with pytest.raises(ValueError, match="'nonnegative' or 'signed'"):
        validate(data, weights='any')


def test_edge_attributes_of_the_wrong_length_or_shape():
    data = attention(4)
    data.edge_attr = data.edge_attr[:-1]
    with pytest.raises(ValueError, match=r"'edge_attr' .* 10 edges .*\[9, 2\]"):
        validate(data)
    data = attention(4)
    data.edge_score = torch.zeros(3)
    with pytest.raises(ValueError, match=r"'edge_score' .* 10 edges .*\[3\]"):
        validate(data)
    data = attention(4)
    data.edge_weight = data.edge_attr
    with pytest.raises(ValueError, match=r"'edge_weight' to have shape \[E\]"):
        validate(data)
    data = attention(4)
    data.edge_attr = data.edge_weight
    with pytest.raises(ValueError, match=r"'edge_attr' to have .*\[E, H\]"):
        validate(data)
    data = attention(4)
    data.edge_weight = torch.ones(10, dtype=torch.long)
    with pytest.raises(TypeError, match=r'floating dtype .*int64'):
        validate(data)


def test_node_attributes_of_the_wrong_length():
    data = attention(4)
    data.token_id = torch.zeros(3).long()
    with pytest.raises(ValueError, match=r"'token_id' .* 4 nodes \(got 3\)"):
        validate(data)


def test_duplicate_edges_are_named():
    data = graph([(0, 0), (0, 1), (0, 1)], 2)
    with pytest.raises(ValueError, match=r'duplicate.*edge 1 \(0 -> 1\)'):
        validate(data)


@pytest.mark.parametrize('edges', [[(0, 1), (0, 0)], [(0, 0), (1, 1), (0, 1)]])
def test_unsorted_edges_are_named(edges):
    number = len(edges) - 1
    source, target = edges[-1]
    with pytest.raises(
        ValueError, match=rf'sorted.*edge {number} \({source} -> {target}\)'
    ):
        validate(graph(edges, 2))
    assert validate(sort(graph(edges, 2)))


def test_a_non_causal_edge_is_named():
    data = graph([(0, 0), (2, 1), (0, 2)], 3)
    assert validate(data) is data
    assert validate(data, causal=False) is data
    with pytest.raises(ValueError, match=r'causal.*edge 1 \(2 -> 1\)'):
        validate(data, causal=True)


def test_causality_goes_by_node_not_by_position():
    data = causal_graph(3)
    data.position = torch.tensor([5, 0, 1])
    assert validate(data, causal=True) is data
    data = graph([(2, 1)], 3, position=torch.tensor([0, 9, 2]))
    assert not is_causal(data)


def test_an_edge_between_graphs_of_a_batch_is_named():
    batch = Batch.from_data_list([causal_graph(2), causal_graph(3)])
    batch.edge_index = batch.edge_index.clone()
    batch.edge_index[0, -3] = 1
    with pytest.raises(
        ValueError, match=r'between two graphs.*\(1 -> 4\) from graph 0 to gr'
    ):
        validate(batch)


def test_two_roots_are_named():
    data = graph([(0, 0), (0, 1), (2, 2), (2, 3)], 4)
    with pytest.raises(ValueError, match=r'one root.*2 roots.*nodes 0, 2'):
        validate(data, single_root=True)
    data.position = torch.arange(4)
    batch = Batch.from_data_list([causal_graph(3), data])
    with pytest.raises(ValueError, match='2 roots in graph 1: nodes 3, 5'):
        validate(batch, single_root=True)
    window = sliding_window_graph(5, 1)
    with pytest.raises(ValueError, match='nodes 0, 1, 2, 3, 4'):
        validate(window, single_root=True)


# is_causal, sort, select_edges


@PROPERTY
@given(edge_lists())
def test_is_causal(pairs_and_size):
    pairs, n = pairs_and_size
    assert is_causal(graph(pairs, n)) == all(j <= i for j, i in pairs)


@PROPERTY
@given(edge_lists(), st.randoms(use_true_random=False))
def test_sort_moves_every_edge_attribute(pairs_and_size, random):
    pairs, n = pairs_and_size
    random.shuffle(pairs)
    label = torch.tensor([100 * j + i for j, i in pairs])
    data = graph(
        pairs,
        n,
        edge_weight=label.float(),
        edge_attr=torch.stack([label, label + 1], dim=1).float(),
        edge_label=label,
        x=torch.arange(float(n))[:, None],
    )
    before = data.clone()
    out = sort(data)
    expected = sorted(pairs, key=lambda pair: (pair[1], pair[0]))
    assert out.edge_index.t().tolist() == [list(pair) for pair in expected]
    label = torch.tensor([100 * j + i for j, i in expected])
    assert torch.equal(out.edge_weight, label.float())
    assert torch.equal(out.edge_attr[:, 1], label.float() + 1)
    assert torch.equal(out.edge_label, label)
    assert torch.equal(out.x, data.x)
    for name in before.keys():  # noqa: SIM118 (Data is not a dict)
        assert torch.equal(
            torch.as_tensor(before[name]), torch.as_tensor(data[name])
        )
    assert validate(out) is out


def test_sort_keeps_duplicates_in_order():
    data = graph([(0, 1), (0, 0), (0, 1)], 2, edge_weight=torch.arange(3.0))
    assert sort(data).edge_weight.tolist() == [1.0, 0.0, 2.0]


def test_sort_of_a_batch_keeps_its_graphs():
    graphs = [attention(3, seed=1), attention(4, seed=2)]
    mixed = []
    for data in graphs:
        order = torch.randperm(
            data.num_edges, generator=torch.Generator().manual_seed(0)
        )
        mixed.append(select_edges(data, order))
    out = sort(Batch.from_data_list(mixed))
    for data, expected in zip(out.to_data_list(), graphs, strict=True):
        assert torch.equal(data.edge_index, expected.edge_index)
        assert torch.equal(data.edge_attr, expected.edge_attr)


def test_edge_attributes_by_name_and_by_length():
    data = attention(4)
    data.alpha = torch.zeros(10)
    data.edge_label_index = torch.zeros(2, 10).long()
    assert sorted(edge_attributes(data)) == [
        'alpha',
        'edge_attr',
        'edge_weight',
    ]
    # With as many nodes as edges a length says nothing; the name does.
    chain = graph(
        [(0, 1), (1, 2), (2, 2)],
        3,
        x=torch.zeros(3),
        edge_weight=torch.ones(3),
    )
    assert edge_attributes(chain) == ['edge_weight']
    # One entry per graph, one edge per graph.
    batch = Batch.from_data_list(
        [graph([(0, 1)], 2, num_heads=2), graph([(0, 1)], 2, num_heads=3)]
    )
    assert batch.num_heads.tolist() == [2, 3]
    assert edge_attributes(batch) == []
    # As many edges as 'ptr' has entries.
    batch = Batch.from_data_list(
        [graph([(0, 1), (1, 1)], 2), graph([(0, 1)], 2)]
    )
    assert len(batch.ptr) == batch.num_edges
    assert edge_attributes(batch) == []


def test_select_edges_does_not_mutate():
    data = attention(4)
    before = data.edge_attr.clone()
    out = select_edges(data, torch.arange(10) < 3)
    assert out.num_edges == 3
    assert torch.equal(out.edge_attr, before[:3])
    assert torch.equal(data.edge_attr, before)


# roots


def closed_classes(pairs, n):
    walk = nx.DiGraph()
    walk.add_nodes_from(range(n))
    walk.add_edges_from((i, j) for j, i in pairs)
    return sorted(min(c) for c in nx.attracting_components(walk))


@PROPERTY
@given(edge_lists())
def test_roots_are_the_attracting_components(pairs_and_size):
    pairs, n = pairs_and_size
    assert roots(graph(pairs, n)).tolist() == closed_classes(pairs, n)


@PROPERTY
@given(edge_lists(causal=True))
def test_roots_of_a_causal_graph_have_leave_rate_zero(pairs_and_size):
    pairs, n = pairs_and_size
    found = roots(graph(pairs, n)).tolist()
    assert found == closed_classes(pairs, n)
    assert found == [
        i for i in range(n) if not any(t == i and j != i for j, t in pairs)
    ]


def test_an_edge_of_weight_zero_is_no_way_out():
    pairs, weight = [(0, 0), (0, 1), (1, 1)], torch.tensor([1.0, 0.0, 1.0])
    assert roots(graph(pairs, 2)).tolist() == [0]
    assert roots(graph(pairs, 2, edge_weight=weight)).tolist() == [0, 1]


def test_a_cycle_is_one_root():
    data = graph([(1, 0), (0, 1), (0, 2)], 3)
    assert roots(data).tolist() == [0]
    assert roots(data).dtype == torch.int64
