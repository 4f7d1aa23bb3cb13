r"""Lyapunov resistance: the distance of what two receivers see."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from gnnbridge.graph.dense import as_attention
from gnnbridge.spectral.arguments import check_dtype
from gnnbridge.spectral.classes import absorption_law
from gnnbridge.spectral.laplacian import off_diagonal
from gnnbridge.spectral.sylvester import Method, solve_lyapunov
from gnnbridge.spectral.walk import is_lower

Root: TypeAlias = Literal['keep', 'leak']

# Tokens whose absorption laws differ by more than this differ for good.
_SAME_LAW = 1e-9


def lyapunov_resistance(
    edge_index: Tensor,
    edge_weight: Tensor | None = None,
    num_nodes: int | None = None,
    *,
    root: Root = 'keep',
    method: Literal['auto', 'recursive', 'smith'] = 'auto',
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    r"""Effective resistance of directed graphs by a Lyapunov equation.

    .. math::
        r_{ij} = 2 \int_0^\infty
        \lVert (e_i - e_j)^\top e^{-L t} \rVert^2 \, dt

    (`Young, Scardovi and Leonard, 2016 <https://arxiv.org/abs/1310.5163>`_),
    the squared distance between the mixtures of tokens that receivers
    :math:`i` and :math:`j` see, summed over all depths of the attention flow
    :math:`\dot x = -L x`. It is small where representations collapse onto
    each other. It is no measure of sensitivity: with all attention on a sink
    every pair has :math:`r = 2`, though nothing but the sink is heard.

    On undirected graphs it is the classical resistance. :math:`\sqrt{r}` is a
    metric, :math:`r` need not be.

    Args:
        edge_index: The edges, source first and receiver second, or the
            matrix :math:`A` itself (then without the next two arguments).
        edge_weight: The weight of each edge; ones if not given.
        num_nodes: The number of tokens; inferred if not given.
        root: ``'keep'``, or ``'leak'`` to count what reaches the only root as
            lost: for sinks whose values are near zero.
        method: ``'recursive'`` (causal graphs with one root, on the CPU):
            blocked substitution. ``'smith'``: the squared Smith iteration,
            any digraph, any device. ``'auto'``: the first where it applies.
        dtype: The precision, ``torch.float64`` or ``torch.float32``. On
            causal graphs with one root all terms have one sign; ``'smith'``
            still loses a factor :math:`\max \ell / \min \ell` of it. Other
            graphs are always solved in float64.

    Shapes:
        - **input:** edges :math:`(2, E)` and weights :math:`(E)` or
          :math:`(E, H)`, or a matrix :math:`(*, N, N)`
        - **output:** :math:`(*, N, N)`, symmetric

    Returns:
        The resistances, in `dtype`, with a diagonal of zeros. Two tokens
        whose walks end in different closed classes (documents of a packed
        sequence), or in the same ones with different probabilities, never
        agree: infinite.

    Raises:
        ValueError: If a weight is negative, if `method` or `root` do not fit
            the graph, or if the walk needs too long to end.

    Example:
        >>> path = torch.tensor([[0, 1, 2], [1, 2, 3]])
        >>> lyapunov_resistance(path)[3]  # 2 |i - j|
        tensor([6., 4., 2., 0.], dtype=torch.float64)
    """
    check_dtype(dtype)
    A = as_attention(edge_index, edge_weight, num_nodes)
    return resistance_between(A, root, method, dtype)


def resistance_between(
    A: Tensor, root: str, method: str, dtype: torch.dtype
) -> Tensor:
    """The resistances of dense graphs."""
    if root not in get_args(Root):
        raise ValueError(
            f"Expected 'root' to be 'keep' or 'leak' (got {root!r})."
        )
    if method not in ('auto', *get_args(Method)):
        raise ValueError(
            "Expected 'method' to be 'auto', 'recursive' or 'smith' (got "
            f'{method!r}).'
        )
    off = off_diagonal(A, dtype)
    # The first token is the only root of a causal graph.
    if is_lower(off) and (off.sum(-1)[..., 1:] > 0).all():
        chosen: Method = 'smith'
        if method == 'recursive' or (
            method == 'auto' and off.device.type == 'cpu'
        ):
            chosen = 'recursive'
        return _grounded(off, root, chosen)
    if method == 'recursive' or root == 'leak':
        raise ValueError(
            "Expected a causal graph with one root for method='recursive' "
            "and root='leak' (got a later token's edge, or a token other than "
            "the first without edges from others). Use method='smith', "
            "root='keep' instead."
        )
    size = A.size(-1)
    graphs = off_diagonal(A, torch.float64).reshape(-1, size, size)
    found = torch.stack([_general(graph) for graph in graphs])
    return found.reshape(A.shape).to(dtype)


def _grounded(off: Tensor, root: str, method: Method) -> Tensor:
    r"""From :math:`L_g S + S L_g^\top = 2 (I + 1 1^\top)` without the root."""
    grounded = (torch.diag_embed(off.sum(-1)) - off)[..., 1:, 1:]
    if grounded.size(-1) == 0:
        return torch.zeros_like(off)
    right = 2 * torch.eye(grounded.size(-1), dtype=off.dtype, device=off.device)
    right = right + 2 if root == 'keep' else right
    S = solve_lyapunov(grounded, right.expand_as(grounded), method)
    own = S.diagonal(dim1=-2, dim2=-1)
    pairs = own.unsqueeze(-1) + own.unsqueeze(-2) - 2 * S
    # To the root: S_ii.
    pairs = torch.cat([own.unsqueeze(-2), pairs], dim=-2)
    own = torch.nn.functional.pad(own, (1, 0))
    pairs = torch.cat([own.unsqueeze(-1), pairs], dim=-1)
    return off_diagonal(pairs, pairs.dtype)


def _general(off: Tensor) -> Tensor:
    r"""One graph of any kind.

    With :math:`\Pi = \lim e^{-L t}`, :math:`S = 2 \int (e^{-L t} - \Pi)
    (e^{-L t} - \Pi)^\top dt` has :math:`\Pi S = 0`, so that :math:`L + c \Pi`,
    which has no eigenvalue zero, may take the place of :math:`L` in its
    equation.
    """
    law, limit, reach = absorption_law(off)
    rate = off.sum(-1)
    scale = rate.mean()
    if scale == 0:
        far = torch.full_like(off, math.inf)
        return off_diagonal(far)
    eye = torch.eye(off.size(-1), dtype=off.dtype, device=off.device)
    rest = eye - limit
    matrix = torch.diag_embed(rate / scale) - off / scale + limit
    S = solve_lyapunov(matrix, 2 * rest @ rest.mT, 'smith') / scale
    own = S.diagonal(dim1=-2, dim2=-1)
    pairs = own.unsqueeze(-1) + own.unsqueeze(-2) - 2 * S
    apart = torch.cdist(law.detach(), law.detach(), p=math.inf) > _SAME_LAW
    apart |= (reach.unsqueeze(0) != reach.unsqueeze(1)).any(-1)
    return off_diagonal(pairs.masked_fill(apart, math.inf))
