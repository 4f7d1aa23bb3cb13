"""The neighbours of every node as sets, for methods that change edges."""

from __future__ import annotations

from itertools import chain
from typing import TypeAlias

import numpy as np

from gnnbridge.transforms.input_graph import InputGraph

Edge: TypeAlias = tuple[int, int]


class NeighborSets:
    """Who is before and who is after each node, kept up to date.

    Self-loops are left out, and an edge that is there several times counts
    once.

    Args:
        graph: The graph to start from; not changed.

    Attributes:
        directed: Whether edges have a direction: in a causal graph, and in
            any other that lacks the reverse of some edge.
        before: The nodes with an edge into each node.
        after: The nodes with an edge from each node; without directions
            the same sets.
    """

    def __init__(self, graph: InputGraph) -> None:
        self.directed = graph.causal or not graph.symmetric
        nodes = range(graph.num_nodes)
        self.after: list[set[int]] = [set() for _ in nodes]
        self.before = self.after
        if self.directed:
            self.before = [set() for _ in nodes]
        for u, v in zip(*graph.edge_index.tolist(), strict=True):
            if u != v:
                self.add(u, v)

    def edges(self) -> np.ndarray:
        """The edges by now, ``[2, M]``, in lexicographic order.

        Without directions those from the smaller node to the larger.
        """
        count = [len(near) for near in self.after]
        source = np.repeat(np.arange(len(count)), count)
        target = np.fromiter(chain.from_iterable(self.after), dtype=np.int64)
        if not self.directed:
            source, target = (
                ends[source < target] for ends in (source, target)
            )
        order = np.lexsort((target, source))
        return np.stack([source[order], target[order]])

    def add(self, u: int, v: int) -> None:
        """Add an edge, in both directions if there are none."""
        self.after[u].add(v)
        self.before[v].add(u)

    def remove(self, u: int, v: int) -> None:
        """Remove an edge, in both directions if there are none."""
        self.after[u].remove(v)
        self.before[v].remove(u)

    def name(self, u: int, v: int) -> Edge:
        """An edge as it is counted: without directions from the smaller."""
        if self.directed or u < v:
            return u, v
        return v, u
