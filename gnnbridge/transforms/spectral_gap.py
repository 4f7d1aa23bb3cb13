r"""The spectral gap of a graph with self-loops, and its eigenvector."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu

from gnnbridge.transforms.lanczos import largest_eigenpair

# Residual of the eigenvector, for a matrix of norm one.
_TOLERANCE = 1e-13
# Products with the matrix after which equations are solved instead.
_PRODUCTS = 3000
# The multiple of the degrees that makes the Laplacian invertible.
_SHIFT = 1e-7
# How much of a fixed vector is added to the last result to start from.
_FRESH = 1e-2


class SpectralGap:
    r"""The smallest eigenvalue of :math:`L f = \lambda D f` but zero.

    :math:`L` is the Laplacian and :math:`D` the degrees with a self-loop at
    every node, and :math:`f^\top D f = 1`. If :math:`\lambda` is multiple,
    :math:`f` is some vector of its eigenspace, the same in every run.

    Args:
        adjacency: The symmetric weights, without self-loops.
        self_loop_weight: The weight of each self-loop. Nodes of degree zero
            are left out.
        label: The part of each node, from 0, ``[N]``: unions of components.
            Vectors that are constant on each part are the ones left out, so
            that the gap of a part with several components is zero.

    Attributes:
        value: :math:`\lambda`, or 0 if no vector is left.
        vector: :math:`f`, ``[N]``.
    """

    def __init__(
        self,
        adjacency: sparse.csr_array,
        self_loop_weight: float,
        label: np.ndarray,
    ) -> None:
        loops = self_loop_weight * sparse.eye_array(label.size)
        self._graph = (adjacency + loops).tocsr()
        self._label = label
        count = np.arange(1, label.size + 1)
        # Spread evenly, and without the symmetries of a graph.
        self._fixed = count**2 * ((math.sqrt(5) - 1) / 2) % 1 - 0.5
        self._last = np.zeros(label.size)
        self.solve()

    def change(self, u: int, v: int, by: float) -> None:
        """Change the weight of an edge; :meth:`solve` finds the new pair."""
        ends = [u, v], [v, u]
        change = sparse.coo_array(([by, by], ends), self._graph.shape)
        self._graph = (self._graph + change).tocsr()

    def solve(self) -> None:
        """Find the pair of the graph as it is by now."""
        system = _System(self._graph, self._label)
        fixed = system.varying(system.used * self._fixed)
        length = math.sqrt(fixed @ fixed)
        self.value, self.vector = 0.0, np.zeros_like(fixed)
        if length < _TOLERANCE:
            return
        last = system.varying(system.used * self._last)
        start = last + _FRESH / length * fixed
        self._last = system.search(start)
        self.vector = self._last * system.scale
        step = self.vector[system.row] - self.vector[system.column]
        # Each edge is in the matrix twice.
        self.value = float(self._graph.data @ step**2) / 2


class _System:
    r"""The equation in :math:`x = D^{1/2} f`.

    Args:
        graph: The weights, with self-loops.
        label: The part of each node, ``[N]``.

    Attributes:
        row: The row of each stored weight.
        column: Its column.
        used: Which nodes have a degree, ``[N]``.
        scale: The diagonal of :math:`D^{-1/2}`, zero for the others.
    """

    def __init__(self, graph: sparse.csr_array, label: np.ndarray) -> None:
        self.graph, self.label = graph, label
        self.column = graph.indices
        self.row = np.repeat(np.arange(label.size), np.diff(graph.indptr))
        self.degree = graph.sum(axis=1)
        self.root = np.sqrt(self.degree)
        self.used = self.degree > 0
        self.scale = self.used / np.where(self.used, self.root, 1.0)
        weight = graph.data * self.scale[self.row] * self.scale[self.column]
        self.matrix = sparse.csr_array(
            (weight, graph.indices, graph.indptr), graph.shape
        )
        volume = np.bincount(label, self.degree)
        self.inverse_volume = 1 / np.where(volume > 0, volume, 1.0)

    def varying(self, x: np.ndarray) -> np.ndarray:
        """The vector without what is constant on each part."""
        if self.inverse_volume.size == 1:
            return x - (self.root @ x * self.inverse_volume) * self.root
        total = np.bincount(self.label, self.root * x) * self.inverse_volume
        return x - total[self.label] * self.root

    def search(self, start: np.ndarray) -> np.ndarray:
        """The eigenvector, from a vector without constants."""
        found = self._largest(lambda x: self.matrix @ x, start)
        if found is None:
            # A gap that is small against the spectrum, as on a long path.
            found = self._largest(self._inverse(), start)
        if found is None:
            raise RuntimeError('The spectral gap was not found.')
        return found[1]

    def _largest(
        self, apply: Callable[[np.ndarray], np.ndarray], start: np.ndarray
    ) -> tuple[float, np.ndarray] | None:
        return largest_eigenpair(
            lambda x: self.varying(apply(x)),
            start,
            tolerance=_TOLERANCE,
            max_products=_PRODUCTS,
        )

    def _inverse(self) -> Callable[[np.ndarray], np.ndarray]:
        r""":math:`(D^{-1/2} L D^{-1/2} + c I)^{-1}`, with a small :math:`c`."""
        diagonal = (1 + _SHIFT) * self.degree + ~self.used
        laplacian = sparse.diags_array(diagonal) - self.graph
        factors = splu(
            laplacian.tocsc(),
            permc_spec='MMD_AT_PLUS_A',
            diag_pivot_thresh=0.0,
            options={'SymmetricMode': True},
        )
        return lambda x: self.root * factors.solve(self.root * x)
