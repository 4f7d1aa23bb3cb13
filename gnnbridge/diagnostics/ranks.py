"""How many directions the token representations of a layer still fill."""

from __future__ import annotations

import torch
from torch import Tensor

from gnnbridge.diagnostics.sequences import Graphs, mean_over_sequences


def effective_rank(x: Tensor | Graphs, *, centered: bool = False) -> Tensor:
    r"""Effective rank of the hidden states, from one to their rank.

    .. math::
        \mathrm{erank}(X) = \exp \Bigl( - \sum_k p_k \ln p_k \Bigr), \qquad
        p_k = \frac{\sigma_k}{\sum_l \sigma_l}

    with :math:`\sigma` the singular values (`Roy and Vetterli, 2007
    <https://ieeexplore.ieee.org/document/7098875>`_); 0 for a zero matrix.

    Args:
        x: Hidden states, or token graphs with hidden states in ``x``.
        centered: Whether to take the mean token off first. A mean that all
            tokens share, or a massive activation, else hides what sets them
            apart. What is left of equal tokens is zero, not their rounding.

    Shapes:
        - **hidden states:** :math:`(*, N, d)`
        - **output:** :math:`(L)` for graphs, otherwise :math:`(*)`

    Returns:
        The effective rank, in float32 or the wider dtype of the input; for
        graphs the mean over the sequences of a layer.

    Raises:
        TypeError: If `x` is neither a tensor nor graphs.
        ValueError: If a graph has no hidden states, or the shape is wrong.
    """

    def measure(states: Tensor) -> Tensor:
        return effective_rank_of(singular_values(states, centered=centered))

    return mean_over_sequences(x, measure)


def stable_rank(x: Tensor | Graphs, *, centered: bool = False) -> Tensor:
    r"""Stable rank of the hidden states, from one to their rank.

    .. math::
        \mathrm{srank}(X) = \frac{\lVert X \rVert_F^2}{\lVert X \rVert_2^2}
        = \sum_k \Bigl( \frac{\sigma_k}{\sigma_1} \Bigr)^2

    (`Rudelson and Vershynin, 2007 <https://arxiv.org/abs/math/0503442>`_): how
    much there is beside the strongest direction. It is at most the
    :func:`effective_rank`, as small singular values weigh less; 0 for a zero
    matrix.

    Args:
        x: Hidden states, or token graphs with hidden states in ``x``.
        centered: Whether to take the mean token off first; see
            :func:`effective_rank`.

    Shapes:
        - **hidden states:** :math:`(*, N, d)`
        - **output:** :math:`(L)` for graphs, otherwise :math:`(*)`

    Returns:
        The stable rank, in float32 or the wider dtype of the input; for
        graphs the mean over the sequences of a layer.

    Raises:
        TypeError: If `x` is neither a tensor nor graphs.
        ValueError: If a graph has no hidden states, or the shape is wrong.
    """

    def measure(states: Tensor) -> Tensor:
        return stable_rank_of(singular_values(states, centered=centered))

    return mean_over_sequences(x, measure)


def rank_collapse(x: Tensor | Graphs) -> Tensor:
    r"""Relative distance of the hidden states from all tokens being equal.

    The residual of `Dong et al., 2021 <https://arxiv.org/abs/2103.03404>`_,

    .. math::
        \frac{\lVert X - \mathbf{1} \bar{x}^\top \rVert_{1,\infty}}
        {\lVert X \rVert_{1,\infty}}, \qquad
        \lVert X \rVert_{1,\infty}
        = \sqrt{\lVert X \rVert_1 \lVert X \rVert_\infty}

    with :math:`\lVert \cdot \rVert_1` the largest column sum and
    :math:`\lVert \cdot \rVert_\infty` the largest row sum of absolute
    values, and :math:`\bar{x}` the mean token. 0 is full collapse.

    .. note::
        The paper subtracts the closest vector without saying in which norm;
        the mean is the closest one in the Frobenius norm.

    Args:
        x: Hidden states, or token graphs with hidden states in ``x``.

    Shapes:
        - **hidden states:** :math:`(*, N, d)`
        - **output:** :math:`(L)` for graphs, otherwise :math:`(*)`

    Returns:
        The residual, in float32 or the wider dtype of the input; for graphs
        the mean over the sequences of a layer. 0 for a zero matrix.

    Raises:
        TypeError: If `x` is neither a tensor nor graphs.
        ValueError: If a graph has no hidden states, or the shape is wrong.
    """
    return mean_over_sequences(x, _rank_collapse)


