"""Attention rollout: the influence of tokens through a stack of layers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gnnbridge.graph.dense import as_attention


def attention_rollout(
    attentions: Tensor | Sequence[Tensor],
    mixing: float | Tensor = 0.5,
) -> Tensor:
    r"""Residual-aware rollout of the attention of all layers.

    .. math::
        T = M_L \cdots M_1, \qquad
        M_l = \mathrm{diag}(1 - m_l) + \mathrm{diag}(m_l) A_l

    with :math:`m_{l,i}` the share of the attention output in the residual
    stream of receiver :math:`i` after layer :math:`l`. With :math:`m = 1/2`
    it is the rollout of `Abnar and Zuidema, 2020
    <https://arxiv.org/abs/2005.00928>`_; `Herasimchyk et al., 2026
    <https://arxiv.org/abs/2602.16837>`_ measure :math:`m_l` on the model. For
    attention whose rows sum to one, so do the rows of :math:`T`.

    Args:
        attentions: The matrices :math:`A_l`, first layer first, row =
            receiver; heads averaged, or as a batch dimension.
        mixing: The share :math:`m`, between 0 and 1: one number, one per
            layer, or one per layer and receiver.

    Shapes:
        - **attentions:** :math:`(L, *, N, N)`, or :math:`L` of
          :math:`(*, N, N)`
        - **mixing:** a number, :math:`(L)` or :math:`(L, N)`
        - **output:** :math:`(*, N, N)`, row = receiver at the top, column =
          source at the input

    Returns:
        The matrix :math:`T`, in float64.

    Raises:
        ValueError: If there is no layer, if the layers differ in shape, if a
            weight is negative or not finite, or if `mixing` does not fit.

    Example:
        >>> A = torch.tensor([[1., 0.], [.5, .5]])
        >>> attention_rollout([A, A])[1]
        tensor([0.4375, 0.5625], dtype=torch.float64)
    """
    layers = [as_attention(A).to(torch.float64) for A in attentions]
    if not layers or any(A.shape != layers[0].shape for A in layers):
        raise ValueError(
            f"Expected 'attentions' to hold one matrix of the same shape for "
            f'each layer (got {[tuple(A.shape) for A in layers]}).'
        )
    shares = _shares(mixing, len(layers), layers[0])
    rollout = torch.eye(
        layers[0].size(-1), dtype=torch.float64, device=layers[0].device
    )
    for A, share in zip(layers, shares, strict=True):
        rollout = (1 - share) * rollout + share * (A @ rollout)
    return rollout.expand_as(layers[0])


def _shares(mixing: float | Tensor, num_layers: int, like: Tensor) -> Tensor:
    """The mixing of each layer as a column over receivers."""
    shares = torch.as_tensor(mixing, dtype=like.dtype, device=like.device)
    sizes = [(), (num_layers,), (num_layers, like.size(-1))]
    if shares.shape not in sizes:
        raise ValueError(
            f"Expected 'mixing' to be a number or to have one of the shapes "
            f'{sizes[1:]} (got {tuple(shares.shape)}).'
        )
    if not ((shares >= 0) & (shares <= 1)).all():
        raise ValueError(
            f"Expected 'mixing' between 0 and 1 (got values from "
            f'{shares.min():.4g} to {shares.max():.4g}).'
        )
    if shares.dim() < 2:
        return shares.reshape(-1, 1, 1).expand(num_layers, 1, 1)
    return shares.unsqueeze(-1)
