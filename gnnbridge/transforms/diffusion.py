"""GDC: the edges of a graph replaced by those of a diffusion on it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, get_args

import numpy as np
import torch
from scipy import sparse

from gnnbridge.graph.checks import check_size
from gnnbridge.transforms.at_once import AtOnce
from gnnbridge.transforms.diffusion_matrix import (
    Normalization,
    diffusion_matrix,
    heat_coefficients,
    pagerank,
    polynomial,
    pushed_pagerank,
)
from gnnbridge.transforms.entries import (
    at_least,
    entries,
    largest,
    largest_of_each,
    normalized,
    replace_edges,
)
from gnnbridge.transforms.input_graph import InputGraph
from gnnbridge.transforms.weighted import WeightedRewiring

Method = Literal['ppr', 'heat', 'coeff']


class Diffusion(WeightedRewiring):
    r"""Graph diffusion convolution (GDC, DIGL).

    `"Diffusion Improves Graph Learning" <https://arxiv.org/abs/1911.05485>`_:
    with :math:`T` the normalised weights after a self-loop was added to each
    node, the edges become the large entries of

    .. math::
        S = \sum_{k=0}^{\infty} \theta_k T^k, \qquad
        \theta_k = \alpha (1 - \alpha)^k \text{ (ppr)}, \quad
        e^{-t} \frac{t^k}{k!} \text{ (heat)}, \quad
        \text{or given (coeff)}

    normalised again. A matrix has the source in its rows and the target in
    its columns, as in PyG's ``GDC``: ``'col'`` makes the weights *into* each
    node sum to one, as those of attention do.

    ``edge_weight`` of the output are the new weights of all edges, and edges
    that the diffusion does not keep are removed. Those that stay have their
    other attributes; repeated edges count with the sum of their weights, and
    share the new one. New edges come sorted by source, then target.

    A diffusion follows the edges: directed graphs, and weights, are taken as
    they are, causal graphs stay causal, and nothing is spread between parts
    that are not connected. Entries are never zero, so a graph that is small
    or in parts may have fewer edges than asked for. Equal entries are kept or
    left together by a threshold; `k` may break the symmetry of an undirected
    graph, as it does in the paper. In float64, and not differentiable.

    The exact form takes :math:`O(N^2)` memory and :math:`O(N^3)` time. With
    ``exact=False`` PageRank is found by pushing, in memory proportional to
    what is found, with the error that `tolerance` bounds: in an undirected
    graph without weights at most :math:`\epsilon \, d_i` of :math:`S_{ij}`
    for ``'col'``, :math:`\epsilon \, d_j` for ``'row'`` and
    :math:`\epsilon \sqrt{d_i d_j}` for ``'sym'``.

    .. note::
        PyG's ``GDC`` computes in float32, reads weights from ``edge_attr``,
        fails if `avg_degree` is the number of nodes, and keeps edges of
        weight zero, backward ones of causal graphs among them, if it is
        larger. Its fast form has no weights.

    Args:
        method: ``'ppr'``, ``'heat'`` or ``'coeff'``.
        alpha: The chance :math:`\alpha` to return, for ``'ppr'``.
        t: The time, for ``'heat'``.
        coefficients: :math:`\theta_0, \theta_1, \ldots`, not negative, for
            ``'coeff'``.
        self_loop_weight: The weight of the self-loop that is added to each
            node before; none if ``None``.
        normalization_in: ``'sym'``, ``'col'`` or ``'row'``. ``'sym'`` has the
            sums over incoming edges on both sides.
        normalization_out: The same for the output, or ``None``.
        eps: Keep the entries of at least this.
        avg_degree: Keep the largest ones, so many for each node on average;
            64 if none of the three is given.
        k: Keep so many in each column, or row.
        dim: Whether these are the sources of each target (0), or the targets
            of each source (1).
        exact: Whether to compute all of :math:`S`, or to push.
        tolerance: The :math:`\epsilon` for ``exact=False``.
        weighted: Whether ``edge_weight`` counts.
        self_loops: Whether the self-loops of :math:`S` become edges where the
            input had none. By default as in PyG, they do, but not in causal
            graphs. Without, the others share the weight.
        causal: Whether only edges to later nodes may be added; inferred from
            the graph if not given.

    Raises:
        ValueError: If an argument is out of range, or several of `eps`,
            `avg_degree` and `k` are given.
        NotImplementedError: If ``exact=False`` meets another method than
            ``'ppr'``.
    """

    def __init__(
        self,
        method: Method = 'ppr',
        *,
        alpha: float = 0.15,
        t: float = 5.0,
        coefficients: Sequence[float] | None = None,
        self_loop_weight: float | None = 1.0,
        normalization_in: Normalization = 'sym',
        normalization_out: Normalization | None = 'col',
        eps: float | None = None,
        avg_degree: int | None = None,
        k: int | None = None,
        dim: int = 0,
        exact: bool = True,
        tolerance: float = 1e-4,
        weighted: bool = True,
        self_loops: bool | None = None,
        causal: bool | None = None,
    ) -> None:
        super().__init__(weighted=weighted, causal=causal)
        self.method, self.exact = method, exact
        self.alpha, self.t, self.tolerance = alpha, t, tolerance
        self.coefficients = coefficients
        self.self_loop_weight, self.self_loops = self_loop_weight, self_loops
        self.normalization_in = normalization_in
        self.normalization_out = normalization_out
        self.eps, self.avg_degree, self.k, self.dim = eps, avg_degree, k, dim
        self._check_method()
        self._check_numbers()

    def _plan(self, graph: InputGraph) -> AtOnce:
        A = self._matrix(graph)
        S = self._exact(A) if self.exact else self._pushed(A)
        loops = self.self_loops
        found = entries(S, graph, not graph.causal if loops is None else loops)
        if self.k is not None:
            found = largest_of_each(found, self.k, self.dim)
        elif self.eps is not None:
            found = at_least(found, self.eps)
        else:
            degree = 64 if self.avg_degree is None else self.avg_degree
            found = largest(found, degree * graph.num_nodes)
        weight = normalized(found, self.normalization_out, graph.num_nodes)
        return replace_edges(graph, found.edges, weight)

    def _matrix(self, graph: InputGraph) -> sparse.coo_array:
        """The weights with self-loops, row = source."""
        source, target = graph.edge_index.cpu().numpy()
        weight = np.ones(source.size)
        if self.weighted and graph.edge_weight is not None:
            weight = graph.edge_weight.detach().double().cpu().numpy()
        size = graph.num_nodes
        if self.self_loop_weight:
            nodes = np.arange(size)
            source = np.concatenate([source, nodes])
            target = np.concatenate([target, nodes])
            loops = np.full(size, float(self.self_loop_weight))
            weight = np.concatenate([weight, loops])
        return sparse.coo_array((weight, (source, target)), shape=(size, size))

    def _exact(self, A: sparse.coo_array) -> np.ndarray:
        if self.method == 'ppr':
            diffuse = partial(pagerank, alpha=self.alpha)
        else:
            coefficients = (
                heat_coefficients(self.t)
                if self.method == 'heat'
                else np.array(self.coefficients, dtype=np.float64)
            )
            diffuse = partial(polynomial, coefficients=coefficients)
        dense = torch.from_numpy(A.toarray())
        S = diffusion_matrix(dense, self.normalization_in, diffuse)
        return S.numpy()

    def _pushed(self, A: sparse.coo_array) -> sparse.csr_array:
        return pushed_pagerank(
            A.tocsr(), self.normalization_in, self.alpha, self.tolerance
        )

    def _check_method(self) -> None:
        _check_choice('method', self.method, get_args(Method))
        choices = get_args(Normalization)
        _check_choice('normalization_in', self.normalization_in, choices)
        choices = (*choices, None)
        _check_choice('normalization_out', self.normalization_out, choices)
        if (self.method == 'coeff') != (self.coefficients is not None):
            raise ValueError(
                f"Expected 'coefficients' for method='coeff' and no other "
                f'(got method={self.method!r}, '
                f'coefficients={self.coefficients}).'
            )
        if self.coefficients is not None:
            given = np.array(self.coefficients, dtype=np.float64)
            good = given.ndim == 1 and np.isfinite(given).all()
            if not (good and (given >= 0).all() and given.sum() > 0):
                raise ValueError(
                    "Expected 'coefficients' that are finite and not "
                    f'negative, one of them positive (got {given.tolist()}).'
                )
        if not self.exact and self.method != 'ppr':
            raise NotImplementedError(
                f"Expected method='ppr' for exact=False (got "
                f'{self.method!r}). Use exact=True instead.'
            )

    def _check_numbers(self) -> None:
        if not 0 < self.alpha <= 1:
            raise ValueError(
                f"Expected 'alpha' to be in (0, 1] (got {self.alpha})."
            )
        for name in ('t', 'tolerance'):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(
                    f"Expected '{name}' to be positive and finite (got "
                    f'{getattr(self, name)}).'
                )
        if not 0 <= (self.self_loop_weight or 0) < math.inf:
            raise ValueError(
                "Expected 'self_loop_weight' to be finite and not negative "
                f'(got {self.self_loop_weight}).'
            )
        given = [self.eps, self.avg_degree, self.k]
        if sum(value is not None for value in given) > 1:
            raise ValueError(
                "Expected at most one of 'eps', 'avg_degree' and 'k' (got "
                f'eps={self.eps}, avg_degree={self.avg_degree}, k={self.k}).'
            )
        if self.eps is not None and not 0 <= self.eps < math.inf:
            raise ValueError(
                f"Expected 'eps' to be finite and not negative (got "
                f'{self.eps}).'
            )
        for name in ('avg_degree', 'k'):
            if getattr(self, name) is not None:
                check_size(name, getattr(self, name))
        _check_choice('dim', self.dim, (0, 1))


def _check_choice(name: str, value: Any, choices: tuple[Any, ...]) -> None:
    if value not in choices:
        *others, last = map(repr, choices)
        raise ValueError(
            f"Expected '{name}' to be {', '.join(others)} or {last} (got "
            f'{value!r}).'
        )
