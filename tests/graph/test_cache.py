import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import Batch, Data
from torch_geometric.nn import MessagePassing

from gnnbridge.graph.cache import cache_graph, to_bipartite
from gnnbridge.graph.causal import causal_graph, sliding_window_graph
from gnnbridge.graph.schema import validate

PROPERTY = settings(deadline=None, max_examples=25, derandomize=True)


class SumConv(MessagePassing):
    def forward(self, x, edge_index, size):
        # propagate_type: (x: PairTensor)
        return self.propagate(edge_index, x=x, size=size)

    def message(self, x_j):
        return x_j


@PROPERTY
@given(
    st.integers(1, 6),
    st.integers(0, 6),
    st.one_of(st.none(), st.integers(1, 8)),
    st.integers(0, 4),
)
def test_cache_graph_is_the_end_of_the_full_graph(
    num_queries, past, window, sinks
):
    num_keys = num_queries + past
    data = cache_graph(num_queries, num_keys, window=window, sinks=sinks)
    full = sliding_window_graph(num_keys, window or num_keys, sinks)
    last = full.edge_index[1] >= past
    assert torch.equal(data.edge_index, full.edge_index[:, last])
    assert data.num_nodes == num_keys
    assert data.num_queries == num_queries
    assert validate(data, causal=True) is data


def test_to_bipartite_numbers_queries_from_zero():
    edge_index, size = to_bipartite(cache_graph(2, 5, window=2, sinks=1))
    # Queries 3 and 4 see themselves, the key before, and the sink.
    assert edge_index.tolist() == [[0, 2, 3, 0, 3, 4], [0, 0, 0, 1, 1, 1]]
    assert size == (5, 2)


def test_to_bipartite_of_a_square_graph_changes_nothing():
    data = causal_graph(4)
    edge_index, size = to_bipartite(data)
    assert torch.equal(edge_index, data.edge_index)
    assert size == (4, 4)


def test_propagate_takes_it():
    data = cache_graph(3, 7)
    edge_index, size = to_bipartite(data)
    x = torch.arange(7.0)[:, None]
    out = SumConv(aggr='sum')((x, x[-3:]), edge_index, size)
    # Query p sums the keys 0 to p.
    assert out.flatten().tolist() == [0 + 1 + 2 + 3 + 4, 15, 21]


def test_batch_numbers_queries_through():
    batch = Batch.from_data_list([cache_graph(1, 3), cache_graph(2, 2)])
    edge_index, size = to_bipartite(validate(batch, causal=True))
    assert edge_index.tolist() == [[0, 1, 2, 3, 3, 4], [0, 0, 0, 1, 2, 2]]
    assert size == (5, 3)


def test_a_stray_edge_is_named():
    data = cache_graph(1, 3)
    data.edge_index = torch.tensor([[0, 0], [1, 2]])
    with pytest.raises(ValueError, match=r'end in a query.*edge 0 \(0 -> 1\)'):
        to_bipartite(data)


def test_an_edge_out_of_range_is_named():
    data = Data(edge_index=torch.tensor([[0], [7]]), num_nodes=3)
    with pytest.raises(ValueError, match=r'edge 0 \(0 -> 7\)'):
        to_bipartite(data)


@pytest.mark.parametrize(
    ('arguments', 'options', 'match'),
    [
        ((4, 3), {}, "'num_queries' to be at most num_keys = 3 .*got 4"),
        ((0, 3), {}, "'num_queries' to be at least 1"),
        ((1, 0), {}, "'num_keys' to be at least 1"),
        ((1, 3), {'window': 0}, "'window' to be at least 1"),
        ((1, 3), {'window': 2, 'sinks': -1}, "'sinks' to be at least 0"),
    ],
)
def test_bad_sizes_are_refused(arguments, options, match):
    with pytest.raises(ValueError, match=match):
        cache_graph(*arguments, **options)


def test_bool_sizes_are_refused():
    with pytest.raises(TypeError, match="'num_keys' to be an integer"):
        cache_graph(1, True)
