import networkx as nx
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnbridge.transforms.bridges import is_only_way

PROPERTY = settings(deadline=None, derandomize=True)


@PROPERTY
@given(
    size=st.integers(2, 12),
    density=st.floats(0.1, 0.6),
    seed=st.integers(0, 999),
    directed=st.booleans(),
)
def test_it_is_the_only_way_if_nothing_else_leads_there(
    size: int, density: float, seed: int, directed: bool
) -> None:
    graph = nx.gnp_random_graph(size, density, seed=seed, directed=directed)
    after = {u: set(graph.adj[u]) for u in graph}
    before = {u: set(graph.pred[u]) for u in graph} if directed else None
    for u, v in graph.edges:
        without = nx.restricted_view(graph, [], [(u, v)])
        expected = not nx.has_path(without, u, v)
        assert is_only_way(u, v, after, before) == expected


def test_lists_of_neighbors_do_and_are_left_as_they_are() -> None:
    path = [{1}, {0, 2}, {1}]
    assert is_only_way(0, 1, path)
    assert path == [{1}, {0, 2}, {1}]
