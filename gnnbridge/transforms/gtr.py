"""GTR: edges that lower the total resistance most."""

from __future__ import annotations

import math
from typing import Literal

from gnnbridge.graph.checks import check_size
from gnnbridge.transforms.base import Recorder
from gnnbridge.transforms.changes import Changes
from gnnbridge.transforms.input_graph import InputGraph
from gnnbridge.transforms.kirchhoff import Conductors
from gnnbridge.transforms.lyapunov_index import DirectedNetwork
from gnnbridge.transforms.weighted import WeightedRewiring


class GTR(WeightedRewiring):
    r"""Greedy total resistance rewiring.

    Each step adds the edge that lowers the total resistance most
    (`"Understanding oversquashing in GNNs through the lens of effective
    resistance" <https://arxiv.org/abs/2302.06835>`_, Black et al., 2023). For
    an edge of conductance :math:`c` in a component of :math:`n` nodes that is

    .. math::
        n \, c \, \frac{B_{uv}}{1 + c R_{uv}}, \qquad
        R_{uv} = (e_u - e_v)^\top L^+ (e_u - e_v), \quad
        B_{uv} = (e_u - e_v)^\top (L^+)^2 (e_u - e_v)

    and exact. The trace is the total resistance, :math:`n \, \mathrm{tr} L^+`
    summed over components; pairs in different components, whose resistance is
    infinite, are neither in it nor joined. The released code leaves out the
    factor :math:`n`, which matters between components, and repeats an edge or
    adds self-loops when there is no candidate left.

    Directions do not count, and in a causal graph each edge goes to the later
    node. ``kind='lyapunov'`` is the directed form, for any digraph in which
    the walk against the edges ends in one closed class, such as a causal graph
    with one root: each step adds the edge, from source to target, that lowers
    the total
    :func:`~gnnbridge.spectral.lyapunov_resistance` most, and none when none
    lowers it. Its derivative in all edges takes one more equation, and the
    exact value is found for the 32 edges of the steepest descent, or for
    :math:`2^{18} / N^2` if that is more: for all of them up to 22 nodes. On an
    undirected graph the derivatives of an edge and its reverse add up to
    :math:`-n B_{uv}`.

    The start takes :math:`O(N^3)` operations and an edge up to
    :math:`O(N^2)`, most often less, as pairs that cannot be the best are left
    as they are; the memory is :math:`O(N^2)`. The directed form takes
    :math:`O(N^3)` for each exact value.

    Args:
        num_edges: How many edges to add; pairs, unless the graph is causal or
            `kind` directed.
        weight: The conductance :math:`c` of a new edge.
        kind: ``'undirected'`` or ``'lyapunov'``.
        weighted: Whether ``edge_weight`` counts, as conductances.
        causal: Whether only edges to later nodes may be added; inferred from
            the graph if not given.

    Raises:
        ValueError: If `weight` is not positive, if the weights of the graph
            are of too different sizes to compute with, or for ``'lyapunov'``
            there are several closed classes.
    """

    def __init__(
        self,
        num_edges: int,
        *,
        weight: float = 1.0,
        kind: Literal['undirected', 'lyapunov'] = 'undirected',
        weighted: bool = True,
        causal: bool | None = None,
    ) -> None:
        super().__init__(weighted=weighted, causal=causal)
        self.num_edges = check_size('num_edges', num_edges, minimum=0)
        if not 0 < weight < math.inf:
            raise ValueError(
                f"Expected 'weight' to be positive and finite (got {weight})."
            )
        if kind not in ('undirected', 'lyapunov'):
            raise ValueError(
                f"Expected 'kind' to be 'undirected' or 'lyapunov' (got "
                f'{kind!r}).'
            )
        self.weight, self.kind = float(weight), kind

    def _plan(self, graph: InputGraph) -> Changes:
        network: Conductors | DirectedNetwork
        if self.kind == 'lyapunov':
            network = DirectedNetwork(graph, self.weighted, self.weight)
        else:
            network = Conductors(graph.skeleton, self.weighted, self.weight)
        recorder = Recorder(
            graph,
            'total resistance',
            weight=self.weight,
            directed=self.kind == 'lyapunov',
        )
        recorder.start(network.total)
        for _ in range(self.num_edges):
            if network.gain <= 0:
                return recorder.changes(exhausted=True)
            edge = network.best
            network.add(*edge)
            recorder.add(*edge)
            recorder.end_step(network.total)
        return recorder.changes()
