"""Lyapunov resistances of long contexts, by random probes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from gnnbridge.graph.checks import check_size, is_integer
from gnnbridge.graph.dense import as_attention
from gnnbridge.spectral.arguments import check_dtype
from gnnbridge.spectral.laplacian import off_diagonal
from gnnbridge.spectral.sparse import (
    SparseEdges,
    TriangularSystem,
    causal_edges,
)
from gnnbridge.spectral.walk import is_lower

Solver: TypeAlias = Callable[[Tensor, Tensor], Tensor]

# The sum over depths is cut where it is this much smaller than what the
# probes leave uncertain.
_CUT = 1e-2
_MAX_STEPS = 100_000


def resistance_sketch(
    edge_index: Tensor,
    edge_weight: Tensor | None = None,
    num_nodes: int | None = None,
    *,
    num_probes: int = 64,
    root: str = 'keep',
    generator: torch.Generator | None = None,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    r"""Points whose squared distances estimate the Lyapunov resistance.

    .. math::
        r_{ij} \approx \lVert z_i - z_j \rVert^2

    without bias but for a cut of the sum over depths that is far below the
    noise; the relative standard deviation of each pair is :math:`\sqrt{2 /
    p}` for :math:`p` probes, 0.18 for 64. Each step of the squared Smith
    iteration's plain form is one triangular solve with :math:`p` right-hand
    sides, so that edges of a causal graph are never made dense.

    Args:
        edge_index: The edges of a causal graph with one root, source first
            and receiver second, or the matrix :math:`A` itself (then without
            the next two arguments).
        edge_weight: The weight of each edge; ones if not given.
        num_nodes: The number of tokens; inferred if not given.
        num_probes: The number of probes :math:`p`.
        root: ``'keep'`` or ``'leak'``; see
            :func:`~gnnbridge.spectral.lyapunov_resistance`.
        generator: Draws the probes; if not given one with seed 0.
        dtype: The precision, ``torch.float64`` or ``torch.float32``.

    Shapes:
        - **input:** edges :math:`(2, E)` and weights :math:`(E)`, or a
          matrix :math:`(*, N, N)`
        - **output:** :math:`(*, N, p)`

    Returns:
        The points, in `dtype`; that of the root is zero.
        ``torch.cdist(z, z).square()`` has all pairs, ``(z - z[-1])
        .square().sum(-1)`` those of the last token.

    Raises:
        ValueError: If the graph is not causal or has several roots, a weight
            is negative, `num_probes` or `root` do not fit, or the walk stays
            too long at a token.
    """
    check_dtype(dtype)
    check_size('num_probes', num_probes)
    if root not in ('keep', 'leak'):
        raise ValueError(
            f"Expected 'root' to be 'keep' or 'leak' (got {root!r})."
        )
    if generator is None:
        generator = torch.Generator().manual_seed(0)
    if is_integer(edge_index) and (
        edge_weight is None or edge_weight.dim() < 2
    ):
        edges = causal_edges(edge_index, edge_weight, num_nodes, dtype)
        if edges is None:
            raise _not_causal()
        solve, rate = _sparse_solver(edges)
    else:
        A = as_attention(edge_index, edge_weight, num_nodes)
        solve, rate = _dense_solver(A, dtype)
    return _iterate(solve, rate, num_probes, root, generator)


def _iterate(
    solve: Solver,
    rate: Tensor,
    num_probes: int,
    root: str,
    generator: torch.Generator,
) -> Tensor:
    r"""Steps of :math:`z \leftarrow C z + 2 \sqrt \mu (L + \mu)^{-1} \omega`.

    with :math:`C = (L + \mu)^{-1} (\mu - L)`. A column of ones among the
    probes, without noise, tells how much of the start is left.
    """
    if rate.size(-1) == 1:
        return rate.new_zeros(*rate.shape, num_probes)
    cut = _CUT * math.sqrt(2 / num_probes)
    # A token alone is left at this pace, so that it can be known beforehand.
    slowest = (rate[..., 1:].amin(-1) / rate.amax(-1)).min()
    if math.log(1 / cut) > 4 * _MAX_STEPS * slowest:
        raise _too_slow()
    shift = rate.amax(-1)[..., None, None]
    keep = torch.ones_like(rate).unsqueeze(-1)
    keep[..., 0, :] = 0  # the root stays at zero
    points = torch.cat([keep.new_zeros(*rate.shape, num_probes), keep], dim=-1)
    for _ in range(_MAX_STEPS):
        noise = torch.randn(
            *points.shape[:-1],
            num_probes,
            generator=generator,
            dtype=rate.dtype,
        ).to(rate.device)
        if root == 'keep':
            noise = noise - noise[..., :1, :]
        noise = torch.nn.functional.pad(noise * keep, (0, 1))
        right = 2 * shift * points + 2 * shift.sqrt() * noise
        points = solve(right, shift) - points
        left = points[..., -1].amax().square()
        if left <= cut:
            return points[..., :-1] / math.sqrt(num_probes)
    raise _too_slow()


def _too_slow() -> ValueError:
    return ValueError(
        f'Expected a graph on which the walk ends within some {_MAX_STEPS} of '
        f'its shortest stays at a token (got a slower one). Use '
        f'lyapunov_resistance instead.'
    )


def _dense_solver(A: Tensor, dtype: torch.dtype) -> tuple[Solver, Tensor]:
    off = off_diagonal(A, dtype)
    if not is_lower(off):
        raise _not_causal()
    rate = off.sum(-1)
    _require_one_root(rate)
    laplacian = torch.diag_embed(rate) - off

    def solve(right: Tensor, shift: Tensor) -> Tensor:
        eye = torch.eye(off.size(-1), dtype=dtype, device=off.device)
        return torch.linalg.solve_triangular(
            laplacian + shift * eye, right, upper=False
        )

    return solve, rate


def _sparse_solver(edges: SparseEdges) -> tuple[Solver, Tensor]:
    _require_one_root(edges.rate)
    shifted = edges.rate + edges.rate.amax()
    system = TriangularSystem(
        edges.source,
        edges.target,
        edges.weight / shifted[edges.target],
        edges.rate.size(0),
    )

    def solve(right: Tensor, shift: Tensor) -> Tensor:
        return system.solve(right / shifted.unsqueeze(-1))

    return solve, edges.rate


def _require_one_root(rate: Tensor) -> None:
    if rate.size(-1) > 1 and not (rate[..., 1:] > 0).all():
        token = int((rate[..., 1:] == 0).nonzero()[0, -1]) + 1
        raise ValueError(
            f'Expected a graph with one root, its first token (got token '
            f'{token} without edges from others). Use lyapunov_resistance '
            f'instead.'
        )


def _not_causal() -> ValueError:
    return ValueError(
        'Expected a causal graph (got an edge from a later token). Use '
        'lyapunov_resistance instead.'
    )
