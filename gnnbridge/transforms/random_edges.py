"""Edges at random: what every method has to be better than."""

from __future__ import annotations

import numpy as np

from gnnbridge.graph.checks import check_size
from gnnbridge.transforms.base import Recorder, Rewiring
from gnnbridge.transforms.chance import Seed, make_numpy_generator
from gnnbridge.transforms.changes import Changes
from gnnbridge.transforms.input_graph import InputGraph

# Up to so many pairs they are listed; beyond, pairs are drawn and some of
# them refused. Both depend on the graph alone, not on the number of edges.
_LISTED = 1 << 21
_DRAWN = 1 << 10


class RandomEdges(Rewiring):
    r"""Adds edges at random, evenly among those that are not there.

    A baseline at any budget. With `per_node`, the random keys of `"Big Bird:
    Transformers for Longer Sequences" <https://arxiv.org/abs/2007.14062>`_:
    each node gets edges from so many others.

    In a causal graph these are earlier ones, and the choice for a node
    depends on nothing but the seed and its own edges: a longer sequence has
    the rows of a shorter one. In other graphs each edge comes with its
    reverse, and the nodes choose one after the other among those that they
    are not adjacent to by then. A smaller `num_edges` gives the first of the
    edges of a larger one, and adds them in steps of one; with `per_node` a
    step is a node.

    When no pair is left, the method stops. Weights are not looked at, and
    directions of edges neither: nodes with an edge between them are adjacent.

    Args:
        num_edges: How many edges to add to the graph; undirected ones, or
            directed ones if it is causal.
        per_node: How many to add into each node. Either of the two is given.
        seed: A number or a ``torch.Generator``.
        causal: Whether only edges to later nodes may be added; inferred from
            the graph if not given.

    Raises:
        ValueError: If not just one of `num_edges` and `per_node` is given, or
            it is negative.
    """

    def __init__(
        self,
        num_edges: int | None = None,
        *,
        per_node: int | None = None,
        seed: Seed = 0,
        causal: bool | None = None,
    ) -> None:
        super().__init__(causal=causal)
        if (num_edges is None) == (per_node is None):
            raise ValueError(
                "Expected exactly one of 'num_edges' and 'per_node' (got "
                f'num_edges={num_edges}, per_node={per_node}).'
            )
        if num_edges is not None:
            num_edges = check_size('num_edges', num_edges, minimum=0)
        if per_node is not None:
            per_node = check_size('per_node', per_node, minimum=0)
        self.num_edges, self.per_node, self.seed = num_edges, per_node, seed

    @property
    def prefix(self) -> bool:  # type: ignore[override]
        """Whether the nodes are gone through in order, from a fixed start."""
        return self.per_node is not None and isinstance(self.seed, int)

    def _plan(self, graph: InputGraph) -> Changes:
        generator = make_numpy_generator(self.seed)
        recorder = Recorder(graph)
        if self.per_node is not None:
            return self._each_node(graph, recorder, generator, self.per_node)
        wanted = self.num_edges or 0
        pairs = _draw(graph, wanted, generator)
        for u, v in pairs:
            recorder.add(u, v)
            recorder.end_step()
        return recorder.changes(exhausted=len(pairs) < wanted)

    def _each_node(
        self,
        graph: InputGraph,
        recorder: Recorder,
        generator: np.random.Generator,
        per_node: int,
    ) -> Changes:
        # A stream for each node, so that none depends on another.
        seed = int(generator.integers(1 << 62))
        neighbors = graph.skeleton.neighbors
        enough = True
        for node in range(graph.num_nodes):
            end = node if graph.causal else graph.num_nodes
            taken = np.array(sorted({*neighbors[node], node}), dtype=np.int64)
            taken = taken[taken < end]
            free = end - taken.size
            own = np.random.default_rng([seed, node])
            chosen = own.choice(free, min(per_node, free), replace=False)
            enough &= free >= per_node
            for other in _skip(np.sort(chosen), taken).tolist():
                recorder.add(other, node)
                neighbors[node].add(other)
                neighbors[other].add(node)
            recorder.end_step()
        return recorder.changes(exhausted=not enough)


def _skip(rank: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """The numbers of given rank among those that are not taken (sorted)."""
    free_before = taken - np.arange(taken.size)
    return rank + np.searchsorted(free_before, rank, side='right')


def _draw(
    graph: InputGraph, wanted: int, generator: np.random.Generator
) -> list[tuple[int, int]]:
    """Different pairs that are not adjacent, the first ones first."""
    n, pairs = graph.num_nodes, graph.skeleton.pairs
    total = n * (n - 1) // 2
    free = total - pairs.shape[1]
    if total <= _LISTED or 2 * free < total:
        u, v = np.triu_indices(n, 1)
        open_ = ~np.isin(u * n + v, pairs[0] * n + pairs[1])
        chosen = generator.permutation(np.flatnonzero(open_))[:wanted]
        return list(zip(u[chosen].tolist(), v[chosen].tolist(), strict=True))
    taken = set(zip(*pairs.tolist(), strict=True))
    found: list[tuple[int, int]] = []
    while len(found) < min(wanted, free):
        for u, v in np.sort(generator.integers(n, size=(_DRAWN, 2))).tolist():
            if u != v and (u, v) not in taken and len(found) < wanted:
                taken.add((u, v))
                found.append((u, v))
    return found
