"""What heads read at a sink: of which kind it is."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from gnnbridge.diagnostics.edges import stack_layers
from gnnbridge.diagnostics.sequences import (
    Graphs,
    as_layers,
    mean_over_sequences,
    sequence_starts,
    tensor_of,
)
from gnnbridge.graph.checks import at_least_float32

SinkKind: TypeAlias = Literal['none', 'no-op', 'broadcast', 'unclear']


def value_norm_ratio(norms: Graphs | Tensor, *, token: int = 0) -> Tensor:
    r"""Norm of a token's value, over the mean norm of all values.

    :math:`\lVert v_k^h \rVert / \frac{1}{N} \sum_i \lVert v_i^h \rVert` for
    each head. Near 0, attending to the token adds nothing; near 1 it adds as
    much as any other token would.

    Args:
        norms: The norms, or token graphs with ``value_norm``, as
            ``gnnbridge.capture(..., values=True)`` returns them.
        token: The token :math:`k`, counted from 0 in its sequence.

    Shapes:
        - **norms:** :math:`(*, N, H)`
        - **output:** :math:`(L, H)` for graphs, otherwise :math:`(*, H)`

    Returns:
        The ratios, in float32 or the wider dtype of the norms, NaN where all
        norms are zero; for graphs the mean over the sequences of a layer.

    Raises:
        TypeError: If `norms` is neither graphs nor a tensor.
        ValueError: If a graph has no norms, there is no such token, or layers
            differ in heads.
    """
    return _norm_ratio(norms, 'value_norm', token)


def key_norm_ratio(norms: Graphs | Tensor, *, token: int = 0) -> Tensor:
    r"""Norm of a token's key, over the mean norm of all keys.

    Sinks have small keys (`Gu et al., 2025
    <https://arxiv.org/abs/2410.10781>`_): it is the angle between queries and
    their key that attracts attention.

    Args:
        norms: The norms, or token graphs with ``key_norm``; see
            :func:`value_norm_ratio`.
        token: The token, counted from 0 in its sequence.

    Returns:
        The ratios; see :func:`value_norm_ratio`.

    Raises:
        TypeError: As :func:`value_norm_ratio`.
        ValueError: As :func:`value_norm_ratio`.
    """
    return _norm_ratio(norms, 'key_norm', token)


def state_norm_ratio(x: Graphs | Tensor, *, token: int = 0) -> Tensor:
    r"""Norm of a token's state, over the mean norm of all states.

    Args:
        x: Hidden states, or token graphs with hidden states in ``x``.
        token: The token, counted from 0 in its sequence.

    Shapes:
        - **hidden states:** :math:`(*, N, d)`
        - **output:** :math:`(L)` for graphs, otherwise :math:`(*)`

    Returns:
        The ratios, in float32 or the wider dtype of the states, NaN where all
        are zero; for graphs the mean over the sequences of a layer.

    Raises:
        TypeError: If `x` is neither graphs nor a tensor.
        ValueError: If a graph has no states, or there is no such token.
    """
    return mean_over_sequences(x, _of_token(token, lambda x: x.norm(dim=-1)))


def sink_kind(
    score: float,
    ratio: float | None,
    *,
    epsilon: float = 0.3,
    no_op: float = 0.3,
    broadcast: float = 0.7,
) -> SinkKind:
    """Which kind of sink a head has, if any.

    `Fesser et al., 2026 <https://arxiv.org/abs/2606.08105>`_ tell two kinds
    apart: heads that park their attention on a token without a value, and so
    do nothing, and heads that read a token which has gathered something for
    all. The paper gives no thresholds that were seen here; implementations by
    others take ratios below 0.2 for the first kind and near 1 for the second.

    Args:
        score: The :func:`~gnnbridge.diagnostics.sink_score`.
        ratio: The :func:`value_norm_ratio` of the same token, ``None`` or NaN
            if not known.
        epsilon: The score above which a head has a sink.
        no_op: The ratio below which it does nothing.
        broadcast: The ratio above which it reads as from any other token.

    Returns:
        ``'none'``, ``'no-op'``, ``'broadcast'``, or ``'unclear'`` for a sink
        whose ratio lies between, or is not known.

    Raises:
        ValueError: If `no_op` is larger than `broadcast`.
    """
    if no_op > broadcast:
        raise ValueError(
            f"Expected 'no_op' to be at most 'broadcast' (got {no_op} and "
            f'{broadcast}).'
        )
    if not score > epsilon:
        return 'none'
    if ratio is None or math.isnan(ratio):
        return 'unclear'
    if ratio < no_op:
        return 'no-op'
    return 'broadcast' if ratio > broadcast else 'unclear'


def _norm_ratio(norms: Graphs | Tensor, name: str, token: int) -> Tensor:
    ratio = _of_token(token, lambda x: x.mT)
    if isinstance(norms, Tensor):
        if norms.dim() < 2 or norms.numel() == 0:
            raise ValueError(
                f"Expected 'norms' of shape [..., N, H] (got "
                f'{tuple(norms.shape)}).'
            )
        return ratio(at_least_float32(norms))
    layers = []
    for layer, graph in enumerate(as_layers(norms)):
        sizes = sequence_starts(graph).diff().tolist()
        parts = tensor_of(graph, name, layer, 2).split(sizes)
        layers.append(torch.stack([ratio(part) for part in parts]).mean(0))
    return stack_layers(layers)


def _of_token(
    token: int, sizes: Callable[[Tensor], Tensor]
) -> Callable[[Tensor], Tensor]:
    """The ratio of one token, from a function to sizes ``[..., N]``."""

    def ratio(x: Tensor) -> Tensor:
        size = sizes(x)
        if not 0 <= token < size.size(-1):
            raise ValueError(
                f"Expected 'token' to be one of {size.size(-1)} tokens (got "
                f'{token}).'
            )
        return size[..., token] / size.mean(-1)

    return ratio
