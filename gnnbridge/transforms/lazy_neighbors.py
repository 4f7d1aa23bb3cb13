"""The neighbours of the few nodes that a search looks at."""

from __future__ import annotations

from scipy import sparse


class LazyNeighbors(dict[int, set[int]]):
    """The set of neighbours of a node, made when it is first asked for.

    Sets of all nodes take longer than a whole search that ends after a few
    pairs.

    Args:
        adjacency: A symmetric matrix; its stored entries are the edges.
    """

    def __init__(self, adjacency: sparse.csr_array) -> None:
        super().__init__()
        self._columns, self._starts = adjacency.indices, adjacency.indptr

    def __missing__(self, node: int) -> set[int]:
        begin, end = self._starts[node : node + 2]
        self[node] = set(self._columns[begin:end].tolist())
        return self[node]

    def add(self, u: int, v: int) -> None:
        """Add an edge."""
        self[u].add(v)
        self[v].add(u)

    def remove(self, u: int, v: int) -> None:
        """Remove an edge."""
        self[u].remove(v)
        self[v].remove(u)
