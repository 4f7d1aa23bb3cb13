"""Tree-NeighborsMatch, read back by a lookup in plain Python."""

import math

import networkx as nx
import pytest
import torch
from torch_geometric.utils import to_networkx

from gnnbridge.datasets.graphs import tree_neighbors_match


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize('depth', [1, 2, 3, 4])
def test_trees_are_binary_and_lead_to_the_root(depth):
    (graph,) = tree_neighbors_match(1, depth=depth, generator=seeded())
    found = to_networkx(graph)
    tree = nx.balanced_tree(2, depth, create_using=nx.DiGraph).reverse()
    assert nx.is_isomorphic(found, tree)
    assert [node for node in found if found.out_degree(node) == 0] == [0]
    assert graph.target_mask.nonzero().flatten().tolist() == [0]
    leaves = [node for node in found if found.in_degree(node) == 0]
    for leaf in leaves:
        assert nx.shortest_path_length(found, leaf, 0) == depth
    both = tree_neighbors_match(
        1, depth=depth, directed=False, generator=seeded()
    )
    around = to_networkx(both[0])
    assert around.number_of_edges() == 2 * found.number_of_edges()
    assert nx.is_isomorphic(around.to_undirected(), found.to_undirected())


@pytest.mark.parametrize('depth', [1, 3])
def test_the_answer_is_the_value_of_the_leaf_with_the_roots_key(depth):
    graphs = tree_neighbors_match(200, depth=depth, generator=seeded())
    leaves = 2**depth
    asked = []
    for graph in graphs:
        assert graph.x.dtype == torch.int64
        root, *rest = graph.x.tolist()
        assert root[1] == 0
        held = [pair for pair in rest if pair != [0, 0]]
        assert [key for key, _ in held] == list(range(1, leaves + 1))
        assert sorted(value for _, value in held) == list(range(1, leaves + 1))
        assert graph.y.tolist() == [dict(held)[root[0]] - 1]
        asked.append(root[0])
    # All keys are asked for, and all values are answers.
    assert set(asked) == set(range(1, leaves + 1))
    assert {g.y.item() for g in graphs} == set(range(leaves))


def test_there_are_as_many_graphs_as_the_docstring_says():
    graphs = tree_neighbors_match(1500, depth=2, generator=seeded())
    found = {tuple(graph.x.flatten().tolist()) for graph in graphs}
    assert len(found) == math.factorial(4) * 4 == 96


def test_the_generator_decides_everything():
    def drawn(seed):
        graphs = tree_neighbors_match(9, depth=3, generator=seeded(seed))
        return [graph.x.tolist() for graph in graphs]

    assert drawn(0) == drawn(0) != drawn(1)


@pytest.mark.parametrize('sizes', [(0, 2), (3, 0)])
def test_sizes_that_make_no_task_are_refused(sizes):
    with pytest.raises(ValueError, match='at least 1'):
        tree_neighbors_match(sizes[0], depth=sizes[1], generator=seeded())
