"""FoSR: edges that widen the spectral gap, by its first-order change."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from gnnbridge.graph.checks import check_size
from gnnbridge.transforms.base import Recorder
from gnnbridge.transforms.chance import Seed, make_generator
from gnnbridge.transforms.changes import Changes
from gnnbridge.transforms.input_graph import InputGraph
from gnnbridge.transforms.lazy_neighbors import LazyNeighbors
from gnnbridge.transforms.pair_search import best_free_pair
from gnnbridge.transforms.weighted import WeightedRewiring

# What is left of a vector of length one, if it is shorter, is rounding.
_NOTHING = 1e-12


class FoSR(WeightedRewiring):
    r"""First-order spectral rewiring.

    The algorithm of `"FoSR: First-order spectral rewiring for addressing
    oversquashing in GNNs" <https://arxiv.org/abs/2210.11790>`_ (Karhadkar,
    Banerjee and Montúfar, 2023) as released: :math:`x` estimates the second
    eigenvector of :math:`\hat A = D^{-1/2} A D^{-1/2}`, and each step adds the
    pair without an edge that has the smallest

    .. math::
        \frac{x_u x_v}{\sqrt{(d_u + 1) (d_v + 1)}}

    followed by a step of the power iteration, with :math:`s = \sqrt d`,

    .. math::
        x \leftarrow x - \frac{x^\top s}{s^\top s} s, \qquad
        x \leftarrow \frac{(I + \hat A) x}{\lVert (I + \hat A) x \rVert}

    With few power iterations :math:`x` is far from the eigenvector, and the
    edges depend on where it starts; more make better estimates, not always
    better edges. The gap may fall.

    The trace is an estimate of the spectral gap :math:`\lambda_2`,
    :math:`1 - x^\top \hat A x` for the vector that chose the last edge (the
    first one, before any), made orthogonal to :math:`s` and of length one. It
    is no less than the gap, and 1 if nothing is left of the vector.

    Directions do not count, and in a causal graph each edge goes to the later
    node. Components are joined as soon as the estimate tells them apart: a
    node without edges is one, with the eigenvalue 1, where the released code
    divides by its degree.

    A step takes :math:`O(E + N \log N)` operations, as pairs are found from
    the sorted nodes and not among all.

    Args:
        num_edges: How many edges to add; pairs, unless the graph is causal.
        power_iterations: Steps of the power iteration before the first edge.
        start: The vector :math:`x` to start from, ``[N]``; uniform between -1
            and 1 if not given.
        seed: A seed or a generator for the start.
        weighted: Whether ``edge_weight`` counts, in :math:`A` and in
            :math:`d`; an added edge has the weight 1.
        causal: Whether only edges to later nodes may be added; inferred from
            the graph if not given.

    Raises:
        ValueError: If `start` is not one finite number for each node.
    """

    def __init__(
        self,
        num_edges: int,
        power_iterations: int = 5,
        start: Tensor | None = None,
        *,
        seed: Seed = 0,
        weighted: bool = True,
        causal: bool | None = None,
    ) -> None:
        super().__init__(weighted=weighted, causal=causal)
        self.num_edges = check_size('num_edges', num_edges, minimum=0)
        self.power_iterations = check_size(
            'power_iterations', power_iterations, minimum=0
        )
        self.start = start
        self.seed = seed

    def _plan(self, graph: InputGraph) -> Changes:
        size, adjacency = graph.num_nodes, graph.skeleton.adjacency()
        neighbors = LazyNeighbors(adjacency)
        if not self.weighted:
            adjacency = graph.skeleton.adjacency(weighted=False)
        room = min(self.num_edges, size * (size - 1) // 2)
        estimate = _Estimate(adjacency, self._start(size), room)
        recorder = Recorder(graph, 'spectral gap estimate')
        for _ in range(self.power_iterations):
            estimate.step()
        recorder.start(1 - estimate.quotient())
        for _ in range(self.num_edges):
            pair = best_free_pair(
                estimate.values(), neighbors, lambda a, b: -a * b
            )
            if pair is None:
                return recorder.changes(exhausted=True)
            u, v = pair
            recorder.add(u, v)
            neighbors.add(u, v)
            estimate.add(u, v)
            recorder.end_step(1 - estimate.step())
        return recorder.changes()

    def _start(self, size: int) -> np.ndarray:
        if self.start is None:
            generator = make_generator(self.seed)
            drawn = torch.rand(size, generator=generator, dtype=torch.float64)
            return 2 * drawn.numpy() - 1
        given = torch.as_tensor(self.start).detach().double().cpu()
        if given.shape != (size,) or not given.isfinite().all():
            raise ValueError(
                f"Expected 'start' to hold one finite number for each of the "
                f'{size} nodes (got shape {list(given.shape)}).'
            )
        return given.numpy()


class _Estimate:
    r"""The vector :math:`x`, and the graph as it grows.

    Args:
        adjacency: The matrix of the graph.
        start: The vector to start from, ``[N]``.
        room: For how many more edges to leave room.
    """

    def __init__(
        self, adjacency: sparse.csr_array, start: np.ndarray, room: int
    ) -> None:
        self.adjacency, self.vector = adjacency, start
        self.degree = adjacency.sum(axis=1)
        self.root = np.sqrt(self.degree)
        self.alone = self.root == 0
        self.inverse = 1 / (self.root + self.alone)
        self.ends = np.empty((2, 2 * room), dtype=np.int64)
        self.used = 0

    def values(self) -> np.ndarray:
        """What the score of a pair is the product of."""
        return self.vector / np.sqrt(self.degree + 1)

    def add(self, u: int, v: int) -> None:
        """Add an edge."""
        self.ends[:, self.used : self.used + 2] = [[u, v], [v, u]]
        self.used += 2
        for node in (u, v):
            self.degree[node] += 1
            self.root[node] = math.sqrt(self.degree[node])
            self.inverse[node] = 1 / self.root[node]
            self.alone[node] = False

    def step(self) -> float:
        """One power step, from the :meth:`quotient` that is returned."""
        x, image, quotient = self._apply()
        # Nothing is left of a vector of eigenvalue -1, as that of one edge.
        moved = _without_rounding(x + image, x)
        self.vector = moved / (math.sqrt(moved @ moved) or 1.0)
        return quotient

    def quotient(self) -> float:
        r""":math:`x^\top \hat A x / x^\top x` for :math:`x \perp s`."""
        return self._apply()[-1]

    def _apply(self) -> tuple[np.ndarray, np.ndarray, float]:
        """The vector without the first eigenvector, and its image."""
        x, root = self.vector, self.root
        volume = root @ root
        if volume > 0:
            x = _without_rounding(x - (x @ root) / volume * root, x)
        scaled = x * self.inverse
        image = self.adjacency @ scaled
        target, source = self.ends[:, : self.used]
        np.add.at(image, target, scaled[source])
        image *= self.inverse
        image += self.alone * x
        return x, image, float(x @ image / (x @ x or 1.0))


def _without_rounding(rest: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """What is left of a vector, or zeros if that is no more than rounding."""
    if rest @ rest > _NOTHING**2 * (whole @ whole):
        return rest
    return np.zeros_like(rest)
