from typing import Any

import networkx as nx
import pytest
import torch
from attributed import (
    attributed,
    causal_data,
    check_aligned,
    edge_set,
    undirected_data,
)
from hypothesis import given, settings
from networks import NETWORKS, edges_of
from torch_geometric.data import Batch, Data

from gnnbridge.transforms.cayley import cayley_graph
from gnnbridge.transforms.expander import Expander

PROPERTY = settings(deadline=None, max_examples=25, derandomize=True)
KINDS = ('cayley', 'random_regular')


def karate() -> Data:
    return attributed(edges_of(NETWORKS['karate']), 34)


def test_edges_are_those_of_the_first_elements() -> None:
    data = karate()
    whole = cayley_graph(4)
    wanted = edge_set(whole[:, (whole < 34).all(dim=0)])
    out = Expander()(data)
    check_aligned(data, out)
    assert edge_set(out.edge_index) == edge_set(data.edge_index) | wanted
    depth = Expander(order='depth')(data)
    assert edge_set(depth.edge_index) != edge_set(out.edge_index)


def test_virtual_nodes_make_it_whole() -> None:
    data = karate()
    out = Expander(virtual=True)(data)
    assert out.num_nodes == 48
    assert edge_set(cayley_graph(4)) <= edge_set(out.edge_index)
    assert out.virtual_node_mask.tolist() == [False] * 34 + [True] * 14
    assert not out.x[34:].any()
    assert torch.equal(out.x[:34], data.x)
    assert out.position.tolist() == list(range(48))
    assert data.num_nodes == 34
    # The mask is there even if no node is added, as a dataset needs it.
    full = Data(edge_index=edges_of(nx.cycle_graph(24)), x=torch.ones(24, 1))
    assert not Expander(virtual=True)(full).virtual_node_mask.any()


@pytest.mark.parametrize('kind', KINDS)
def test_replaced_edges(kind: Any) -> None:
    data = karate()
    loop = torch.tensor([[3], [3]])
    data = attributed(torch.cat([data.edge_index, loop], dim=1), 34)
    out = Expander(kind, keep=False)(data)
    check_aligned(data, out)
    wanted = Expander(kind, causal=False).plan(loop[:, :0], num_nodes=34)
    assert edge_set(out.edge_index) == edge_set(wanted.added) | {(3, 3)}


@pytest.mark.parametrize('degree', [3, 4, 6])
def test_random_regular(degree: int) -> None:
    none = torch.empty(2, 0, dtype=torch.long)
    data = Data(edge_index=none, num_nodes=30)
    transform = Expander('random_regular', degree=degree, causal=False)
    out = transform(data)
    assert torch.equal(out.edge_index[0].bincount(), torch.full((30,), degree))
    assert torch.equal(transform(data).edge_index, out.edge_index)
    other = Expander('random_regular', degree=degree, seed=1, causal=False)
    assert not torch.equal(other(data).edge_index, out.edge_index)
    # A generator moves on from graph to graph.
    generator = torch.Generator().manual_seed(0)
    moving = Expander('random_regular', seed=generator, causal=False)
    assert not torch.equal(moving(data).edge_index, moving(data).edge_index)


def test_too_small_for_the_degree() -> None:
    for size in (1, 2, 3, 5):
        data = Data(edge_index=torch.zeros(2, 1).long(), num_nodes=size)
        out = Expander('random_regular', degree=5, causal=False)(data)
        assert out.edge_index.size(1) - 1 == size * (size - 1)


@PROPERTY
@given(causal_data())
def test_causal_graphs(data: Data) -> None:
    before = data.clone()
    for kind in KINDS:
        out = Expander(kind)(data)  # type: ignore[arg-type]
        added = out.edge_index[:, data.num_edges :]
        assert (added[0] < added[1]).all()
        assert len(edge_set(out.edge_index)) == out.edge_index.size(1)
        check_aligned(data, out)
    assert torch.equal(data.edge_index, before.edge_index)


@PROPERTY
@given(undirected_data())
def test_undirected_graphs_stay_undirected(data: Data) -> None:
    for kind in KINDS:
        out = Expander(kind, causal=False)(data)  # type: ignore[arg-type]
        check_aligned(data, out)
        edges = edge_set(out.edge_index)
        assert edges == {(v, u) for u, v in edges}


def test_a_directed_edge_gets_its_reverse_where_wanted() -> None:
    # The expander on two nodes is their edge.
    one = Expander(causal=False).plan(torch.tensor([[0], [1]]))
    assert one.added.tolist() == [[1], [0]]
    assert Expander().plan(torch.tensor([[0], [1]])).added.numel() == 0


def test_batches() -> None:
    data = [
        Data(edge_index=edges_of(NETWORKS[name]), x=torch.ones(n, 1))
        for name, n in (('path', 7), ('petersen', 10))
    ]
    batch = Expander(virtual=True)(Batch.from_data_list(data))
    assert batch.num_nodes == 48
    assert batch.virtual_node_mask.sum() == 48 - 17


def test_virtual_nodes_would_be_useless_in_a_causal_graph() -> None:
    with pytest.raises(ValueError, match='could give nothing back'):
        Expander(virtual=True).plan(torch.tensor([[0], [1]]))


def test_odd_ends() -> None:
    transform = Expander('random_regular', degree=3)
    with pytest.raises(ValueError, match='Use degree=4'):
        transform.plan(torch.tensor([[0], [1]]), num_nodes=5)


@pytest.mark.parametrize(
    ('options', 'match'),
    [
        ({'kind': 'ramanujan'}, "'kind'"),
        ({'order': 'random'}, "'order'"),
        ({'degree': 3}, 'degree=4'),
        ({'kind': 'random_regular', 'degree': 2}, 'at least 3'),
        ({'kind': 'random_regular', 'virtual': True}, "kind='cayley'"),
    ],
)
def test_arguments(options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Expander(**options)
