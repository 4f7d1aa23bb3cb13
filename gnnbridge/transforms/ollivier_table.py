"""Ollivier-Ricci curvature of a graph whose edges change now and then."""

from __future__ import annotations

import numpy as np
import torch

from gnnbridge.curvature.ollivier import curvature_of_edges
from gnnbridge.curvature.simple_graph import read_graph
from gnnbridge.transforms.neighbor_sets import Edge, NeighborSets
from gnnbridge.transforms.ties import level


class OllivierTable:
    """The curvature of each edge, computed again where edges have changed.

    An edge is part of the measures at its own ends, and of distances between
    the neighbours of others. All other curvatures stay as they are.

    Args:
        neighbors: The graph, from here on to be changed by the table alone.
    """

    def __init__(self, neighbors: NeighborSets) -> None:
        self.neighbors = neighbors
        self._key = np.zeros(0, dtype=np.int64)
        self._value = np.zeros(0)
        self._changed: set[Edge] = set()

    def add(self, u: int, v: int) -> None:
        """Add an edge."""
        self.neighbors.add(u, v)
        self._changed |= self._around(u, v)

    def remove(self, u: int, v: int) -> None:
        """Remove an edge."""
        self._changed |= self._around(u, v)
        self.neighbors.remove(u, v)

    def ranked(
        self, *, descending: bool = False
    ) -> tuple[list[Edge], np.ndarray]:
        """The edges in the order of their curvatures, and these.

        Of equals the smallest first.
        """
        self._refresh()
        # From -2 to 1, and no more exact where they are near zero.
        value = level(self._value - 3)
        order = (-value if descending else value).argsort(kind='stable')
        ends = np.divmod(self._key[order], len(self.neighbors.after))
        edges = zip(*(end.tolist() for end in ends), strict=True)
        return list(edges), self._value[order]

    def _around(self, p: int, q: int) -> set[Edge]:
        """What an edge that is there has a part in.

        The measures before `q` and after `p`, and ways of up to two hops from
        one before an edge to one after it. Either may be the end itself,
        where all mass stays if there is no other.
        """
        before, after = self.neighbors.before, self.neighbors.after
        name = self.neighbors.name
        edges: set[Edge] = set()
        first, last = after[p] | {p}, before[q] | {q}
        starts = first.union(before[p], *(after[a] for a in before[p]))
        ends = last.union(after[q], *(before[b] for b in after[q]))
        for v in last:
            edges.update(name(u, v) for u in before[v] & starts)
        for u in first:
            edges.update(name(u, v) for v in after[u] & ends)
        return edges

    def _refresh(self) -> None:
        """Compute what is not known, or not any more."""
        num_nodes = len(self.neighbors.after)
        edges = self.neighbors.edges()
        key = edges[0] * num_nodes + edges[1]
        known = np.isin(key, self._key)
        value = np.empty(key.size)
        value[known] = self._value[np.isin(self._key, key)]
        changed = [u * num_nodes + v for u, v in self._changed]
        wanted = ~known | np.isin(key, changed)
        if wanted.any():
            value[wanted] = self._curvature(edges, key[wanted])
        self._key, self._value = key, value
        self._changed = set()

    def _curvature(self, edges: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        num_nodes, directed = len(self.neighbors.after), self.neighbors.directed
        if not directed:
            edges = np.concatenate([edges, edges[::-1]], axis=1)
        graph = read_graph(torch.from_numpy(edges), None, num_nodes, directed)
        source, target = graph.edge_index.numpy()
        rows = np.searchsorted(source * num_nodes + target, wanted)
        return curvature_of_edges(graph, rows)
