r"""The total resistance of an undirected graph, and what edges do to it.

With :math:`M = L^+` and :math:`e = e_s - e_t`, an edge of conductance
:math:`c` between :math:`s` and :math:`t` lowers :math:`n \, \mathrm{tr} M` by

.. math::
    \frac{n c B_{st}}{1 + c R_{st}}, \qquad
    R_{st} = e^\top M e, \quad B_{st} = e^\top M^2 e

and takes :math:`u u^\top` from :math:`M`, with :math:`u = \sqrt\kappa \, M e`
and :math:`\kappa = c / (1 + c R_{st})` (Sherman and Morrison).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.sparse.csgraph import connected_components

from gnnbridge.transforms.input_graph import Skeleton
from gnnbridge.transforms.score_tiles import ScoreTiles
from gnnbridge.transforms.ties import TOLERANCE

# Relative error of resistances that is too large.
_LOST = 1e-4
# Edges after which the matrices are brought up to date.
_EDGES = 64


class Conductors:
    """An undirected graph to which edges are added, within its components.

    Args:
        skeleton: The graph.
        weighted: Whether weights count.
        conductance: That of a new edge.
    """

    def __init__(
        self, skeleton: Skeleton, weighted: bool, conductance: float
    ) -> None:
        there = skeleton.adjacency(weighted=False)
        weights = skeleton.adjacency(weighted)
        weights.eliminate_zeros()
        count, self.label = connected_components(weights, directed=False)
        # In each component by degree: nodes of about the same degree change
        # about as much.
        order = np.lexsort((weights.sum(axis=1), self.label))
        bounds = np.searchsorted(self.label[order], np.arange(count + 1))
        self.parts: dict[int, _Component] = {}
        for label in np.flatnonzero(np.diff(bounds) > 1):
            nodes = order[bounds[label] : bounds[label + 1]]
            inner = np.ix_(nodes, nodes)
            self.parts[int(label)] = _Component(
                weights[inner].toarray(),
                there[inner].toarray() > 0,
                conductance,
                nodes,
            )

    @property
    def total(self) -> float:
        """The total resistance, without pairs in different components."""
        return sum(part.total for part in self.parts.values())

    @property
    def gain(self) -> float:
        """By how much the best edge lowers it; 0 without candidates."""
        return max((part.gain for part in self.parts.values()), default=0.0)

    @property
    def best(self) -> tuple[int, int]:
        """The best edge, the first of several."""
        least = self.gain * (1 - TOLERANCE)
        parts = self.parts.values()
        return min(part.best for part in parts if part.gain >= least)

    def add(self, u: int, v: int) -> None:
        """Add an edge."""
        self.parts[int(self.label[u])].add(u, v)


class _Component:
    r"""One component.

    The scores of all candidates are in tiles. Of :math:`M` and :math:`M^2` an
    edge takes two columns each, so that these are those of some edges before,
    less :math:`U^\top U` and :math:`U^\top W + W^\top U`.

    Args:
        weights: Its conductances, ``[n, n]``.
        taken: The pairs that are no candidates, ``[n, n]`` bool.
        conductance: That of a new edge.
        nodes: The names of the nodes, ``[n]``.

    Attributes:
        total: The total resistance.
    """

    def __init__(
        self,
        weights: np.ndarray,
        taken: np.ndarray,
        conductance: float,
        nodes: np.ndarray,
    ) -> None:
        self.size, self.conductance = len(weights), conductance
        self.nodes = nodes
        inverse = _pseudo_inverse(weights)
        self._inverse = inverse.numpy()
        self._square = (inverse @ inverse).numpy()
        self._u = self._w = self._inverse[:0]
        self.total = self.size * float(self._inverse.trace())
        self._scores = ScoreTiles(
            self._square, self._inverse, conductance, taken
        )

    @property
    def gain(self) -> float:
        """By how much the best edge lowers the total; 0 without candidates."""
        return self.size * self.conductance * self._scores.best()

    @property
    def best(self) -> tuple[int, int]:
        """The best edge, by the names of its nodes; the first of several."""
        least = self._scores.best() * (1 - TOLERANCE)
        names = np.sort(self.nodes[self._scores.pairs_above(least)], axis=0)
        u, v = names[:, np.lexsort(names[::-1])[0]].tolist()
        return u, v

    def add(self, first: int, second: int) -> None:
        """Add an edge between two nodes, by their names."""
        s = int((self.nodes == first).argmax())
        t = int((self.nodes == second).argmax())
        along_u = self._u[:, s] - self._u[:, t]
        along_w = self._w[:, s] - self._w[:, t]
        v = self._inverse[s] - self._inverse[t] - along_u @ self._u
        image = self._square[s] - self._square[t]
        image -= along_w @ self._u + along_u @ self._w
        c = self.conductance
        scale = math.sqrt(c / (1 + c * (v[s] - v[t])))
        u = scale * v
        length = u @ u
        w = scale * image - length / 2 * u
        self.total -= self.size * float(length)
        self._scores.change(s, t, u, w)
        self._u, self._w = np.vstack([self._u, u]), np.vstack([self._w, w])
        if len(self._u) == _EDGES:
            mixed = self._u.T @ self._w
            self._square -= mixed + mixed.T
            self._inverse -= self._u.T @ self._u
            self._u = self._w = self._inverse[:0]


def _pseudo_inverse(weights: np.ndarray) -> torch.Tensor:
    """That of the Laplacian of a connected network."""
    size = len(weights)
    laplacian = np.diag(weights.sum(axis=0)) - weights
    # The constant vector gets an eigenvalue like the others.
    level = laplacian.trace() / size**2
    factor, failed = torch.linalg.cholesky_ex(
        torch.from_numpy(laplacian + level)
    )
    inverse = torch.cholesky_inverse(factor) - 1 / (level * size**2)
    # Foster's theorem: the resistances of the edges, by their conductances,
    # add up to one for each node but one.
    total = np.vdot(laplacian, inverse.numpy())
    if failed or not abs(total - (size - 1)) < _LOST * size:
        raise ValueError(
            f'Expected weights that let resistances be computed (got ones '
            f'from {weights[weights > 0].min():.3g} to {weights.max():.3g}). '
            f'Leave the smallest out, or use weighted=False.'
        )
    return inverse
