"""Nodes get other numbers, and nothing else changes."""

import networkx as nx
import torch
from torch_geometric.utils import to_networkx

from gnnbridge.datasets.graphs import ring_transfer
from gnnbridge.datasets.graphs.numbering import renumbered


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(count=6):
    return ring_transfer(count, size=9, spread=0.5, generator=seeded())


def test_graphs_are_the_same_but_for_the_order():
    graphs = drawn()
    for old, new in zip(
        graphs, renumbered(graphs, generator=seeded(1)), strict=True
    ):
        assert list(new.keys()) == list(old.keys())
        old, new = (
            to_networkx(one, node_attrs=['x', 'target_mask'])
            for one in (old, new)
        )
        assert nx.is_isomorphic(old, new, node_match=lambda a, b: a == b)


def test_answers_follow_the_nodes_that_are_asked():
    graphs = drawn()
    for one in graphs:
        # As if all of the odd nodes were asked for what they hold.
        one.target_mask = torch.arange(9) % 2 == 1
        one.y = one.x[one.target_mask]
    for one in renumbered(graphs, generator=seeded(1)):
        assert torch.equal(one.y, one.x[one.target_mask])


def test_answers_of_graphs_stay():
    (one,) = drawn(1)
    del one.target_mask
    one.y = torch.arange(9.0)  # no attribute of its nine nodes
    (two,) = renumbered([one], generator=seeded(1))
    assert torch.equal(two.y, one.y)


def test_numbers_are_drawn_for_each_graph():
    asked = [
        int(one.target_mask.nonzero())
        for one in renumbered(drawn(40), generator=seeded())
    ]
    assert len(set(asked)) > 5
    again = renumbered(drawn(40), generator=seeded())
    assert [int(one.target_mask.nonzero()) for one in again] == asked


def test_edges_are_sorted_and_inputs_stay():
    graphs = drawn()
    before = [one.edge_index.clone() for one in graphs]
    for one in renumbered(graphs, generator=seeded()):
        source, target = one.edge_index
        key = target * 9 + source
        assert (key[1:] > key[:-1]).all()
    for one, edges in zip(graphs, before, strict=True):
        assert torch.equal(one.edge_index, edges)


def test_no_graphs():
    assert renumbered([], generator=seeded()) == []
