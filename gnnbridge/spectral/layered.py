"""Influence through a stack of layers: the walk from the top to the input."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gnnbridge.spectral.arguments import Tokens, check_dtype, positions_of
from gnnbridge.spectral.laplacian import off_diagonal
from gnnbridge.spectral.layers import (
    renormalized,
    shares_of,
    stack_of,
    stochastic,
)
from gnnbridge.spectral.walk import is_lower, positive


def layered_influence(
    attentions: Tensor | Sequence[Tensor],
    mixing: float | Tensor = 0.5,
    *,
    rows: Tokens | None = None,
    renormalize: bool = False,
    dtype: torch.dtype = torch.float64,
) -> tuple[Tensor, Tensor]:
    r"""Where the walk through the layers ends, and which tokens it meets.

    From receiver :math:`i` at the top the walk takes one step
    :math:`M_l = \mathrm{diag}(1 - m_l) + \mathrm{diag}(m_l) A_l` per layer,
    last layer first.

    .. math::
        T = M_L \cdots M_1, \qquad
        V_{ij} = \sum_{t=0}^{L-1} (M_L \cdots M_{L-t+1})_{ij}
        \left( 1 - (M_{L-t})_{jj} \right) + T_{ij}

    :math:`T_{ij}` is the probability that it ends at :math:`j`, the effective
    conductance of the unrolled graph: what a change of the *input* of
    :math:`j` does. :math:`V_{ij}` is the probability that it is at :math:`j`
    in some layer: what knocking out the *stream* of :math:`j` does. For every
    depth :math:`T \le V \le h^*` (:func:`envelope_hitting`).

    Args:
        attentions: The matrices :math:`A_l`, first layer first, row =
            receiver; heads averaged, or as a batch dimension. Causal: on
            other graphs a walk may come back, and :math:`V` has no such form.
        mixing: The share :math:`m` of the attention output in the stream,
            between 0 and 1: one number, one per layer, or one per layer and
            receiver (``mixing`` of captured graphs).
        rows: The receivers to start from, as an index; all if not given. One
            costs :math:`O(L N^2)`.
        renormalize: Whether to divide each row by its sum first.
        dtype: The precision, ``torch.float64`` or ``torch.float32``.

    Shapes:
        - **attentions:** :math:`(L, *, N, N)`, or :math:`L` of
          :math:`(*, N, N)`
        - **mixing:** a number, :math:`(L)` or :math:`(L, N)`
        - **output:** two of :math:`(*, N, N)`, row = receiver, or its `rows`

    Returns:
        :math:`T` and :math:`V`, in `dtype`.

    Raises:
        ValueError: If the layers differ in shape, are not causal or have rows
            that do not sum to one, if a weight is negative, or if `mixing`
            does not fit.

    Example:
        >>> A = torch.tensor([[1., 0.], [.5, .5]])
        >>> T, V = layered_influence([A, A])
        >>> T[1], V[1]
        (tensor([0.4375, 0.5625], dtype=torch.float64),
         tensor([0.4375, 1.0000], dtype=torch.float64))
    """
    check_dtype(dtype)
    layers = stack_of(attentions, dtype)
    _require_causal(layers)
    if renormalize:
        layers = [renormalized(A) for A in layers]
    else:
        stochastic(layers, attentions)
    size = layers[0].size(-1)
    shares = shares_of(mixing, len(layers), layers[0])
    eye = torch.eye(size, dtype=dtype, device=layers[0].device)
    receivers = None if rows is None else positions_of('rows', rows, size)
    start = eye if receivers is None else eye[receivers.reshape(-1)]
    ends = start.expand(*layers[0].shape[:-2], *start.shape)
    meets = torch.zeros_like(ends)
    for A, share in zip(reversed(layers), reversed(shares), strict=True):
        leave = share.squeeze(-1) * off_diagonal(A, dtype).sum(-1)
        meets = meets + ends * leave.unsqueeze(-2)
        step = share.squeeze(-1)
        ends = ends * (1 - step) + (ends * step) @ A
    meets = meets + ends
    if receivers is not None and receivers.dim() == 0:
        return ends.squeeze(-2), meets.squeeze(-2)
    return ends, meets


def envelope_hitting(
    attentions: Tensor | Sequence[Tensor],
    *,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    r"""Largest hitting probability for any choice of layers.

    .. math::
        h^*_{ij} = \max_l \frac{1}{\ell^l_i} \sum_{k < i} A^l_{ik} h^*_{kj}
        \quad (i > j), \qquad h^*_{jj} = 1

    It bounds the influence of source :math:`j` on receiver :math:`i` through
    these layers in any order and number, with any residual connection, and is
    the :func:`~gnnbridge.spectral.hitting_probability` if all are equal.
    Layers in which :math:`i` attends to itself alone do not count for it.

    Args:
        attentions: The matrices :math:`A_l`, row = receiver; heads averaged,
            or as a batch dimension. To take the envelope over heads, give
            them as layers. Causal.
        dtype: The precision, ``torch.float64`` or ``torch.float32``.

    Shapes:
        - **attentions:** :math:`(L, *, N, N)`, or :math:`L` of
          :math:`(*, N, N)`
        - **output:** :math:`(*, N, N)`, row = receiver

    Returns:
        The probabilities, in `dtype`, with a diagonal of ones.

    Raises:
        ValueError: If the layers differ in shape or are not causal, or if a
            weight is negative.

    Example:
        >>> A = torch.tensor([[1., 0., 0.], [.5, .5, 0.], [.2, .3, .5]])
        >>> B = torch.tensor([[1., 0., 0.], [.5, .5, 0.], [.4, .1, .5]])
        >>> envelope_hitting([A, B])[2, 1]  # .3 / (.2 + .3), by A
        tensor(0.6000, dtype=torch.float64)
    """
    check_dtype(dtype)
    layers = stack_of(attentions, dtype)
    _require_causal(layers)
    off = torch.stack([off_diagonal(A, dtype) for A in layers], dim=-3)
    jump = off / positive(off.sum(-1)).unsqueeze(-1)
    size = jump.size(-1)
    eye = torch.eye(size, dtype=dtype, device=jump.device)
    if jump.requires_grad:
        # Rows as a list: autograd allows no writing into what it has read.
        found = [eye[0].expand(*jump.shape[:-3], size)]
        for i in range(1, size):
            seen = torch.stack(found, dim=-2)
            best = (jump[..., i, :i] @ seen).amax(-2)
            found.append(best + eye[i])
        return torch.stack(found, dim=-2)
    h = eye.expand(*jump.shape[:-3], size, size).clone()
    for i in range(1, size):
        best = jump[..., i, :i] @ h[..., :i, :i]
        h[..., i, :i] = best.amax(-2)
    return h


def _require_causal(layers: list[Tensor]) -> None:
    for number, A in enumerate(layers):
        if not is_lower(A):
            *_, i, j = A.triu(1).nonzero()[0].tolist()
            raise ValueError(
                f'Expected causal attention (got an edge from the later token '
                f'{j} to token {i} in layer {number}).'
            )