def mean_cosine(x: Tensor | Graphs, *, centered: bool = False) -> Tensor:
    r"""Mean cosine similarity between different tokens.

    .. math::
        \frac{1}{N (N - 1)} \sum_{i \ne j}
        \frac{\langle x_i, x_j \rangle}{\lVert x_i \rVert \lVert x_j \rVert}

    A token of norm zero has similarity 0 to all.

    Args:
        x: Hidden states, or token graphs with hidden states in ``x``.
        centered: Whether to take the mean token off first; see
            :func:`effective_rank`. If equal norms are left, the similarity
            is :math:`-1 / (N - 1)`.

    Shapes:
        - **hidden states:** :math:`(*, N, d)`
        - **output:** :math:`(L)` for graphs, otherwise :math:`(*)`

    Returns:
        The similarity, in float32 or the wider dtype of the input; for
        graphs the mean over the sequences of a layer.

    Raises:
        TypeError: If `x` is neither a tensor nor graphs.
        ValueError: If there are fewer than two tokens, a graph has no hidden
            states, or the shape is wrong.
    """

    def measure(states: Tensor) -> Tensor:
        return _mean_cosine(without_mean(states) if centered else states)

    return mean_over_sequences(x, measure)


def without_mean(x: Tensor) -> Tensor:  # [..., N, d]
    """States without their mean token; zero where only rounding is left."""
    rest = x - x.mean(-2, keepdim=True)
    size, left = (m.square().sum((-2, -1), keepdim=True) for m in (x, rest))
    # Each entry of the mean and of the difference is rounded once or twice.
    floor = (4 * torch.finfo(x.dtype).eps) ** 2
    return rest.masked_fill(left <= floor * size, 0.0)


def singular_values(x: Tensor, *, centered: bool = False) -> Tensor:
    """Singular values of states ``[..., N, d]``, the largest first."""
    return torch.linalg.svdvals(without_mean(x) if centered else x)


def effective_rank_of(sigma: Tensor) -> Tensor:
    """The effective rank, from singular values ``[..., K]``."""
    total = sigma.sum(-1)
    share = sigma / total.masked_fill(total == 0, 1.0).unsqueeze(-1)
    rank = torch.special.entr(share).sum(-1).exp()
    return rank.masked_fill(total == 0, 0.0)


def stable_rank_of(sigma: Tensor) -> Tensor:
    """The stable rank, from singular values ``[..., K]``, largest first."""
    top = sigma[..., :1]
    return (sigma / top.masked_fill(top == 0, 1.0)).square().sum(-1)


def _rank_collapse(x: Tensor) -> Tensor:
    norm = _composite_norm(x)
    residual = _composite_norm(x - x.mean(-2, keepdim=True))
    return residual / norm.masked_fill(norm == 0, 1.0)


def _composite_norm(x: Tensor) -> Tensor:
    size = x.abs()
    return (size.sum(-2).amax(-1) * size.sum(-1).amax(-1)).sqrt()


def _mean_cosine(x: Tensor) -> Tensor:
    num_tokens = x.size(-2)
    if num_tokens < 2:
        raise ValueError(f'Expected at least two tokens (got {num_tokens}).')
    unit = torch.nn.functional.normalize(x, dim=-1)
    pairs = unit.sum(-2).square().sum(-1) - unit.square().sum((-2, -1))
    return pairs / (num_tokens * (num_tokens - 1))
