"""ProxyAdd and ProxyDelete: the spectral gap by its predicted change."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
from scipy.sparse.csgraph import connected_components

from gnnbridge.graph.checks import check_size
from gnnbridge.transforms.base import Recorder
from gnnbridge.transforms.bridges import is_only_way
from gnnbridge.transforms.changes import Changes
from gnnbridge.transforms.input_graph import InputGraph, Skeleton
from gnnbridge.transforms.lazy_neighbors import LazyNeighbors
from gnnbridge.transforms.pair_search import Pair, best_free_pair
from gnnbridge.transforms.spectral_gap import SpectralGap
from gnnbridge.transforms.ties import TOLERANCE
from gnnbridge.transforms.weighted import WeightedRewiring


class _Proxy(WeightedRewiring):
    """What both methods share: arguments, and periods as steps."""

    def __init__(
        self,
        num_edges: int,
        *,
        period: int = 1,
        self_loop_weight: float = 1.0,
        weighted: bool = True,
        causal: bool | None = None,
    ) -> None:
        super().__init__(weighted=weighted, causal=causal)
        self.num_edges = check_size('num_edges', num_edges, minimum=0)
        self.period = check_size('period', period)
        if not 0 <= self_loop_weight < math.inf:
            raise ValueError(
                f"Expected 'self_loop_weight' to be finite and at least 0 "
                f'(got {self_loop_weight}).'
            )
        self.self_loop_weight = float(self_loop_weight)

    def _run(self, graph: InputGraph, state: _State) -> Changes:
        recorder = Recorder(graph, 'spectral gap')
        recorder.start(state.gap.value)
        record = recorder.add if self.adds else recorder.remove
        for first in range(0, self.num_edges, self.period):
            wanted = min(self.period, self.num_edges - first)
            found = 0
            while found < wanted and (pair := state.take()) is not None:
                record(*pair)
                found += 1
            if found > 0:
                state.renew()
                recorder.end_step(state.gap.value)
            if found < wanted:
                return recorder.changes(exhausted=True)
        return recorder.changes()


class ProxyAdd(_Proxy):
    r"""Adds the edges that are predicted to widen the spectral gap most.

    From `"Spectral graph pruning against over-squashing and over-smoothing"
    <https://arxiv.org/abs/2404.04612>`_ (Jamadandi, Rubio-Madrigal and
    Burkholz, 2024). With :math:`\lambda` the smallest eigenvalue but zero of
    :math:`L f = \lambda D f`, :math:`f^\top D f = 1`, an edge of weight
    :math:`\Delta w` changes it by about

    .. math::
        \Delta w \left( (f_u - f_v)^2 - \lambda (f_u^2 + f_v^2) \right)

    and the pair without an edge of the largest change is added. :math:`D`
    counts a self-loop at every node, as graph convolutions have and the
    released code adds. The prediction is of first order: the gap may fall.

    The released code scores with other vectors: rows of two eigenvectors made
    unit length, and divided by :math:`\sqrt{d}` twice. This is the formula of
    the paper, which is the derivative.

    Directions do not count, and in a causal graph each edge goes to the later
    node. In a graph of several components :math:`\lambda = 0`, and edges join
    components. If :math:`\lambda` is multiple, as on symmetric graphs,
    :math:`f` is some vector of its eigenspace, the same in every run.

    A step takes one eigenvector, some hundred products with the matrix, and
    :math:`O(N \log N)` operations for the pair, as for :math:`\lambda \le 1`,
    which holds unless the graph is complete, the best partner of a node is
    one of the largest or smallest :math:`f_v`.

    Args:
        num_edges: How many edges to add; pairs, unless the graph is causal.
        period: After how many edges the eigenvector is found anew. A step of
            the :class:`~gnnbridge.transforms.changes.Changes`, and of its
            trace of the spectral gap :math:`\lambda`, is one period.
        self_loop_weight: The weight of the self-loops in :math:`D`. Those of
            the graph do not count.
        weighted: Whether ``edge_weight`` counts; an added edge has the weight
            1.
        causal: Whether only edges to later nodes may be added; inferred from
            the graph if not given.
    """

    def _plan(self, graph: InputGraph) -> Changes:
        skeleton = graph.skeleton
        return self._run(graph, _Additions(skeleton, self))


class ProxyDelete(_Proxy):
    r"""Deletes the edges without which the spectral gap is predicted widest.

    From `"Spectral graph pruning against over-squashing and over-smoothing"
    <https://arxiv.org/abs/2404.04612>`_ (Jamadandi, Rubio-Madrigal and
    Burkholz, 2024): the edge of the largest predicted change

    .. math::
        -w_{uv} \left( (f_u - f_v)^2 - \lambda (f_u^2 + f_v^2) \right)

    is deleted, be it a gain or a loss, unless it is a bridge; see
    :class:`ProxyAdd`, also for where the released code differs.

    Nodes that are connected stay so. In a graph of several components
    :math:`\lambda` is the smallest of their gaps. Directions do not count: a
    pair loses its edges in both.

    Args:
        num_edges: How many edges to delete, pairs of nodes.
        period: After how many edges the eigenvector is found anew; a step is
            one period.
        self_loop_weight: The weight of the self-loops in :math:`D`.
        weighted: Whether ``edge_weight`` counts.
        causal: Whether the graph has to be causal; inferred if not given.
    """

    adds = False

    def _plan(self, graph: InputGraph) -> Changes:
        return self._run(graph, _Deletions(graph.skeleton, self))


class _State(Protocol):
    """A graph that edges are taken for, one by one.

    Attributes:
        gap: The spectral gap when it was last renewed.
    """

    gap: SpectralGap

    def take(self) -> Pair | None:
        """Make the next change; ``None`` if there is no candidate."""

    def renew(self) -> None:
        """Find the gap of the graph as it is by now."""


class _Additions:
    def __init__(self, skeleton: Skeleton, proxy: _Proxy) -> None:
        self.neighbors = LazyNeighbors(skeleton.adjacency())
        self.gap = SpectralGap(
            skeleton.adjacency(proxy.weighted),
            proxy.self_loop_weight,
            np.zeros(skeleton.num_nodes, dtype=np.int64),
        )

    def take(self) -> Pair | None:
        rest = 1 - self.gap.value
        pair = best_free_pair(
            self.gap.vector,
            self.neighbors,
            lambda a, b: rest * (a * a + b * b) - 2 * a * b,
        )
        if pair is not None:
            self.neighbors.add(*pair)
            self.gap.change(*pair, 1.0)
        return pair

    def renew(self) -> None:
        self.gap.solve()


class _Deletions:
    def __init__(self, skeleton: Skeleton, proxy: _Proxy) -> None:
        adjacency = skeleton.adjacency(proxy.weighted)
        adjacency.eliminate_zeros()
        _, label = connected_components(adjacency, directed=False)
        self.neighbors = LazyNeighbors(adjacency)
        self.gap = SpectralGap(adjacency, proxy.self_loop_weight, label)
        self.pairs = skeleton.pairs
        self.weight = skeleton.weight
        if not proxy.weighted:
            self.weight = np.ones_like(self.weight)
        # A bridge stays one whatever else is deleted.
        self.kept = np.zeros(self.weight.size, dtype=bool)
        self.score = self._score()

    def take(self) -> Pair | None:
        while not self.kept.all():
            score = np.where(self.kept, -np.inf, self.score)
            best = score.max()
            edge = int((score >= best - TOLERANCE * abs(best)).argmax())
            u, v = self.pairs[:, edge].tolist()
            self.kept[edge] = True
            if self.weight[edge] == 0:
                return u, v
            if not is_only_way(u, v, self.neighbors):
                self.neighbors.remove(u, v)
                self.gap.change(u, v, -self.weight[edge])
                return u, v
        return None

    def renew(self) -> None:
        self.gap.solve()
        self.score = self._score()

    def _score(self) -> np.ndarray:
        f, value = self.gap.vector, self.gap.value
        f_u, f_v = f[self.pairs]
        gain = (f_u - f_v) ** 2 - value * (f_u**2 + f_v**2)
        return -self.weight * gain
