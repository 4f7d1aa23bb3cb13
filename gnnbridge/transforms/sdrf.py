"""SDRF: edges around the bottlenecks that balanced Forman curvature finds."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Real
from typing import Any

import numpy as np

from gnnbridge.graph.checks import check_size
from gnnbridge.transforms.base import Recorder, Rewiring
from gnnbridge.transforms.chance import Seed, make_numpy_generator
from gnnbridge.transforms.changes import Changes
from gnnbridge.transforms.forman_candidates import Candidates, candidates
from gnnbridge.transforms.forman_table import ROUNDING, FormanTable
from gnnbridge.transforms.input_graph import InputGraph
from gnnbridge.transforms.neighbor_sets import Edge, NeighborSets


class SDRF(Rewiring):
    r"""Stochastic discrete Ricci flow (Topping et al., 2022).

    Algorithm 1 of `"Understanding over-squashing and bottlenecks on graphs
    via curvature" <https://arxiv.org/abs/2111.14522>`_. In each step the edge
    :math:`x \sim y` of least balanced Forman curvature
    (:func:`~gnnbridge.curvature.balanced_forman`) gets an edge
    :math:`k \sim l` in support, one that is missing between the ball of
    :math:`x` and that of :math:`y`, drawn with

    .. math::
        P(k \sim l) \propto \exp\bigl(\tau \,
        (\mathrm{Ric}_{kl}(x, y) - \mathrm{Ric}(x, y))\bigr), \qquad
        k \in N(x) \cup \{x\}, \; l \in N(y) \cup \{y\}

    where :math:`\mathrm{Ric}_{kl}` is the curvature with :math:`k \sim l` in
    the graph. At the temperature :math:`\tau = \infty`, which is the default,
    it is the edge of largest improvement. Then the edge of largest curvature
    is removed if that is above the bound :math:`C^+`.

    Weights play no part, as the formula has none. In a graph with directions,
    causal or not, the curvature is the directed one, and the candidates are
    the edges :math:`k \to l` from a node before :math:`x`, or :math:`x`, to
    one after :math:`y`, or :math:`y`, for the edge :math:`x \to y`: a causal
    graph stays causal. Components, isolated nodes and graphs without edges
    need no care: edges are added within components.

    Changes trace the least curvature. The first steps are those of a smaller
    budget, whatever the options.

    .. note::
        Where the released code does something else than the paper, this is
        the paper: its curvature, improvements that are those of the edge in
        both directions (the released ones are of :math:`k \to l` alone), and
        removal by the curvature after the addition (that of before). The edge
        that a step has added is not removed in that step, as in the code. The
        code stops once the edge of least curvature has all edges around it;
        here the next one takes its place. Networks of cliques and dense
        causal graphs have many such edges.

    Curvatures are computed once, by sparse algebra, and then again around the
    edges that change alone. A step takes time in the order of
    :math:`(d_x + d_y)^2 + m` and as much memory, in a graph of :math:`m`
    edges.

    Args:
        num_edges: The number of steps, each of which adds one edge: one in
            each direction, or a single one in a graph with directions.
        temperature: The :math:`\tau` above: 0 draws evenly, larger ones
            prefer the candidates that help most.
        removal_bound: The :math:`C^+` above; nothing is removed if not
            given. The released code takes 0.5 by default.
        seed: For drawing, at a finite temperature.
        causal: See :class:`~gnnbridge.transforms.base.Rewiring`.

    Raises:
        TypeError: If `num_edges` is not an integer, or `temperature` or
            `removal_bound` not a number.
        ValueError: If `num_edges` or `temperature` is negative, or one of
            the numbers NaN.

    Example:
        >>> barbell = to_undirected(torch.tensor(
        ...     [[0, 0, 1, 2, 3, 3, 4], [1, 2, 2, 3, 4, 5, 5]]))
        >>> SDRF(1).plan(barbell).added
        tensor([[0, 3],
                [3, 0]])
    """

    def __init__(
        self,
        num_edges: int,
        temperature: float = math.inf,
        *,
        removal_bound: float | None = None,
        seed: Seed = 0,
        causal: bool | None = None,
    ) -> None:
        super().__init__(causal=causal)
        self.num_edges = check_size('num_edges', num_edges, minimum=0)
        self.temperature = _check_number('temperature', temperature)
        if temperature < 0:
            raise ValueError(
                f"Expected 'temperature' to be at least 0 (got "
                f'{temperature}). Use 0 to draw all candidates alike.'
            )
        if removal_bound is not None:
            _check_number('removal_bound', removal_bound)
        self.removal_bound = removal_bound
        self.seed = seed

    def _plan(self, graph: InputGraph) -> Changes:
        neighbors = NeighborSets(graph)
        table, choose = FormanTable(neighbors), self._chooser()
        recorder = Recorder(
            graph, 'least curvature', directed=neighbors.directed
        )
        if table.edges:
            recorder.start(table.least())
        for _ in range(self.num_edges):
            added = _support(table, choose)
            if added is not None:
                table.add(*added)
                recorder.add(*added)
            removed = self._surplus(table, added)
            if removed is not None:
                table.remove(*removed)
                recorder.remove(*removed)
            if added is None and removed is None:
                return recorder.changes(exhausted=True)
            recorder.end_step(table.least())
        return recorder.changes()

    def _surplus(self, table: FormanTable, added: Edge | None) -> Edge | None:
        """The edge to remove, if there is one."""
        if self.removal_bound is None:
            return None
        return table.most_curved(self.removal_bound, other_than=added)

    def _chooser(self) -> Callable[[Candidates], int]:
        """How to choose among candidates."""
        if self.temperature == math.inf:
            return _first_best
        generator = make_numpy_generator(self.seed)

        def draw(found: Candidates) -> int:
            # Exponents of at most 0 cannot overflow, however large the rate.
            with np.errstate(over='ignore'):
                log_share = self.temperature * (found.value - found.value.max())
            share = np.exp(log_share)
            return int(generator.choice(share.size, p=share / share.sum()))

        return draw


def _support(
    table: FormanTable, choose: Callable[[Candidates], int]
) -> Edge | None:
    """An edge in support of the worst bottleneck that can have one."""
    while (edge := table.bottleneck()) is not None:
        found = candidates(table.neighbors, edge)
        if found.u.size > 0:
            place = choose(found)
            return int(found.u[place]), int(found.v[place])
        table.mark_full(edge)
    return None


def _first_best(found: Candidates) -> int:
    return int((found.value >= found.value.max() - ROUNDING).argmax())


def _check_number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(
            f"Expected '{name}' to be a number (got {value!r} of type "
            f'{type(value).__name__}).'
        )
    if math.isnan(value):
        raise ValueError(f"Expected '{name}' to be a number (got NaN).")
    return float(value)
