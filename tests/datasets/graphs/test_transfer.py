"""Graph transfer against networkx and the papers' own construction."""

import networkx as nx
import pytest
import torch
from torch_geometric.utils import to_networkx

from gnnbridge.datasets.graphs import (
    clique_path_transfer,
    directed_path_transfer,
    lollipop_transfer,
    ring_transfer,
)

UNDIRECTED = {
    'ring': ring_transfer,
    'clique_path': clique_path_transfer,
    'lollipop': lollipop_transfer,
}
KINDS = {**UNDIRECTED, 'directed': directed_path_transfer}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def holders(graph):
    """The nodes that hold a class in one-hot form."""
    binary = ((graph.x == 0) | (graph.x == 1)).all(1)
    return (binary & (graph.x.sum(1) == 1)).nonzero().flatten().tolist()


def undirected(graph):
    found = to_networkx(graph)
    assert all(found.has_edge(b, a) for a, b in found.edges)
    return found.to_undirected()


@pytest.mark.parametrize('kind', KINDS)
def test_one_node_is_asked_for_the_class_of_another(kind):
    for graph in KINDS[kind](20, size=8, num_classes=4, generator=seeded()):
        (asked,) = graph.target_mask.nonzero().flatten().tolist()
        assert (graph.x[asked] == 0).all()
        told = {'ring': 4, 'clique_path': 7, 'lollipop': 0, 'directed': 0}[kind]
        assert told in holders(graph)
        assert graph.x[told].argmax() == graph.y.item()
        if kind != 'directed':
            assert holders(graph) == [told]
            others = [n for n in range(8) if n not in (asked, told)]
            assert (graph.x[others] == 1).all()
        assert graph.x.dtype == torch.float32
        assert graph.y.dtype == torch.int64


@pytest.mark.parametrize('size', [2, 3, 4, 9, 10])
def test_rings_are_cycles_with_the_class_opposite(size):
    (graph,) = ring_transfer(1, size=size, num_classes=2, generator=seeded())
    ring = undirected(graph)
    assert nx.is_isomorphic(ring, nx.cycle_graph(size).to_undirected())
    (told,) = holders(graph)
    assert nx.shortest_path_length(ring, 0, told) == size // 2
    # No node is farther away.
    assert nx.eccentricity(ring, 0) == size // 2


@pytest.mark.parametrize('size', [2, 3, 6, 7, 12])
def test_crossed_rings_are_those_of_the_paper(size):
    expected = set()
    for i in range(size - 1):
        expected.add((i, i + 1))
        if i < size // 2:
            expected.add((i, size - 1 - i))
            if size + 1 - i < size:
                expected.add((i, size + 1 - i))
    expected.add((0, size - 1))
    (graph,) = ring_transfer(
        1, size=size, num_classes=2, crossed=True, generator=seeded()
    )
    found = {tuple(sorted(edge)) for edge in undirected(graph).edges}
    assert found == {tuple(sorted(edge)) for edge in expected}
    assert graph.edge_index.size(1) == 2 * len(found)


@pytest.mark.parametrize('kind', ['clique_path', 'lollipop'])
@pytest.mark.parametrize('size', [4, 7, 10])
def test_a_clique_has_a_path_to_the_other_end(kind, size):
    (graph,) = KINDS[kind](1, size=size, num_classes=3, generator=seeded())
    found = undirected(graph)
    half = size // 2
    assert nx.is_isomorphic(found, nx.lollipop_graph(half, size - half))
    (asked,) = graph.target_mask.nonzero().flatten().tolist()
    (told,) = holders(graph)
    ends = (asked, told) if kind == 'clique_path' else (told, asked)
    assert found.degree[ends[0]] == half - 1
    assert found.degree[ends[1]] == 1
    assert nx.shortest_path_length(found, *ends) == size - half + 1


