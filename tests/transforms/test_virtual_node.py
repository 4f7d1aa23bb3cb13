from typing import Any

import pytest
import torch
from attributed import attributed, causal_data, undirected_data
from hypothesis import given, settings
from networks import NETWORKS, edges_of
from torch_geometric.data import Batch, Data
from torch_geometric.transforms import VirtualNode as Other

from gnnbridge.transforms.virtual_node import VirtualNode

PROPERTY = settings(deadline=None, max_examples=25, derandomize=True)


@PROPERTY
@given(undirected_data())
def test_the_same_as_in_pyg(data: Data) -> None:
    before = data.clone()
    del data.position  # Zero in PyG.
    data.train_mask = torch.ones(data.num_nodes, dtype=torch.bool)
    out = VirtualNode()(data)
    expected = Other()(data.clone())
    assert out.num_nodes == expected.num_nodes
    for name, value in expected:
        if torch.is_tensor(value):
            assert torch.equal(out[name], value), name
    assert torch.equal(data.edge_index, before.edge_index)


def test_the_same_as_in_pyg_without_attributes() -> None:
    data = Data(edge_index=edges_of(NETWORKS['petersen']), num_nodes=10)
    out, expected = VirtualNode()(data), Other()(data.clone())
    assert torch.equal(out.edge_index, expected.edge_index)
    assert torch.equal(out.edge_type, expected.edge_type)
    assert out.virtual_node_mask.nonzero().flatten().tolist() == [10]


def test_at_the_end_of_a_causal_graph_it_reads() -> None:
    data = attributed(torch.tensor([[0, 1], [1, 2]]), 3)
    out = VirtualNode()(data)
    assert out.edge_index[:, 2:].tolist() == [[0, 1, 2], [3, 3, 3]]
    assert out.edge_type.tolist() == [0, 1, 2, 2, 2]
    assert out.edge_weight[2:].tolist() == [1, 1, 1]
    assert out.position.tolist() == [0, 1, 2, 3]


def test_at_the_start_of_a_causal_graph_it_is_read() -> None:
    data = attributed(torch.tensor([[0, 1], [1, 2]]), 3)
    out = VirtualNode(at='start')(data)
    assert out.edge_index.tolist() == [[1, 2, 0, 0, 0], [2, 3, 1, 2, 3]]
    assert torch.equal(out.edge_attr[:2], data.edge_attr)
    assert torch.equal(out.x[1:], data.x)
    assert not out.x[0].any()
    assert out.position.tolist() == [0, 1, 2, 3]
    assert out.virtual_node_mask.tolist() == [True, False, False, False]
    # Into it would be max + 1.
    assert out.edge_type.tolist() == [0, 1, 3, 3, 3]


@PROPERTY
@given(causal_data())
def test_causal_graphs_stay_causal(data: Data) -> None:
    for at in ('end', 'start'):
        for count in (1, 2):
            out = VirtualNode(at=at, num_virtual=count)(data)  # type: ignore[arg-type]
            assert (out.edge_index[0] <= out.edge_index[1]).all()
            assert out.num_edges == data.num_edges + count * data.num_nodes
            old = ~out.virtual_node_mask
            assert torch.equal(out.x[old], data.x)


def test_several_in_an_undirected_graph() -> None:
    edges = edges_of(NETWORKS['cycle-3'])
    for at, new in (('end', [3, 4]), ('start', [0, 1])):
        out = VirtualNode(num_virtual=2, at=at)(  # type: ignore[arg-type]
            Data(edge_index=edges, num_nodes=3)
        )
        nodes = set(range(5)) - set(new)
        into = out.edge_index[:, out.edge_type == 1]
        assert {tuple(e) for e in into.T.tolist()} == {
            (i, v) for i in nodes for v in new
        }
        back = out.edge_index[:, out.edge_type == 2]
        assert torch.equal(back, into.flip(0))


def test_nodes_without_edges() -> None:
    none = torch.empty(2, 0, dtype=torch.long)
    out = VirtualNode(causal=False)(Data(edge_index=none, num_nodes=2))
    assert out.edge_index.tolist() == [[0, 1, 2, 2], [2, 2, 0, 1]]
    assert VirtualNode()(Data(edge_index=none, num_nodes=1)).num_nodes == 2


def test_batches() -> None:
    data = [
        attributed(edges_of(NETWORKS[name]), len(NETWORKS[name]))
        for name in ('path', 'petersen')
    ]
    batch = VirtualNode()(Batch.from_data_list(data))
    assert batch.num_nodes == 19
    for graph, one in zip(data, batch.to_data_list(), strict=True):
        assert torch.equal(one.edge_index, VirtualNode()(graph).edge_index)


@pytest.mark.parametrize(
    ('options', 'match'),
    [({'at': 'middle'}, "'at'"), ({'num_virtual': 0}, "'num_virtual'")],
)
def test_arguments(options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        VirtualNode(**options)
