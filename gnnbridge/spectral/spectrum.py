"""Eigenvalues and singular values of token graphs."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from gnnbridge.graph.dense import as_attention
from gnnbridge.spectral.arguments import check_dtype, distribution_of
from gnnbridge.spectral.green import visits_of
from gnnbridge.spectral.laplacian import off_diagonal
from gnnbridge.spectral.layers import renormalized
from gnnbridge.spectral.walk import positive, walk_on

Operator: TypeAlias = Literal['symmetric', 'restart', 'singular', 'walk']


def singular_values(
    edge_index: Tensor,
    edge_weight: Tensor | None = None,
    num_nodes: int | None = None,
    *,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    r"""Singular values of :math:`A`, the largest first.

    Unlike the eigenvalues of a causal graph, which are the diagonal of
    :math:`A` whatever the rest of it is, they see the structure.

    Args:
        edge_index: The edges, or the matrix :math:`A`; see
            :func:`spectral_gap`.
        edge_weight: The weight of each edge; ones if not given.
        num_nodes: The number of tokens; inferred if not given.
        dtype: The precision, ``torch.float64`` or ``torch.float32``.

    Shapes:
        - **input:** edges :math:`(2, E)` and weights :math:`(E)` or
          :math:`(E, H)`, or a matrix :math:`(*, N, N)`
        - **output:** :math:`(*, N)`

    Returns:
        The values, in `dtype`.

    Raises:
        ValueError: If a weight is negative.
    """
    check_dtype(dtype)
    A = as_attention(edge_index, edge_weight, num_nodes)
    return torch.linalg.svdvals(A.to(dtype))


def spectral_gap(
    edge_index: Tensor,
    edge_weight: Tensor | None = None,
    num_nodes: int | None = None,
    *,
    operator: Operator = 'symmetric',
    restart: str | Tensor = 'uniform',
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    r"""Spectral gap of an operator made from the graph.

    There is no spectral gap of a causal graph as such: its eigenvalues are
    the diagonal of :math:`A`, and uniform attention over all tokens has the
    gap of a window of two. `operator` says what is looked at instead:

    - ``'symmetric'``: the second smallest eigenvalue of :math:`I - D^{-1/2} S
      D^{-1/2}`, :math:`S = (A + A^\top) / 2` without self-loops, :math:`D`
      its row sums. Later tokens transmit to earlier ones in it. For
      undirected graphs the usual normalised gap.
    - ``'restart'``: the same for the directed Laplacian of `Chung, 2005
      <https://doi.org/10.1007/s00026-005-0237-z>`_ on the walk that starts
      again from a token drawn from `restart` when it has ended: its flow
      :math:`\pi_i P_{ij}`, made symmetric. Laziness counts.
    - ``'singular'``: :math:`1 - \sigma_2 / \sigma_1` of :math:`A`.
    - ``'walk'``: :math:`1 - |\lambda_2|` of :math:`A` with rows divided by
      their sums. On causal graphs this is one minus the second largest entry
      of the diagonal, blind to everything else.

    Args:
        edge_index: The edges, source first and receiver second, or the
            matrix :math:`A` itself (then without the next two arguments).
        edge_weight: The weight of each edge; ones if not given.
        num_nodes: The number of tokens; inferred if not given.
        operator: Which operator; see above.
        restart: The distribution of restarts: ``'uniform'``, ``'last'`` or a
            tensor :math:`(N)`. Only for ``'restart'``.
        dtype: The precision, ``torch.float64`` or ``torch.float32``.

    Shapes:
        - **input:** edges :math:`(2, E)` and weights :math:`(E)` or
          :math:`(E, H)`, or a matrix :math:`(*, N, N)`
        - **output:** :math:`(*)`

    Returns:
        The gap, in `dtype`; zero for several components, and for one token.

    Raises:
        ValueError: If a weight is negative, `operator` is unknown, or, for
            ``'restart'``, the walk does not end at single tokens or never
            visits one.
    """
    check_dtype(dtype)
    if operator not in get_args(Operator):
        raise ValueError(
            f"Expected 'operator' to be one of {get_args(Operator)} (got "
            f'{operator!r}).'
        )
    default = isinstance(restart, str) and restart == 'uniform'
    if operator != 'restart' and not default:
        raise ValueError(
            f"Expected no 'restart' for operator='{operator}' (got "
            f"{restart!r}). Use operator='restart' instead."
        )
    A = as_attention(edge_index, edge_weight, num_nodes).to(dtype)
    if A.size(-1) == 1:
        return A.new_zeros(A.shape[:-2])
    if operator == 'singular':
        values = torch.linalg.svdvals(A)
        return 1 - values[..., 1] / positive(values[..., 0])
    if operator == 'walk':
        moduli = torch.linalg.eigvals(renormalized(A)).abs()
        return 1 - moduli.sort(-1, descending=True).values[..., 1]
    flow = off_diagonal(A, dtype)
    if operator == 'restart':
        flow = _circulation(A, restart, dtype)
    operator_ = _normalized_laplacian(flow + flow.mT)
    return torch.linalg.eigvalsh(operator_)[..., 1].clamp(min=0)


def fiedler_vector(
    edge_index: Tensor,
    edge_weight: Tensor | None = None,
    num_nodes: int | None = None,
    *,
    normalized: bool = True,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    r"""Eigenvector of the second smallest eigenvalue of a graph Laplacian.

    Of :math:`I - D^{-1/2} S D^{-1/2}`, or of :math:`D - S`, with :math:`S =
    (A + A^\top) / 2` without self-loops. Its signs cut the graph where it is
    weakest.

    Args:
        edge_index: The edges, or the matrix :math:`A`; see
            :func:`spectral_gap`.
        edge_weight: The weight of each edge; ones if not given.
        num_nodes: The number of tokens; inferred if not given.
        normalized: Whether the Laplacian is normalised by the degrees.
        dtype: The precision, ``torch.float64`` or ``torch.float32``.

    Shapes:
        - **input:** edges :math:`(2, E)` and weights :math:`(E)` or
          :math:`(E, H)`, or a matrix :math:`(*, N, N)`
        - **output:** :math:`(*, N)`

    Returns:
        The vector of length one, in `dtype`, its largest entry positive. If
        the eigenvalue is multiple, as on symmetric graphs, any of them.

    Raises:
        ValueError: If a weight is negative or there is only one token.
    """
    check_dtype(dtype)
    A = as_attention(edge_index, edge_weight, num_nodes)
    if A.size(-1) < 2:
        raise ValueError('Expected a graph of at least two tokens (got one).')
    off = off_diagonal(A, dtype)
    flow = (off + off.mT) / 2
    if normalized:
        matrix = _normalized_laplacian(flow)
    else:
        matrix = torch.diag_embed(flow.sum(-1)) - flow
    vector = torch.linalg.eigh(matrix).eigenvectors[..., 1]
    largest = vector.abs().argmax(-1, keepdim=True)
    return vector * vector.gather(-1, largest).sign()


def magnetic_laplacian(
    edge_index: Tensor,
    edge_weight: Tensor | None = None,
    num_nodes: int | None = None,
    *,
    q: float = 0.25,
    normalized: bool = True,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    r"""Magnetic Laplacian: a Hermitian matrix that keeps the directions.

    .. math::
        L = I - D^{-1/2} (S \circ e^{i \Theta}) D^{-1/2}, \qquad
        \Theta_{uv} = 2 \pi q \, \frac{a_{uv} - a_{vu}}{a_{uv} + a_{vu}}

    with :math:`a_{uv}` the weight of the edge from source :math:`u` to
    receiver :math:`v`, :math:`S = (a + a^\top) / 2` without self-loops and
    :math:`D` its row sums (`Zhang et al., 2021
    <https://arxiv.org/abs/2102.11391>`_). The phase is relative, so that it
    does not depend on the scale of the weights; on graphs without weights it
    is theirs. :math:`q = 0` is the symmetric Laplacian.

    Args:
        edge_index: The edges, or the matrix :math:`A`; see
            :func:`spectral_gap`.
        edge_weight: The weight of each edge; ones if not given.
        num_nodes: The number of tokens; inferred if not given.
        q: The charge; an edge without its reverse turns by :math:`2 \pi q`.
        normalized: Whether to normalise by the degrees; :math:`D - S \circ
            e^{i \Theta}` if not.
        dtype: The precision of real and imaginary part.

    Shapes:
        - **input:** edges :math:`(2, E)` and weights :math:`(E)` or
          :math:`(E, H)`, or a matrix :math:`(*, N, N)`
        - **output:** :math:`(*, N, N)`

    Returns:
        The matrix, complex, positive semi-definite; row :math:`u`, column
        :math:`v`.

    Raises:
        ValueError: If a weight is negative or `q` is not finite.
    """
    check_dtype(dtype)
    if not math.isfinite(q):
        raise ValueError(f"Expected 'q' to be a finite number (got {q}).")
    off = off_diagonal(as_attention(edge_index, edge_weight, num_nodes), dtype)
    both = off + off.mT
    # off[v, u] is the weight of u -> v.
    phase = 2 * math.pi * q * (off.mT - off) / positive(both)
    turned = torch.polar(both / 2, phase)
    degree = (both / 2).sum(-1)
    if not normalized:
        return torch.diag_embed(degree).to(turned.dtype) - turned
    scale = positive(degree).rsqrt()
    turned = scale.unsqueeze(-1) * turned * scale.unsqueeze(-2)
    return torch.diag_embed((degree > 0).to(turned.dtype)) - turned


def _normalized_laplacian(flow: Tensor) -> Tensor:
    """Of symmetric weights; rows of tokens without edges are zero."""
    degree = flow.sum(-1)
    scale = positive(degree).rsqrt()
    scaled = scale.unsqueeze(-1) * flow * scale.unsqueeze(-2)
    return torch.diag_embed((degree > 0).to(flow.dtype)) - scaled


def _circulation(
    A: Tensor, restart: str | Tensor, dtype: torch.dtype
) -> Tensor:
    r"""Flow :math:`\pi_i P_{ij}` of the walk with restarts, by one cycle."""
    walk = walk_on(A, None, dtype)
    if walk.peers is not None:
        raise ValueError(
            "Expected the walk to end at single tokens for operator='restart' "
            "(got a closed class of several). Use operator='symmetric' "
            'instead.'
        )
    rho = distribution_of('restart', restart, walk.rate)
    visits = (rho.unsqueeze(-2) @ visits_of(walk)).squeeze(-2)
    if (visits == 0).any():
        token = int((visits == 0).nonzero()[0, -1])
        raise ValueError(
            f"Expected a 'restart' from which the walk visits every token "
            f'(got one from which it never visits token {token}).'
        )
    ends = (walk.rate == 0).unsqueeze(-1)
    eye = torch.eye(A.size(-1), dtype=dtype, device=A.device)
    lazy = torch.diag_embed(A.diagonal(dim1=-2, dim2=-1).to(dtype))
    # Steps at a token are visits over the leave rate; a root is left at once.
    step = torch.where(
        ends, rho, eye - walk.system + lazy / positive(walk.rate).unsqueeze(-1)
    )
    return visits.unsqueeze(-1) * step
