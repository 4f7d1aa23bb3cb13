"""AFRC: shortcuts around edges of low augmented Forman curvature."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Literal, TypeAlias

import numpy as np
import torch

from gnnbridge.curvature.forman import augmented_forman
from gnnbridge.graph.checks import check_size
from gnnbridge.transforms.base import Recorder, Rewiring
from gnnbridge.transforms.chance import Seed, make_numpy_generator
from gnnbridge.transforms.changes import Changes
from gnnbridge.transforms.input_graph import InputGraph
from gnnbridge.transforms.mixture import fit_two_gaussians
from gnnbridge.transforms.neighbor_sets import Edge, NeighborSets

Choose: TypeAlias = Callable[[set[int]], int]


class AFRC(Rewiring):
    r"""Rewiring by augmented Forman curvature (Fesser and Weber, 2023).

    The method of `"Mitigating over-smoothing and over-squashing using
    augmentations of Forman-Ricci curvature"
    <https://arxiv.org/abs/2309.09384>`_, AFR-3 or AFR-4: edges of low
    curvature

    .. math::
        F_3(u, v) = 4 - d_u - d_v + 3 \, \triangle(u, v), \qquad
        F_4(u, v) = F_3(u, v) + 2 \, \square(u, v)

    (:func:`~gnnbridge.curvature.augmented_forman`) get a shortcut
    :math:`w \sim v` from a random neighbour :math:`w \in N(u) \setminus N(v)`
    or, where there is none, :math:`u \sim w` to one
    :math:`w \in N(v) \setminus N(u)`. Edges of high curvature may be removed.
    Which is low and which is high can be left to the graph: with two
    Gaussians of means :math:`\mu_1 < \mu_2` and standard deviations
    :math:`\sigma_1, \sigma_2` fitted to the curvatures,

    .. math::
        \text{low} < \frac{\mu_1 \sigma_2 + \mu_2 \sigma_1}
        {\sigma_1 + \sigma_2}, \qquad \text{high} > \mu_2 + \sigma_2

    Shortcuts are added in the order of the curvatures, each to the graph that
    the ones before have left. When a given number asks for more of them than
    there are edges, curvatures are computed anew and the next round begins.
    Removals come last, and go by the curvatures of the input.

    Weights play no part, as the formula has none. In a graph with directions,
    causal or not, the curvatures are those of the graph without them: a
    shortcut :math:`w \to v` past :math:`w \to u \to v` makes no directed
    cycle, but a triangle all the same. The :math:`w` is then one before
    :math:`u`, or one after :math:`v`: a causal graph stays causal. Components,
    isolated nodes and graphs without edges need no care.

    Changes have no trace, and a step is one edge. Takes time in the order of
    the cycles that are counted, plus the degrees of the edges that get one.

    .. note::
        The released code overwrites all curvatures with zeros, and changes
        nothing; it would count each edge of an undirected graph twice, and
        draw self-loops. Its mixture starts from clusters that are drawn at
        random. Here it starts from the best two, and gives the same limits
        where those are drawn, too.

    Args:
        num_edges: The number of edges to add: one in each direction, or a
            single one in a graph with directions. If not given, one for each
            edge of low curvature.
        cycles: The length of the longest cycles to count, 3 or 4.
        num_removed: The number of edges of largest curvature to remove. If
            not given, none if there is a `num_edges`, and else those of high
            curvature.
        seed: For drawing :math:`w`; ``None`` takes the smallest node. In a
            triangle more there is no difference between them.
        causal: See :class:`~gnnbridge.transforms.base.Rewiring`.

    Raises:
        TypeError: If `num_edges` or `num_removed` is not an integer.
        ValueError: If one of them is negative, or `cycles` neither 3 nor 4.

    Example:
        >>> path = to_undirected(torch.tensor([[0, 1, 2], [1, 2, 3]]))
        >>> AFRC(1, seed=None).plan(path).added  # F(1, 2) = 0, the others 1
        tensor([[0, 2],
                [2, 0]])
    """

    def __init__(
        self,
        num_edges: int | None = None,
        *,
        cycles: Literal[3, 4] = 3,
        num_removed: int | None = None,
        seed: Seed | None = 0,
        causal: bool | None = None,
    ) -> None:
        super().__init__(causal=causal)
        if num_edges is not None:
            check_size('num_edges', num_edges, minimum=0)
        if num_removed is not None:
            check_size('num_removed', num_removed, minimum=0)
        if cycles not in (3, 4):
            raise ValueError(f"Expected 'cycles' to be 3 or 4 (got {cycles}).")
        self.num_edges = num_edges
        self.cycles = cycles
        self.num_removed = num_removed
        self.seed = seed

    def _plan(self, graph: InputGraph) -> Changes:
        neighbors = NeighborSets(graph)
        recorder = Recorder(graph, directed=neighbors.directed)
        ranked, curvature = self._ranked(neighbors)
        num_low, num_high = self._numbers(curvature)
        # The last ones are the highest, but of equals the first goes first.
        surplus = [ranked[at] for at in (-curvature).argsort(kind='stable')]
        choose = _chooser(self.seed)
        if self.num_edges is None:
            added = _shortcuts(neighbors, ranked[:num_low], choose)
        else:
            added = islice(
                self._rounds(neighbors, ranked, choose), self.num_edges
            )
        for edge in added:
            recorder.add(*edge)
            recorder.end_step()
        missing = recorder.step < (self.num_edges or 0)
        for edge in surplus[:num_high]:
            recorder.remove(*edge)
            recorder.end_step()
        return recorder.changes(exhausted=missing or num_high > len(surplus))

    def _ranked(self, neighbors: NeighborSets) -> tuple[list[Edge], np.ndarray]:
        """The edges by now, lowest first, and their curvatures."""
        edges = neighbors.edges()
        both = np.concatenate([edges, edges[::-1]], axis=1)
        value = augmented_forman(
            torch.from_numpy(both),
            num_nodes=len(neighbors.after),
            cycles=self.cycles,
            directed=False,
        ).numpy()[: edges.shape[1]]
        order = value.argsort(kind='stable')
        ranked = list(zip(*edges[:, order].tolist(), strict=True))
        return ranked, value[order]

    def _numbers(self, curvature: np.ndarray) -> tuple[int, int]:
        """How many edges are of low curvature, and how many to remove."""
        low = high = 0
        fit = fit_two_gaussians(curvature)
        if fit is not None:
            low = int((curvature < fit.crossing).sum())
            high = int((curvature > fit.high).sum())
        if self.num_removed is not None:
            return low, self.num_removed
        return low, high if self.num_edges is None else 0

    def _rounds(
        self, neighbors: NeighborSets, ranked: list[Edge], choose: Choose
    ) -> Iterator[Edge]:
        """Shortcuts for all edges in turn, again and again."""
        found = True
        while found:
            found = False
            for edge in _shortcuts(neighbors, ranked, choose):
                found = True
                yield edge
            ranked, _ = self._ranked(neighbors)


def _shortcuts(
    neighbors: NeighborSets, edges: list[Edge], choose: Choose
) -> Iterator[Edge]:
    """Add a shortcut to each of the edges that can have one."""
    before, after = neighbors.before, neighbors.after
    for u, v in edges:
        if near := before[u] - before[v] - {v}:
            shortcut = choose(near), v
        elif near := after[v] - after[u] - {u}:
            shortcut = u, choose(near)
        else:
            continue
        neighbors.add(*shortcut)
        yield shortcut


def _chooser(seed: Seed | None) -> Choose:
    if seed is None:
        return min
    generator = make_numpy_generator(seed)
    return lambda nodes: sorted(nodes)[generator.integers(len(nodes))]
