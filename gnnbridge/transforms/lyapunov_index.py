r"""The total Lyapunov resistance of a digraph, and what edges do to it.

With the Laplacian :math:`L` of the receivers and :math:`J = I - 1 1^\top / n`
it is :math:`K = 2 n \, \mathrm{tr} \Sigma`, where :math:`J L \Sigma + \Sigma
L^\top J = J` and :math:`\Sigma 1 = 0`. On causal graphs the equation without
the root is solved, which is triangular.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gnnbridge.graph.dense import edges_to_dense
from gnnbridge.spectral.classes import members
from gnnbridge.spectral.laplacian import off_diagonal
from gnnbridge.spectral.sylvester import solve_lyapunov
from gnnbridge.transforms.input_graph import InputGraph
from gnnbridge.transforms.ties import TOLERANCE, level

# Candidates whose exact gain is computed: so many at least, and more in small
# graphs, as long as their matrices have no more entries.
_EXACT, _ENTRIES = 32, 1 << 18
# Entries of the matrices of one batch.
_BATCH = 1 << 20


class DirectedNetwork:
    """A digraph to which edges are added.

    Args:
        graph: The graph, with one closed class.
        weighted: Whether weights count.
        conductance: The weight of a new edge.

    Attributes:
        total: The total resistance.
        gain: By how much the best edge lowers it; 0 if none does.
        best: The best edge, source and target.
    """

    def __init__(
        self, graph: InputGraph, weighted: bool, conductance: float
    ) -> None:
        self.causal, self.conductance = graph.causal, conductance
        edges, size = graph.edge_index.cpu(), graph.num_nodes
        weight = graph.edge_weight if weighted else None
        if weight is not None:
            weight = weight.detach().cpu()
        A = off_diagonal(edges_to_dense(edges, weight, size))
        # Without weights an edge counts once, however often it is there.
        self.weight = A.clamp(max=1) if weight is None else A
        _check_one_class(self.weight)
        there = edges_to_dense(edges, None, size) > 0
        self.free = ~there.fill_diagonal_(True)
        if self.causal:
            self.free.tril_()
        self._search()

    def add(self, source: int, target: int) -> None:
        """Add an edge."""
        self.weight[target, source] += self.conductance
        self.free[target, source] = False
        self._search()

    def _search(self) -> None:
        laplacian = _laplacian(self.weight).requires_grad_()
        total = total_lyapunov_resistance(laplacian, self.causal)
        self.total = float(total.detach())
        self.gain, self.best = 0.0, (0, 0)
        if not self.free.any():
            return
        (slope,) = torch.autograd.grad(total, laplacian)
        # The edge adds e_i (e_i - e_j)' to the Laplacian.
        slope = slope.diagonal().unsqueeze(-1) - slope
        pairs = self._promising(slope)
        gains = self.total - self._totals(pairs)
        best = float(gains.max())
        if best > TOLERANCE * self.total:
            place = int((gains >= best - TOLERANCE * self.total).nonzero()[0])
            target, source = pairs[:, place].tolist()
            self.gain, self.best = best, (source, target)

    def _promising(self, slope: Tensor) -> Tensor:
        """Candidates of the steepest descent, by source and target."""
        source, target = self.free.T.nonzero().T
        steep = level(slope[target, source].numpy())
        count = max(_EXACT, _ENTRIES // slope.numel())
        chosen = np.sort(steep.argsort(kind='stable')[:count])
        return torch.stack([target, source])[:, chosen]

    def _totals(self, pairs: Tensor) -> Tensor:
        """The totals with one edge more, for each of several edges."""
        found = []
        size = len(self.weight)
        for target, source in pairs.split(max(_BATCH // size**2, 1), dim=1):
            changed = self.weight.repeat(len(target), 1, 1)
            number = torch.arange(len(target))
            changed[number, target, source] += self.conductance
            laplacian = _laplacian(changed)
            found.append(total_lyapunov_resistance(laplacian, self.causal))
        return torch.cat(found)


def total_lyapunov_resistance(laplacian: Tensor, causal: bool) -> Tensor:
    r"""The sum of the resistances over all pairs.

    Args:
        laplacian: Laplacians :math:`(*, n, n)` with a single eigenvalue zero.
        causal: Whether they are lower triangular.
    """
    size = laplacian.size(-1)
    if size == 1:
        return laplacian.sum((-2, -1))
    one = torch.ones_like(laplacian)
    eye = torch.eye(size, dtype=laplacian.dtype)
    if causal:
        right = 2 * (eye + one)[..., 1:, 1:]
        S = solve_lyapunov(laplacian[..., 1:, 1:], right, 'recursive')
        return size * S.diagonal(dim1=-2, dim2=-1).sum(-1) - S.sum((-2, -1))
    # The constant vector gets an eigenvalue like the others.
    rate = laplacian.detach().diagonal(dim1=-2, dim2=-1).mean(-1)
    matrix = laplacian - laplacian.mean(-2, keepdim=True)
    matrix = matrix + rate[..., None, None] / size
    S = solve_lyapunov(matrix, eye - one / size, 'smith')
    return 2 * size * S.diagonal(dim1=-2, dim2=-1).sum(-1)


def _laplacian(weight: Tensor) -> Tensor:
    return torch.diag_embed(weight.sum(-1)) - weight


def _check_one_class(weight: Tensor) -> None:
    classes = members(weight)
    if len(classes) > 1:
        first, second = (int(tokens[0]) for tokens in classes[:2])
        raise ValueError(
            f'Expected a graph in which all walks against the edges end in '
            f"one closed class for kind='lyapunov' (got nodes {first} and "
            f"{second} in different ones). Use kind='undirected' instead."
        )
