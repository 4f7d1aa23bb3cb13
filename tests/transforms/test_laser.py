from typing import Any

import networkx as nx
import pytest
import torch
from attributed import causal_data, check_aligned, edge_set
from hypothesis import given, settings
from networks import DIGRAPHS, NETWORKS, edges_of
from torch_geometric.data import Data

from gnnbridge.transforms.laser import LASER
from gnnbridge.transforms.shells import Shells

PROPERTY = settings(deadline=None, max_examples=25, derandomize=True)
GRAPHS = {**NETWORKS, **DIGRAPHS}


def by_definition(graph: Any, options: dict[str, Any]) -> set[tuple[int, ...]]:
    """Orbit by orbit, in integers of any size."""
    n = len(graph)
    A = [
        [int(graph.has_edge(i, j) or i == j) for j in range(n)]
        for i in range(n)
    ]
    M = [[int(i == j) for j in range(n)] for i in range(n)]
    for _ in range(options.get('power', 8)):
        M = [
            [sum(row[k] * A[k][j] for k in range(n)) for j in range(n)]
            for row in M
        ]
    distance = dict(nx.all_pairs_shortest_path_length(graph))
    found = set()
    for i in range(n):
        for r in range(2, options['radius'] + 1):
            orbit = [j for j in range(n) if distance[j].get(i) == r]
            if options.get('orbits') == 'earlier':
                orbit = [j for j in orbit if j < i]
            count = max(
                options.get('minimum', 1),
                round(options['density'] * len(orbit)),
            )
            for j in sorted(orbit, key=lambda j: (M[j][i], j))[:count]:
                found.add((r - 1, j, i))
                if not graph.is_directed():
                    found.add((r - 1, i, j))
    return found


@pytest.mark.parametrize('name', GRAPHS)
@pytest.mark.parametrize(
    'options',
    [
        {'radius': 2, 'density': 0.1},
        {'radius': 3, 'density': 0.5},
        {'radius': 3, 'density': 0.25, 'orbits': 'earlier'},
        {'radius': 4, 'density': 0.3, 'minimum': 0, 'power': 3},
    ],
)
def test_picks_are_those_of_the_definition(
    name: str, options: dict[str, Any]
) -> None:
    graph = GRAPHS[name]
    edges = edges_of(graph)
    out = LASER(**options)(Data(edge_index=edges, num_nodes=len(graph)))
    count = edges.size(1)
    table = torch.cat([out.edge_type[None], out.edge_index])[:, count:]
    picked = set(map(tuple, table.T.tolist()))
    assert len(picked) == table.size(1)
    assert picked == by_definition(graph, options)
    assert not out.edge_type[:count].any()


def test_path_by_hand() -> None:
    # 0 - 1 - 2 - 3 - 4: in its orbit of distance 2 node 2 has 0 and 4 with
    # equally many walks, and takes the smaller; the others have one each.
    changes = LASER(2, 0.5).plan(edges_of(nx.path_graph(5)))
    assert changes.added.T.tolist() == [
        [0, 2], [2, 0], [1, 3], [3, 1], [2, 4], [4, 2],
    ]  # fmt: skip
    earlier = LASER(2, 0.5, orbits='earlier').plan(edges_of(nx.path_graph(5)))
    assert torch.equal(changes.added, earlier.added)
    # A star: the leaves are equal, and all take the smallest other leaf.
    star = LASER().plan(edges_of(nx.star_graph(4)))
    assert edge_set(star.added) == {
        *((1, leaf) for leaf in (2, 3, 4)),
        *((leaf, 1) for leaf in (2, 3, 4)),
    }


@pytest.mark.parametrize('name', ['karate', 'gnp-15', 'sparse-causal'])
def test_whole_orbits_are_shells(name: str) -> None:
    edges = edges_of(GRAPHS[name])
    for orbits in ('full', 'earlier'):
        if orbits == 'earlier' and name == 'gnp-15':
            continue
        some = LASER(3, 1.0, orbits=orbits).plan(edges)  # type: ignore[arg-type]
        every = Shells(3).plan(edges)
        assert edge_set(some.added) == edge_set(every.added)


def test_blocks_and_dense_rows_do_not_show(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    edges = edges_of(NETWORKS['karate'])
    whole = LASER(3, 0.3).plan(edges)
    for full in (0, 1 << 20):
        monkeypatch.setattr('gnnbridge.transforms.laser._BLOCK', 100)
        monkeypatch.setattr('gnnbridge.transforms.laser._FULL', full)
        assert torch.equal(LASER(3, 0.3).plan(edges).added, whole.added)


def test_long_walks_do_not_overflow() -> None:
    # 20^400 is beyond double precision.
    edges = edges_of(nx.barbell_graph(20, 2))
    changes = LASER(2, 0.5, power=400).plan(edges)
    assert torch.isfinite(changes.weight).all()
    assert changes.added.numel() > 0


@PROPERTY
@given(causal_data())
def test_causal_graphs(data: Data) -> None:
    before = data.clone()
    out = LASER(3, 0.5)(data)
    added = out.edge_index[:, data.num_edges :]
    assert (added[0] < added[1]).all()
    check_aligned(data, out)
    assert torch.equal(data.edge_index, before.edge_index)
    # The orbits of a causal graph are of earlier nodes anyway.
    assert torch.equal(
        LASER(3, 0.5, orbits='earlier')(data).edge_index, out.edge_index
    )


def test_nothing_to_add() -> None:
    none = torch.empty(2, 0, dtype=torch.long)
    for data in (
        Data(edge_index=none, num_nodes=1),
        Data(edge_index=none, num_nodes=5),
        Data(edge_index=edges_of(NETWORKS['complete']), num_nodes=7),
    ):
        for causal in (None, False):
            out = LASER(4, causal=causal)(data)
            assert torch.equal(out.edge_index, data.edge_index)


@pytest.mark.parametrize(
    ('options', 'match'),
    [
        ({'radius': 0}, "'radius'"),
        ({'density': 1.5}, "'density'"),
        ({'density': -0.1}, "'density'"),
        ({'minimum': -1}, "'minimum'"),
        ({'power': 0}, "'power'"),
        ({'orbits': 'half'}, "'orbits'"),
    ],
)
def test_arguments(options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        LASER(**options)
