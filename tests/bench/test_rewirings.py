import networkx as nx
import pytest
import torch
from torch_geometric.data import Data
from torch_geometric.utils import from_networkx, is_undirected

from gnnbridge.bench.rewirings import (
    MOST_NODES_COMPLETE,
    REWIRINGS,
    rewired,
    strengths,
)
from gnnbridge.bench.task import Splits
from gnnbridge.graph.causal import causal_graph, sliding_window_graph


def graph(nodes=15, seed=0):
    edges = from_networkx(
        nx.connected_watts_strogatz_graph(nodes, 4, 0.2, seed=seed)
    )
    data = Data(edge_index=edges.edge_index, num_nodes=nodes)
    data.x = torch.randn(
        nodes, 3, generator=torch.Generator().manual_seed(seed)
    )
    data.target_mask = torch.arange(nodes) % 4 == 0
    data.y = torch.zeros(int(data.target_mask.sum()), dtype=torch.long)
    return data


def window(nodes=15):
    data = sliding_window_graph(nodes, 3)
    data.x = torch.arange(nodes).view(-1, 1)
    return data


def three(*graphs):
    return Splits(list(graphs), [graph(12, 7)], [graph(13, 8)])


def edges(data):
    return set(map(tuple, data.edge_index.T.tolist()))


@pytest.mark.parametrize('name', REWIRINGS)
@pytest.mark.parametrize('make', [graph, window])
def test_every_rewiring_on_every_kind_of_graph(name, make):
    before = [make(15), make(11)]
    kept = [data.clone() for data in before]
    for strength in strengths(name):
        parts, relations = rewired(name, three(*before), strength)
        assert relations == REWIRINGS[name].relations
        for old, new in zip(before, parts.train, strict=True):
            virtual = new.get('virtual_node_mask')
            extra = 0 if virtual is None else int(virtual.sum())
            assert new.num_nodes == old.num_nodes + extra
            if relations > 1:
                assert new.edge_type.shape == (new.edge_index.size(1),)
                assert int(new.edge_type.min()) >= 0
                assert int(new.edge_type.max()) < relations
            else:
                assert 'edge_type' not in new
            if make is window:
                assert (new.edge_index[0] <= new.edge_index[1]).all()
            elif name != 'diffusion':
                assert is_undirected(new.edge_index)
    for old, copy in zip(before, kept, strict=True):
        assert torch.equal(old.edge_index, copy.edge_index)
        assert set(old.keys()) == set(copy.keys())


def test_complete_is_every_pair():
    (new, causal), _ = (
        rewired('complete', three(graph(9), window(9)), 1)[0][0],
        0,
    )
    assert edges(new) == {(i, j) for i in range(9) for j in range(9) if i != j}
    assert len(edges(new)) == new.edge_index.size(1)
    own = edges(graph(9))
    for edge, kind in zip(
        new.edge_index.T.tolist(), new.edge_type.tolist(), strict=True
    ):
        assert (tuple(edge) in own) == (kind == 0)
    assert edges(causal) - {(i, i) for i in range(9)} == {
        (i, j) for i in range(9) for j in range(9) if i < j
    }


def test_complete_of_a_complete_graph_adds_nothing():
    data = causal_graph(6)
    parts, _ = rewired('complete', three(data), 1)
    assert edges(parts.train[0]) == edges(data)
    assert (parts.train[0].edge_type == 0).all()


def test_complete_extends_the_attributes_of_edges():
    data = graph(8)
    count = data.edge_index.size(1)
    data.edge_attr = torch.ones(count, 2)
    data.edge_weight = torch.full((count,), 3.0)
    new = rewired('complete', three(data), 1)[0].train[0]
    assert new.edge_attr.shape == (56, 2)
    assert (new.edge_attr[count:] == 0).all()
    assert (new.edge_weight[count:] == 1).all()


def test_complete_refuses_a_graph_that_is_too_large():
    size = MOST_NODES_COMPLETE + 1
    data = Data(edge_index=torch.tensor([[0, 1], [1, 0]]), num_nodes=size)
    with pytest.raises(ValueError, match='at most 4096'):
        rewired('complete', Splits([data], [], []), 1)


def test_random_edges_with_and_without_a_relation_are_the_same():
    data = graph(20, 3)
    for seed in (0, 1):
        new, apart = (
            rewired(name, three(data), 0.5, seed)[0].train[0]
            for name in ('random', 'random_relation')
        )
        assert torch.equal(new.edge_index, apart.edge_index)
        assert 'edge_type' not in new
        own = edges(data)
        for edge, kind in zip(
            apart.edge_index.T.tolist(), apart.edge_type.tolist(), strict=True
        ):
            assert (tuple(edge) in own) == (kind == 0)


@pytest.mark.parametrize(
    'name',
    ['random', 'random_relation', 'fosr', 'gtr', 'sdrf', 'borf', 'afrc'],
)
def test_strength_is_the_number_of_added_edges(name):
    data = graph(20, 3)
    for share in strengths(name):
        new = rewired(name, three(data), share)[0].train[0]
        added = len(edges(new) - edges(data)) // 2
        assert added == round(20 * share)


def test_resistance_keeps_the_number_of_edges():
    data = graph(20, 3)
    new = rewired('resistance', three(data), 0.25)[0].train[0]
    assert len(edges(new)) == len(edges(data))
    assert len(edges(new) - edges(data)) == 10


def test_random_edges_differ_between_graphs():
    first, second = graph(20), graph(20)
    new = rewired('random', three(first, second), 0.5)[0].train
    assert edges(new[0]) != edges(new[1])


@pytest.mark.parametrize('name', ['random', 'fosr'])
def test_trials_draw_other_edges(name):
    # Opposite nodes of a ring are as far apart as any others.
    ring = from_networkx(nx.cycle_graph(16))
    drawn = [
        rewired(name, three(ring), 0.1, seed)[0].train for seed in range(9)
    ]
    assert len({frozenset(edges(part[0])) for part in drawn}) > 3
    again = rewired(name, three(ring), 0.1, 8)[0].train
    assert edges(again[0]) == edges(drawn[-1][0])


def test_parts_on_one_graph_get_the_same_edges():
    data = graph(20)
    parts = []
    for k in range(3):
        part = Data(**data.to_dict())
        part.target_mask = torch.arange(20) % 3 == k
        parts.append([part])
    new = rewired('random', Splits(*parts), 0.5)[0]
    assert edges(new.train[0]) == edges(new.val[0]) == edges(new.test[0])
    assert (new.val[0].target_mask == parts[1][0].target_mask).all()


def test_nothing_is_done_without_rewiring():
    given = three(graph())
    parts, relations = rewired('none', given, 0)
    assert parts is given
    assert relations == 1


def test_new_nodes_are_not_asked():
    data = graph(9)
    data.target_mask = torch.ones(9, dtype=torch.bool)
    data.y = torch.arange(9)
    new = rewired('virtual_node', three(data), 1)[0].train[0]
    assert new.num_nodes == 10
    assert torch.equal(new.y, data.y)
    assert int(new.target_mask.sum()) == 9


def test_unknown_names():
    with pytest.raises(ValueError, match='fosr, gtr'):
        rewired('fossr', three(graph()), 0.5)
    with pytest.raises(ValueError, match='none, random'):
        strengths('x')
