"""The large entries of a matrix, as the edges of a graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import sparse

from gnnbridge.transforms.at_once import AtOnce, keys_of, make_at_once
from gnnbridge.transforms.input_graph import InputGraph
from gnnbridge.transforms.ranking import rank_within
from gnnbridge.transforms.ties import TOLERANCE


@dataclass(frozen=True)
class Entries:
    """Positive entries of a matrix.

    Attributes:
        edges: Rows and columns, ``[2, M]``.
        value: The entries, ``[M]`` float64.
    """

    edges: np.ndarray
    value: np.ndarray

    def where(self, kept: np.ndarray) -> Entries:
        """Those that are kept."""
        return Entries(self.edges[:, kept], self.value[kept])


def entries(
    matrix: np.ndarray | sparse.csr_array,
    graph: InputGraph,
    self_loops: bool,
) -> Entries:
    """The positive entries of a matrix, sorted by row, then column.

    Args:
        matrix: The matrix.
        graph: The graph that it belongs to.
        self_loops: Whether to take the diagonal where the graph has none.
    """
    if isinstance(matrix, np.ndarray):
        source, target = (matrix > 0).nonzero()
        value = matrix[source, target]
    else:
        parts = matrix.sorted_indices().tocoo()
        source, target = parts.coords
        value = parts.data
    kept = value > 0
    if not self_loops:
        ends = graph.edge_index.cpu().numpy()
        looped = np.zeros(graph.num_nodes, dtype=bool)
        looped[ends[0, ends[0] == ends[1]]] = True
        kept &= (source != target) | looped[source]
    if not kept.all():
        source, target, value = source[kept], target[kept], value[kept]
    return Entries(np.stack([source, target]).astype(np.int64), value)


def at_least(found: Entries, threshold: float) -> Entries:
    """Those that are not below, up to the tolerance of ties."""
    return found.where(found.value >= threshold * (1 - TOLERANCE))


def largest(found: Entries, count: int) -> Entries:
    """The largest ones, with all that equal the last of them.

    The threshold is half way between the last one in and the first one out.
    """
    size = found.value.size
    if count >= size:
        return found
    place = size - count
    ranked = np.partition(found.value, [place - 1, place])
    return at_least(found, float(ranked[place - 1] + ranked[place]) / 2)


def largest_of_each(found: Entries, count: int, dim: int) -> Entries:
    """The largest ones in each column (0) or row (1), ties by number."""
    rank = rank_within(-found.value, found.edges[1 - dim])
    return found.where(rank < count)


def normalized(
    found: Entries,
    normalization: Literal['sym', 'col', 'row'] | None,
    num_nodes: int,
) -> np.ndarray:
    """The values over the sums of columns, rows, or both roots of columns."""
    if normalization is None:
        return found.value
    source, target = found.edges
    by = source if normalization == 'row' else target
    degree = np.bincount(by, found.value, num_nodes)
    if normalization != 'sym':
        scaled: np.ndarray = found.value / degree[by]
        return scaled
    # What has no sum has no share, as in PyG.
    root = np.sqrt(np.where(degree > 0, degree, np.inf))
    shared: np.ndarray = found.value / (root[source] * root[target])
    return shared


def replace_edges(
    graph: InputGraph,
    edges: np.ndarray,  # shape: [2, M]
    weight: np.ndarray,  # shape: [M]
) -> AtOnce:
    """The changes that leave just these edges, sorted, with these weights.

    Edges that the graph has several times share the weight.
    """
    key = keys_of(edges, graph.num_nodes)
    given = graph.edge_index.cpu().numpy()
    there = keys_of(given, graph.num_nodes)
    _, first, inverse, count = np.unique(
        there, return_index=True, return_inverse=True, return_counts=True
    )
    stays = np.isin(there, key)
    place = np.searchsorted(key, there[stays])
    new = ~np.isin(key, there)
    return make_at_once(
        graph,
        added=edges[:, new],
        removed=given[:, first[~stays[first]]],
        weight=weight[new],
        kept_weight=weight[place] / count[inverse[stays]],
    )
