"""A graph whose edges are chosen by the resistances of its pairs."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from gnnbridge.graph.dense import edges_to_dense
from gnnbridge.spectral.resistance import Kind
from gnnbridge.transforms.bridges import is_only_way
from gnnbridge.transforms.input_graph import InputGraph
from gnnbridge.transforms.resistance_table import (
    ClassicalTable,
    DirectedTable,
    ResistanceTable,
)
from gnnbridge.transforms.ties import TOLERANCE

# Entries that are looked at at a time: they stay in the cache.
_ENTRIES = 1 << 16


class ResistanceNetwork:
    """A graph, its resistances, and what may be done to it.

    A pair is source and target; where an edge has both directions, or goes to
    the later node anyway, the smaller node first. The rows of all tables but
    `weight` are sources.

    Args:
        graph: The graph to start from; not changed.
        kind: The kind of resistance.
        hops: The expected number of hops, if limited.
        weighted: Whether weights count.

    Attributes:
        directed: Whether pairs have a direction that their nodes do not tell.
    """

    def __init__(
        self,
        graph: InputGraph,
        kind: Kind,
        hops: float | None,
        weighted: bool,
    ) -> None:
        self.table: ResistanceTable
        if kind == 'undirected':
            there = _skeleton(graph, False).numpy() > 0
            self.table = ClassicalTable(_skeleton(graph, weighted))
        else:
            there = _received(graph, False).T.numpy() > 0
            weight = _received(graph, weighted)
            same = torch.allclose(weight, weight.T, rtol=1e-5, atol=0)
            mutual = same and graph.symmetric and not graph.causal
            self.table = DirectedTable(weight, kind, hops, mutual)
        self.directed = not (self.table.mutual or graph.causal)
        pairs = ~np.eye(graph.num_nodes, dtype=bool)
        pairs = pairs if self.directed else np.triu(pairs)
        self._free = pairs & ~there
        self._edges = np.stack(np.nonzero(pairs & there))
        self._kept = np.ones(self._edges.shape[1], dtype=bool)
        flows = self.table.weight.T.numpy() > 0
        self._after = [set(np.flatnonzero(row).tolist()) for row in flows]
        self._before = [set(np.flatnonzero(row).tolist()) for row in flows.T]
        self._next = _largest(self.table.values, self._free)

    def largest(self) -> float:
        """The largest resistance of a candidate; zero if there is none."""
        return 0.0 if self._next is None else self._next[0]

    def add(self) -> tuple[int, int] | None:
        """Add the edge of largest resistance, if there is a candidate."""
        if self._next is None:
            return None
        _, source, target = self._next
        self._free[source, target] = False
        for u, v in self._ends(source, target):
            self._after[u].add(v)
            self._before[v].add(u)
        self.table.add(source, target)
        self._next = _largest(self.table.values, self._free)
        return source, target

    def remove(self) -> tuple[int, int] | None:
        """Remove the edge of least resistance that is not the only way."""
        spared = ~self._kept
        values = self.table.values[tuple(self._edges)]
        while not spared.all():
            least = values[~spared].min()
            near = ~spared & (values <= least * (1 + TOLERANCE))
            edge = int(near.argmax())
            source, target = self._edges[:, edge].tolist()
            if self._can_go(source, target):
                self._kept[edge] = False
                for u, v in self._ends(source, target):
                    self._after[u].discard(v)
                    self._before[v].discard(u)
                self.table.remove(source, target)
                self._next = _largest(self.table.values, self._free)
                return source, target
            spared[edge] = True
        return None

    def _can_go(self, source: int, target: int) -> bool:
        if target not in self._after[source]:
            return True  # It does not conduct.
        return not is_only_way(source, target, self._after, self._before)

    def _ends(self, source: int, target: int) -> list[tuple[int, int]]:
        """The directions in which an edge of a pair conducts."""
        if self.table.mutual:
            return [(source, target), (target, source)]
        return [(source, target)]


def _largest(
    values: np.ndarray, among: np.ndarray
) -> tuple[float, int, int] | None:
    """The largest of some entries, and the place of the first such one."""
    step = max(_ENTRIES // len(values), 1)
    tops = np.concatenate(
        [
            np.where(
                among[begin : begin + step],
                values[begin : begin + step],
                -math.inf,
            ).max(axis=1)
            for begin in range(0, len(values), step)
        ]
    )
    best = float(tops.max())
    if best == -math.inf:
        return None
    least = best - TOLERANCE * abs(best) if best < math.inf else best
    row = int((tops >= least).argmax())
    column = int((among[row] & (values[row] >= least)).argmax())
    return best, row, column


def _skeleton(graph: InputGraph, weighted: bool) -> Tensor:
    """The weights of the graph without directions."""
    return torch.from_numpy(graph.skeleton.adjacency(weighted).toarray())


def _received(graph: InputGraph, weighted: bool) -> Tensor:
    """The weights of the graph, row = receiver."""
    edges = graph.edge_index.cpu()
    if not weighted or graph.edge_weight is None:
        return (
            edges_to_dense(edges, None, graph.num_nodes).double().clamp(max=1)
        )
    weight = graph.edge_weight.detach().double().cpu()
    return edges_to_dense(edges, weight, graph.num_nodes)
