"""Random regular graphs."""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from gnnbridge.transforms.at_once import keys_of

# Edges to try for a switch. In a graph that is at most half full one of four
# fits, but in tiny ones it may be none.
_TRIES = 100


def random_regular_pairs(
    num_nodes: int, degree: int, generator: np.random.Generator
) -> np.ndarray:  # shape: [2, P]
    """A connected graph with `degree` neighbours for each node.

    Ends of edges are paired at random, those of loops and of double edges
    again with one another, as long as that helps (`Steger and Wormald, 1999
    <https://doi.org/10.1017/S0963548399003867>`_); the last ones take the
    places of the ends of a random edge. That is nearly uniform over all such
    graphs. Almost all of them are connected; others are thrown away. Beyond
    half of all pairs it is those that are left out that are drawn.

    Args:
        num_nodes: The number of nodes, more than `degree`.
        degree: At least 3; times `num_nodes` an even number.
        generator: The source of chance.

    Returns:
        The pairs ``u < v``, sorted.
    """
    if 2 * degree > num_nodes - 1:
        every = np.stack(np.triu_indices(num_nodes, 1))
        left_out = _regular(num_nodes, num_nodes - 1 - degree, generator)
        return every[:, ~np.isin(keys_of(every, num_nodes), left_out)]
    while True:
        key = _regular(num_nodes, degree, generator)
        u, v = np.divmod(key, num_nodes)
        graph = sparse.coo_array(
            (np.ones(key.size), (u, v)), shape=(num_nodes, num_nodes)
        )
        if connected_components(graph, directed=False)[0] == 1:
            return np.stack([u, v])


def _regular(
    num_nodes: int, degree: int, generator: np.random.Generator
) -> np.ndarray:
    """The keys of the pairs of a graph that may be in parts, sorted."""
    while True:
        found, left = _pair_up(num_nodes, degree, generator)
        done = _switch(found, left, num_nodes, generator)
        if done is not None:
            return np.sort(done)


def _pair_up(
    num_nodes: int, degree: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of ends, and the ends that are left when few pairs are good."""
    ends = np.arange(num_nodes).repeat(degree)
    found = np.empty(0, dtype=np.int64)
    while ends.size > 0:
        pairs = np.sort(generator.permutation(ends).reshape(-1, 2).T, axis=0)
        key = keys_of(pairs, num_nodes)
        _, first = np.unique(key, return_index=True)
        good = np.zeros(key.size, dtype=bool)
        good[first] = True
        good &= (pairs[0] != pairs[1]) & ~np.isin(key, found)
        found = np.concatenate([found, key[good]])
        ends = pairs[:, ~good].ravel()
        if 4 * good.sum() < good.size:
            break
    return found, ends


def _switch(
    found: np.ndarray,
    left: np.ndarray,
    num_nodes: int,
    generator: np.random.Generator,
) -> np.ndarray | None:
    """Put ends u, v between those of an edge a, b: u, a and v, b.

    Returns ``None`` where no edge is found that fits.
    """
    keys = found.tolist()
    present = set(keys)
    for u, v in left.reshape(-1, 2).tolist():
        for _ in range(_TRIES if keys else 0):
            place = int(generator.integers(len(keys)))
            a, b = divmod(keys[place], num_nodes)
            if generator.integers(2):
                a, b = b, a
            new = {
                min(x, y) * num_nodes + max(x, y) for x, y in ((u, a), (v, b))
            }
            if u != a and v != b and len(new) == 2 and not new & present:
                present.remove(keys[place])
                present |= new
                keys[place] = new.pop()
                keys.extend(new)
                break
        else:
            return None
    return np.array(keys, dtype=np.int64)
