from collections import Counter

import networkx as nx
import numpy as np
import pytest

from gnnbridge.transforms.random_regular import random_regular_pairs


@pytest.mark.parametrize(
    ('nodes', 'degree'),
    [
        (4, 3),
        (5, 4),
        (6, 3),
        (7, 4),
        (8, 7),
        (40, 38),
        (33, 30),
        (31, 14),
        (51, 6),
        (200, 3),
    ],
)
@pytest.mark.parametrize('seed', range(5))
def test_simple_regular_and_connected(
    nodes: int, degree: int, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    pairs = random_regular_pairs(nodes, degree, generator)
    assert (pairs[0] < pairs[1]).all()
    graph = nx.Graph(pairs.T.tolist())
    assert graph.number_of_edges() == pairs.shape[1] == nodes * degree // 2
    assert set(dict(graph.degree).values()) == {degree}
    assert nx.is_connected(graph)


def test_all_graphs_come_up() -> None:
    # The 3-regular graphs on 6 labelled nodes, 60 prisms and 10 K_33, are the
    # complements of the 2-regular ones; those of 4 on 6 of the 15 matchings.
    generator = np.random.default_rng(0)
    for degree, number in ((3, 70), (4, 15)):
        drawn = Counter(
            random_regular_pairs(6, degree, generator).tobytes()
            for _ in range(10 * number)
        )
        assert len(drawn) == number
        # 10 times each on average; small graphs are not all as likely.
        assert max(drawn.values()) < 50


def test_parts_are_thrown_away(monkeypatch: pytest.MonkeyPatch) -> None:
    two = nx.disjoint_union(nx.complete_graph(4), nx.complete_graph(4))
    cube = nx.convert_node_labels_to_integers(nx.cubical_graph())
    attempts = [
        np.array([8 * min(edge) + max(edge) for edge in graph.edges])
        for graph in (two, cube)
    ]
    monkeypatch.setattr(
        'gnnbridge.transforms.random_regular._regular',
        lambda *args: attempts.pop(0),
    )
    pairs = random_regular_pairs(8, 3, np.random.default_rng(0))
    assert nx.is_connected(nx.Graph(pairs.T.tolist()))
    assert attempts == []