def test_only_the_first_node_reaches_the_end_of_a_directed_path():
    nearer = 0
    for graph in directed_path_transfer(40, size=6, generator=seeded()):
        found = to_networkx(graph)
        asked = int(graph.target_mask.nonzero())
        before = nx.ancestors(found, asked)
        assert [node for node in holders(graph) if node in before] == [0]
        assert nx.shortest_path_length(found, 0, asked) == 5
        assert nx.is_directed_acyclic_graph(found)
        leaves = [n for n in found if n >= 6]
        assert len(leaves) == 4
        for leaf in leaves:
            (stem,) = found.predecessors(leaf)
            assert stem < 6
            assert found.out_degree(leaf) == 0
            assert leaf in holders(graph)
        apart = nx.single_source_shortest_path_length(
            found.to_undirected(), asked
        )
        nearer += min(apart[leaf] for leaf in leaves) < apart[0]
    assert nearer > 35


def test_a_path_may_be_without_branches():
    graphs = directed_path_transfer(3, size=4, branches=0, generator=seeded())
    for graph in graphs:
        assert graph.edge_index.tolist() == [[0, 1, 2], [1, 2, 3]]


@pytest.mark.parametrize('kind', KINDS)
def test_classes_are_equally_frequent_and_edges_sorted(kind):
    graphs = KINDS[kind](30, size=6, generator=seeded())
    answers = torch.cat([graph.y for graph in graphs])
    assert answers.bincount().tolist() == [6] * 5
    for graph in graphs:
        order = graph.edge_index[1] * 100 + graph.edge_index[0]
        assert (order.diff() > 0).all()


@pytest.mark.parametrize('kind', UNDIRECTED)
def test_a_spread_makes_every_graph_another_and_keeps_the_class(kind):
    draw = UNDIRECTED[kind]
    plain = draw(400, size=6, generator=seeded())
    assert len({tuple(g.x.flatten().tolist()) for g in plain}) == 5
    spread = draw(400, size=6, spread=0.3, generator=seeded())
    assert len({tuple(g.x.flatten().tolist()) for g in spread}) == 400
    (told,) = holders(plain[0])
    asked = int(plain[0].target_mask.nonzero())
    x = torch.stack([graph.x for graph in spread])
    y = torch.cat([graph.y for graph in spread])
    assert torch.equal(x[:, told].argmax(1), y)
    assert (x[:, told].sum(1) == 1).all()
    assert (x[:, asked] == 0).all()
    others = x[:, [n for n in range(6) if n not in (asked, told)]].flatten(1)
    assert (others == others[:, :1]).all()
    # Five standard errors.
    assert abs(others[:, 0].mean() - 1) < 5 * 0.3 / 400**0.5
    assert abs(others[:, 0].std() - 0.3) < 5 * 0.3 / 800**0.5


@pytest.mark.parametrize('kind', KINDS)
def test_the_generator_decides_everything(kind):
    def drawn(seed):
        graphs = KINDS[kind](9, size=6, generator=seeded(seed))
        return [
            (g.x.tolist(), g.edge_index.tolist(), g.y.tolist()) for g in graphs
        ]

    state = torch.get_rng_state()
    assert drawn(0) == drawn(0) != drawn(1)
    assert torch.equal(torch.get_rng_state(), state)


def test_graphs_do_not_share_what_they_hold():
    first, second = ring_transfer(2, size=4, generator=seeded())
    before = second.x.clone()
    first.x.zero_()
    assert torch.equal(second.x, before)


@pytest.mark.parametrize(
    ('draw', 'sizes', 'message'),
    [
        (ring_transfer, {'size': 1}, r"'size' .* 2 \(got 1\)"),
        (ring_transfer, {'size': 4, 'spread': -1.0}, r"'spread' .*got -1"),
        (ring_transfer, {'size': 4, 'spread': float('nan')}, "'spread'"),
        (ring_transfer, {'size': 4, 'num_classes': 1}, "'num_classes' .* 2"),
        (clique_path_transfer, {'size': 3}, r"'size' .* 4 \(got 3\)"),
        (lollipop_transfer, {'size': 3}, r"'size' .* 4 \(got 3\)"),
        (directed_path_transfer, {'size': 1}, r"'size' .* 2 \(got 1\)"),
        (directed_path_transfer, {'size': 3, 'branches': -1}, "'branches'"),
    ],
)
def test_sizes_that_make_no_task_are_refused(draw, sizes, message):
    with pytest.raises(ValueError, match=message):
        draw(3, **sizes, generator=seeded())
    with pytest.raises(ValueError, match="'num_graphs'"):
        draw(0, size=6, generator=seeded())
