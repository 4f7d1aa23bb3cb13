from itertools import chain, islice

import pytest
import torch
from torch_geometric.data import Data

from gnnbridge.bench.batching import collate, order_of_batches
from gnnbridge.bench.task import Splits


def graphs(sizes, first=0):
    return [
        Data(
            x=torch.full((size, 1), float(number)),
            edge_index=torch.tensor([[0], [size - 1]]),
            y=torch.tensor([number]),
        )
        for number, size in enumerate(sizes, first)
    ]


def numbers(batches):
    return [batch.y.tolist() for batch in batches]


def test_a_small_split_is_one_batch():
    splits = Splits(graphs([3, 4, 5]), graphs([2]), graphs([6, 6]))
    batches = collate(splits, nodes=12, seed=0)
    assert [len(part) for part in batches] == [1, 1, 1]
    train = batches.train[0]
    assert train.num_nodes == 12
    assert sorted(train.y.tolist()) == [0, 1, 2]
    # Nodes and edges stay those of their graph.
    for place, number in enumerate(train.y.tolist()):
        assert (train.x[train.batch == place] == number).all()
    assert (train.batch[train.edge_index[0]]
            == train.batch[train.edge_index[1]]).all()  # fmt: skip


def test_a_large_split_is_cut_between_graphs():
    sizes = [3, 4, 5, 40, 1, 1]
    splits = Splits(graphs(sizes), graphs([3, 4, *sizes]), graphs([16] * 3))
    batches = collate(splits, nodes=8, seed=0)
    # In order; the graph that is too large stands alone. Up to 32 nodes.
    assert numbers(batches.val) == [[0, 1, 2, 3, 4], [5], [6, 7]]
    assert numbers(batches.test) == [[0, 1], [2]]
    for batch in batches.train:
        assert batch.num_nodes <= 8 or batch.num_graphs == 1
    assert sorted(chain(*numbers(batches.train))) == list(range(6))


def test_only_the_order_of_training_depends_on_the_seed():
    splits = Splits(graphs([1] * 30), graphs([1] * 30), graphs([1] * 30))
    a, b, again = (collate(splits, nodes=4, seed=s) for s in (0, 1, 0))
    assert numbers(a.train) == numbers(again.train) != numbers(b.train)
    assert numbers(a.val) == numbers(b.val)
    assert numbers(a.test) == numbers(b.test)


def test_collate_leaves_graphs_alone():
    splits = Splits(graphs([3, 4]), graphs([2]), graphs([2]))
    before = [g.clone() for g in splits.train]
    collate(splits, nodes=10, seed=3)
    for graph, old in zip(splits.train, before, strict=True):
        assert graph.keys() == old.keys()
        assert all(torch.equal(graph[k], old[k]) for k, _ in old)


def test_an_empty_split_is_refused():
    with pytest.raises(ValueError, match="'val' to hold a graph"):
        collate(Splits(graphs([1]), [], graphs([1])), nodes=4, seed=0)


def test_every_round_has_each_batch_once():
    order = list(islice(order_of_batches(5, seed=2), 15))
    rounds = [order[:5], order[5:10], order[10:]]
    assert all(sorted(one) == list(range(5)) for one in rounds)
    assert rounds[0] != rounds[1] or rounds[1] != rounds[2]
    assert order == list(islice(order_of_batches(5, seed=2), 15))
