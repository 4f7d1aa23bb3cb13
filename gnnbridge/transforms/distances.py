"""Which nodes are how many hops away, along the edges."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import sparse

from gnnbridge.transforms.input_graph import InputGraph


def structure(graph: InputGraph) -> sparse.csr_array:
    """Ones where there is an edge, row = receiver, without self-loops."""
    source, target = graph.edge_index.cpu().numpy()
    proper = source != target
    shape = (graph.num_nodes, graph.num_nodes)
    ones = np.ones(int(proper.sum()))
    edges = sparse.coo_array((ones, (target[proper], source[proper])), shape)
    back = edges.tocsr()
    back.data[:] = 1
    return back


def shells(
    back: sparse.csr_array,  # shape: [N, N]
    rows: np.ndarray,  # shape: [M]
    radius: int,
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """The nodes from which a shortest path of each length leads to some nodes.

    Args:
        back: Ones where there is an edge, row = receiver.
        rows: The nodes at the ends of the paths.
        radius: The longest length.

    Yields:
        For the lengths from 2 on: the length, positions in `rows`, and the
        nodes at that distance, sorted by row, then node.
    """
    none = np.ones(rows.size), (np.arange(rows.size), rows)
    own = sparse.csr_array(none, shape=(rows.size, back.shape[0]))
    frontier = back[rows]
    seen = own + frontier
    for length in range(2, radius + 1):
        reached = (frontier @ back).tocsr()
        reached.data[:] = 1
        frontier = (reached - reached.multiply(seen)).tocsr()
        frontier.eliminate_zeros()
        if frontier.nnz == 0:
            return
        frontier.sort_indices()
        counts = np.diff(frontier.indptr)
        place = np.repeat(np.arange(rows.size), counts)
        yield length, place, frontier.indices.astype(np.int64)
        seen = seen + frontier


def blocks(num_nodes: int, size: int) -> Iterator[np.ndarray]:
    """Consecutive nodes, so many that a table over all nodes has `size`."""
    step = max(1, size // num_nodes)
    for start in range(0, num_nodes, step):
        yield np.arange(start, min(start + step, num_nodes))
