"""Resistance rewiring: join what is far apart, thin out what is near."""

from __future__ import annotations

from typing import get_args

from gnnbridge.graph.checks import check_size
from gnnbridge.spectral.resistance import Kind
from gnnbridge.spectral.walk import split_hops
from gnnbridge.transforms.base import Recorder
from gnnbridge.transforms.changes import Changes
from gnnbridge.transforms.input_graph import InputGraph
from gnnbridge.transforms.resistance_network import ResistanceNetwork
from gnnbridge.transforms.weighted import WeightedRewiring


class ResistanceRewiring(WeightedRewiring):
    r"""Adds edges of the largest resistance, deletes those of the smallest.

    From `"Effective resistance rewiring: a simple topological correction for
    over-squashing" <https://arxiv.org/abs/2603.11944>`_ (Miquel-Oliver et al.,
    2026). Each step adds the edge between the two nodes without one whose
    :func:`~gnnbridge.spectral.effective_resistance` is the largest, an
    infinite one first, and then deletes the edge over which it is the
    smallest, until each is done as often as it was asked for. An edge is
    deleted only if its source reaches its target without it, so that what is
    connected stays so, and none is both added and deleted.

    ``kind='undirected'`` is the classical resistance of the graph without
    directions, conductances its weights; in a causal graph each added edge
    goes to the later node. The others are those of the directed graph: the
    resistance :math:`R_{i \to j}` from a receiver :math:`i` is that of the
    edge :math:`j \to i`, which is what would let :math:`i` hear :math:`j`.
    One direction is added or deleted, and both only if all weights of the
    input are the same in both.

    The trace is the largest resistance of two nodes without an edge.

    Classical resistances are changed in :math:`O(N^2)` operations after an
    edge, once they are known at the cost of :math:`O(N^3)`; the others take
    :math:`O(N^3)` each time.

    Args:
        num_edges: How many edges to add; pairs, unless the graph is causal or
            `kind` directed.
        num_removed: How many edges to delete, counted likewise.
        kind: Which resistance: ``'undirected'``, ``'causal'``, ``'restart'``,
            ``'lyapunov'`` or ``'escape'``.
        hops: The expected number of hops; unlimited if not given. Not for
            ``'undirected'`` and ``'lyapunov'``.
        weighted: Whether ``edge_weight`` counts; an added edge has the weight
            1.
        causal: Whether only edges to later nodes may be added; inferred from
            the graph if not given.

    Raises:
        ValueError: If `kind` is unknown or does not fit `hops` or the graph.
    """

    def __init__(
        self,
        num_edges: int,
        num_removed: int = 0,
        *,
        kind: Kind = 'undirected',
        hops: float | None = None,
        weighted: bool = True,
        causal: bool | None = None,
    ) -> None:
        super().__init__(weighted=weighted, causal=causal)
        self.num_edges = check_size('num_edges', num_edges, minimum=0)
        self.num_removed = check_size('num_removed', num_removed, minimum=0)
        if kind not in get_args(Kind):
            raise ValueError(
                f"Expected 'kind' to be one of {get_args(Kind)} (got {kind!r})."
            )
        if hops is not None:
            split_hops(hops)
            if kind in ('undirected', 'lyapunov'):
                raise ValueError(
                    f"Expected hops=None for kind='{kind}' (got {hops}). Use "
                    f"kind='escape' instead."
                )
        self.kind, self.hops = kind, hops

    def _plan(self, graph: InputGraph) -> Changes:
        network = ResistanceNetwork(graph, self.kind, self.hops, self.weighted)
        recorder = Recorder(
            graph, 'largest resistance', directed=network.directed
        )
        recorder.start(network.largest())
        done = [0, 0]
        for step in range(max(self.num_edges, self.num_removed)):
            added = network.add() if step < self.num_edges else None
            if added is not None:
                recorder.add(*added)
            removed = network.remove() if step < self.num_removed else None
            if removed is not None:
                recorder.remove(*removed)
            if added is None and removed is None:
                break
            done[0] += added is not None
            done[1] += removed is not None
            recorder.end_step(network.largest())
        wanted = [self.num_edges, self.num_removed]
        return recorder.changes(exhausted=done != wanted)
