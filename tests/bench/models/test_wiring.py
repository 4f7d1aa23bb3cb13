import gc
import weakref

import pytest
import torch
from torch_geometric.data import Data
from torch_geometric.nn.conv.gcn_conv import gcn_norm
from torch_geometric.utils import to_dense_adj

from gnnbridge.bench.models.wiring import Edges, edges_of

NODES = 7


def directed_graph(weighted=False):
    """Unsorted edges, one self-loop, node 6 without any, 0 without entering."""
    edge_index = torch.tensor(
        [[0, 3, 1, 2, 5, 4, 0, 3, 4], [1, 2, 3, 1, 4, 4, 5, 1, 1]]
    )
    data = Data(x=torch.zeros(NODES, 1), edge_index=edge_index)
    if weighted:
        generator = torch.Generator().manual_seed(0)
        data.edge_weight = 0.1 + torch.rand(9, generator=generator)
    return data


def matrix(edge_index, weight=None):
    """Rows are targets."""
    adjacency = to_dense_adj(edge_index, None, weight, max_num_nodes=NODES)
    return adjacency[0].t()


def test_the_edges_of_a_graph_are_found_once():
    data = directed_graph()
    found = edges_of(data, 1)
    assert edges_of(data, 1) is found
    assert edges_of(Data(edge_index=data.edge_index, num_nodes=7), 1) is found
    assert edges_of(data.clone(), 1) is not found
    data.edge_type = torch.zeros(9).long()
    assert edges_of(data, 2) is not found
    assert edges_of(data, 1) is found
    assert edges_of(data, 2) is edges_of(data, 2)


def test_they_are_found_anew_when_the_graph_changes():
    data = directed_graph(weighted=True)
    data.edge_type = torch.arange(9) % 2
    found = edges_of(data, 2)
    for change in (
        lambda: data.edge_index[0].clamp_(max=3),
        lambda: data.edge_weight.mul_(2),
        lambda: data.edge_type.zero_(),
        lambda: data.update({'edge_weight': torch.ones(9)}),
        lambda: data.update({'edge_type': torch.ones(9).long()}),
        lambda: data.update({'x': torch.zeros(9, 1)}),
    ):
        change()
        again = edges_of(data, 2)
        assert again is not found
        assert edges_of(data, 2) is again
        found = again
    assert found[0].num_nodes == 9
    assert found[0].edge_index.size(1) == 0
    assert torch.equal(found[1].edge_index, data.edge_index)


def test_what_is_kept_goes_with_the_graph():
    data = directed_graph()
    edges = edges_of(data, 1)[0]
    assert edges.planned[0].num_edges == 9
    seen = weakref.ref(edges)
    del edges, data
    gc.collect()
    assert seen() is None


def test_tensors_of_inference_mode_are_not_kept():
    with torch.inference_mode():
        data = directed_graph()
    assert edges_of(data, 1) is not edges_of(data, 1)


def test_relations_share_out_the_edges():
    data = directed_graph(weighted=True)
    data.edge_type = torch.tensor([0, 2, 0, 0, 2, 2, 0, 0, 2])
    attr = torch.randn(9, 4)
    for relation, edges in enumerate(edges_of(data, 3)):
        kept = data.edge_type == relation
        assert torch.equal(edges.edge_index, data.edge_index[:, kept])
        assert torch.equal(edges.edge_weight, data.edge_weight[kept])
        assert torch.equal(edges.of(attr), attr[kept])
    (edges,) = edges_of(data, 1)
    assert edges.of(attr) is attr
    assert edges.of(None) is None


@pytest.mark.parametrize(
    ('kind', 'message'),
    [
        (None, r"'edge_type' of shape \[9\].*2 relations .got none"),
        (torch.zeros(4).long(), r'got \[4\]'),
        (torch.arange(9) % 3, r'in \[0, 2\) .got 0 to 2'),
        (torch.arange(9) % 2 - 1, r'in \[0, 2\) .got -1 to 0'),
    ],
)
def test_types_that_do_not_fit_are_refused(kind, message):
    data = directed_graph()
    data.edge_type = kind
    with pytest.raises(ValueError, match=message):
        edges_of(data, 2)
    assert len(edges_of(data, 1)) == 1


def test_weights_that_do_not_fit_are_refused():
    data = directed_graph()
    data.edge_weight = torch.ones(8)
    with pytest.raises(ValueError, match=r"'edge_weight' of shape \[9\]"):
        edges_of(data, 1)


def test_weights_come_in_the_type_of_the_states():
    data = directed_graph()
    data.edge_weight = torch.ones(9, dtype=torch.float64, requires_grad=True)
    (edges,) = edges_of(data, 1)
    assert edges.edge_weight.dtype == torch.float32
    assert not edges.edge_weight.requires_grad


@pytest.mark.parametrize('weighted', [False, True])
def test_the_balanced_weights_are_those_of_the_paper(weighted):
    data = directed_graph(weighted)
    (edges,) = edges_of(data, 1)
    A = matrix(data.edge_index, data.edge_weight).double()
    out, into = A.sum(0), A.sum(1)
    expected = A / (into.unsqueeze(1) * out).sqrt().clamp(min=1e-9)
    found = matrix(data.edge_index, edges.balanced).double()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    # Nothing enters node 0, but what it sends is heard.
    assert found[1, 0] > 0
    _, silent = gcn_norm(data.edge_index, None, NODES, add_self_loops=False)
    assert matrix(data.edge_index, silent)[:, 0].sum() == 0


def test_in_undirected_graphs_they_are_those_of_gcn():
    edge_index = directed_graph().edge_index
    edge_index = torch.cat([edge_index, edge_index.flip(0)], dim=1)
    _, expected = gcn_norm(edge_index, None, NODES, add_self_loops=False)
    torch.testing.assert_close(Edges(edge_index, NODES).balanced, expected)


def test_weight_zero_balances_to_zero():
    edges = Edges(torch.tensor([[0, 1], [1, 2]]), 3, torch.tensor([0.0, 1.0]))
    assert edges.balanced.tolist() == [0.0, 1.0]


@pytest.mark.parametrize('weighted', [False, True])
def test_attention_counts_repeated_edges(weighted):
    data = directed_graph(weighted)
    data.edge_index = torch.cat(
        [data.edge_index, data.edge_index[:, 2:5]], dim=1
    )
    if weighted:
        data.edge_weight = torch.cat([data.edge_weight, data.edge_weight[:3]])
    plan, weight = edges_of(data, 1)[0].planned
    assert plan.num_edges == 9
    torch.testing.assert_close(
        matrix(plan.edge_index, weight),
        matrix(data.edge_index, data.edge_weight),
    )


def test_edges_without_repetition_are_planned_as_they_are():
    data = directed_graph()
    plan, weight = edges_of(data, 1)[0].planned
    assert torch.equal(plan.edge_index, data.edge_index)
    assert weight is None


@pytest.mark.parametrize('weighted', [False, True])
def test_loops_are_added_where_there_are_none(weighted):
    data = directed_graph(weighted)
    (edges,) = edges_of(data, 1)
    plan, weight = edges.planned_with_loops
    expected = matrix(data.edge_index, data.edge_weight)
    loops = expected.diagonal()
    loops[loops == 0] = 1.0
    torch.testing.assert_close(matrix(plan.edge_index, weight), expected)
    if not weighted:
        assert torch.equal(matrix(edges.with_loops), expected)
