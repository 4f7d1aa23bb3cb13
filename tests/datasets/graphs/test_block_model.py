"""Block models: what is drawn has the shares that were asked for."""

import math

import networkx as nx
import pytest
import torch
from torch_geometric.utils import homophily, to_networkx

from gnnbridge.datasets.graphs import contextual_blocks, labelled_blocks
from gnnbridge.datasets.graphs.block_model import FEATURES


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def clusters(count, **changes):
    sizes = {
        'num_blocks': 3, 'block_sizes': (4, 9), 'inside': 0.6, 'across': 0.1,
    }  # fmt: skip
    return labelled_blocks(count, **{**sizes, **changes}, generator=seeded())


def blocks_of(graph):
    """The block of every node, from the answers and the labels."""
    block = graph.x[:, 0] - 1
    block[graph.target_mask] = graph.y
    return block


def test_one_node_of_each_block_tells_it_and_the_others_are_asked():
    sizes = set()
    for graph in clusters(60):
        told = graph.x[:, 0]
        assert sorted(told[told > 0].tolist()) == [1, 2, 3]
        assert torch.equal(graph.target_mask, told == 0)
        counts = blocks_of(graph).bincount().tolist()
        assert len(counts) == 3
        sizes |= set(counts)
    assert sizes == set(range(4, 10))


def test_labelled_nodes_and_blocks_stand_anywhere():
    # With blocks of equal size every place is as likely for the label.
    graphs = clusters(600, block_sizes=(5, 5))
    told = torch.stack([graph.x[:, 0] > 0 for graph in graphs]).sum(0)
    assert ((told - 120).abs() < 5 * math.sqrt(600 * 0.2 * 0.8)).all()


def test_certain_edges_make_blocks_the_components():
    for graph in clusters(10, inside=1.0, across=0.0):
        found = to_networkx(graph).to_undirected()
        block = blocks_of(graph)
        parts = list(nx.connected_components(found))
        assert len(parts) == 3
        for part in parts:
            assert len({int(block[node]) for node in part}) == 1
            clique = len(part) * (len(part) - 1) // 2
            assert found.subgraph(part).number_of_edges() == clique


def test_edges_are_as_probable_as_asked_for():
    pairs, edges = torch.zeros(2), torch.zeros(2)
    for graph in clusters(150):
        block = blocks_of(graph)
        same = block.unsqueeze(0) == block.unsqueeze(1)
        upper = torch.ones_like(same).triu(1)
        row, column = graph.edge_index
        assert (row != column).all()
        for kind, mask in enumerate((same, ~same)):
            pairs[kind] += (mask & upper).sum()
            edges[kind] += mask[row, column].sum() / 2
    for count, total, share in zip(edges, pairs, (0.6, 0.1), strict=True):
        spread = math.sqrt(total * share * (1 - share))
        assert abs(count - total * share) < 5 * spread


@pytest.mark.parametrize('share', [0.1, 0.5, 0.9])
def test_neighbours_are_of_the_own_block_as_often_as_asked_for(share):
    graphs = contextual_blocks(
        200, size=20, degree=5, homophily=share, signal=1.0, generator=seeded()
    )
    found = torch.tensor([homophily(g.edge_index, g.y) for g in graphs])
    degree = torch.tensor([g.edge_index.size(1) / 20 for g in graphs])
    # About 50 edges in each graph.
    assert abs(found.mean() - share) < 5 * math.sqrt(0.25 / 50 / 200)
    assert abs(degree.mean() - 5) < 5 * math.sqrt(2 * 5 / 20 / 200)
    for graph in graphs:
        assert graph.y.bincount().tolist() == [10, 10]
        assert graph.target_mask.all()
        assert graph.is_undirected()


def test_a_node_alone_is_told_right_as_often_as_the_docstring_says():
    graphs = contextual_blocks(
        100, size=40, degree=4, homophily=0.5, signal=0.7, generator=seeded()
    )
    x = torch.cat([graph.x for graph in graphs])
    y = torch.cat([graph.y for graph in graphs])
    assert x.shape == (4000, FEATURES)
    # The sign of the projection on the direction is the best guess.
    right = ((x.sum(1) > 0) == (y == 1)).double().mean()
    expected = (1 + math.erf(0.7 / math.sqrt(2))) / 2
    assert abs(right - expected) < 5 * math.sqrt(0.25 / 4000)
    mean = (x * (2 * y - 1).unsqueeze(1)).mean(0)
    assert torch.allclose(
        mean, torch.full((FEATURES,), 0.7 / FEATURES**0.5), atol=5 / 4000**0.5
    )


def test_edges_are_sorted_by_target_and_both_ways():
    graphs = clusters(5) + contextual_blocks(
        5, size=12, degree=4, homophily=0.5, signal=1.0, generator=seeded()
    )
    for graph in graphs:
        order = graph.edge_index[1] * 100 + graph.edge_index[0]
        assert (order.diff() > 0).all()
        assert graph.is_undirected()


def test_the_generator_decides_everything():
    def drawn(seed):
        graphs = contextual_blocks(
            3, size=8, degree=3, homophily=0.5, signal=1.0,
            generator=seeded(seed),
        )  # fmt: skip
        return [(g.x.tolist(), g.edge_index.tolist()) for g in graphs]

    assert drawn(0) == drawn(0) != drawn(1)
    assert [g.x.tolist() for g in clusters(3)] == [
        g.x.tolist() for g in clusters(3)
    ]


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'num_blocks': 1}, "'num_blocks' .* 2"),
        ({'block_sizes': (1, 4)}, "'block_sizes' .* 2 .got 1"),
        ({'block_sizes': (5, 4)}, "'block_sizes' .* 5 .got 4"),
        ({'inside': 1.2}, "'inside' .*1.2"),
        ({'across': -0.1}, "'across' .*-0.1"),
    ],
)
def test_blocks_that_make_no_task_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        clusters(2, **changes)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'size': 7}, "'size' .* even .got 7"),
        ({'size': 2}, "'size' .* 4"),
        ({'homophily': 1.1}, "'homophily' .*1.1"),
        ({'homophily': 1.0, 'degree': 5}, "'degree' .*got 5"),
        ({'degree': -1}, "'degree' .*got -1"),
    ],
)
def test_contexts_that_make_no_task_are_refused(changes, message):
    sizes = {'size': 8, 'degree': 3, 'homophily': 0.5, 'signal': 1.0}
    with pytest.raises(ValueError, match=message):
        contextual_blocks(2, **{**sizes, **changes}, generator=seeded())
