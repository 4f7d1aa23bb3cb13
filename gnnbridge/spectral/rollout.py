"""Rollouts: the influence of tokens through a stack of layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from gnnbridge.graph.checks import check_size
from gnnbridge.spectral.arguments import Tokens, check_dtype, positions_of
from gnnbridge.spectral.layers import shares_of, stack_of

# Entries of second moments held at once.
_MOMENTS = 2**24

Method: TypeAlias = Literal['rademacher', 'exact', 'mean']


def attention_rollout(
    attentions: Tensor | Sequence[Tensor],
    mixing: float | Tensor = 0.5,
    *,
    dtype: torch.dtype = torch.float64,
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
            layer, or one per layer and receiver (``mixing`` of captured
            graphs).
        dtype: The precision, ``torch.float64`` or ``torch.float32``.

    Shapes:
        - **attentions:** :math:`(L, *, N, N)`, or :math:`L` of
          :math:`(*, N, N)`
        - **mixing:** a number, :math:`(L)` or :math:`(L, N)`
        - **output:** :math:`(*, N, N)`, row = receiver at the top, column =
          source at the input

    Returns:
        The matrix :math:`T`, in `dtype`.

    Raises:
        ValueError: If there is no layer, if the layers differ in shape, if a
            weight is negative or not finite, or if `mixing` does not fit.

    Example:
        >>> A = torch.tensor([[1., 0.], [.5, .5]])
        >>> attention_rollout([A, A])[1]
        tensor([0.4375, 0.5625], dtype=torch.float64)
    """
    check_dtype(dtype)
    layers = stack_of(attentions, dtype)
    rollout = torch.eye(
        layers[0].size(-1), dtype=dtype, device=layers[0].device
    )
    shares = shares_of(mixing, len(layers), layers[0])
    for A, share in zip(layers, shares, strict=True):
        rollout = (1 - share) * rollout + share * (A @ rollout)
    return rollout.expand_as(layers[0])


def rms_rollout(
    attentions: Tensor | Sequence[Tensor],
    gains: float | Tensor = 1.0,
    *,
    token_gains: Tensor | None = None,
    edge_gains: Tensor | None = None,
    parallel: bool = False,
    method: Method = 'rademacher',
    num_samples: int | None = None,
    rows: Tokens | None = None,
    generator: torch.Generator | None = None,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    r"""Rollout in which the paths through different heads add up as noise.

    .. math::
        \sqrt{\mathbb{E} \Bigl[ \Bigl( \prod_l \mathrm{diag}(g_l) \bigl( I +
        \sum_h \epsilon_{lh} A^{lh} \mathrm{diag}(\beta_{lh}) +
        \eta_l \circ \kappa_l \bigr) \Bigr)_{ij}^2 \Bigr]}

    over independent signs :math:`\epsilon` and, one per edge,
    :math:`\eta`. With independent random value
    and output weights of variance :math:`\beta_{lh}^2 / d` and layers of
    attention alone it is :math:`\lVert \partial x_i^{(L)} / \partial
    x_j^{(0)} \rVert_F / \sqrt{d}` in root mean square, exactly: routes
    through the tokens add up within one choice of heads, and in squares
    across choices.

    On a model, :math:`\beta_{lh,j} = \lVert W_O W_V \mathrm{diag}(\gamma)
    \rVert_F / (\sqrt{d} \, \sigma_j)` is the gain of a head on the token
    that it reads, with :math:`\gamma` and :math:`\sigma_j` of the norm before
    it, and :math:`g_{l,i}` that of the MLP. What a source changes in the
    attention *weights* of a receiver has no common direction over sources, so
    that it enters by edge: :math:`\kappa_{l,ij}^2 = \sum_h (A^{lh}_{ij})^2
    \lVert W_O (v_j - \bar v_i) \rVert^2 \lVert \partial s_{ij} / \partial
    x_j \rVert^2 / d`, from the derivative of the softmax, and on the diagonal
    that of the query. On trained models this term decides.

    Args:
        attentions: The matrices :math:`A^{lh}`, first layer first, row =
            receiver.
        gains: The gains :math:`\beta`: one number, one per layer, per layer
            and head, or per layer, head and source.
        token_gains: The gains :math:`g` per layer and receiver, or their
            Gram matrices over receivers, where they have directions in
            common but in part; ones if not given.
        edge_gains: The gains :math:`\kappa` per layer, receiver and source;
            none if not given.
        parallel: Whether the MLP reads what attention reads, as in GPT-NeoX:
            :math:`\mathrm{diag}(g_l)` then multiplies :math:`I` alone.
        method: ``'rademacher'`` averages over `num_samples` draws of the
            signs, the same for all pairs. ``'exact'`` follows the second
            moments, :math:`O(L H N^3)` for each receiver. ``'mean'`` takes
            for every layer the gain-weighted mean of all layers and heads and
            the closed form for a common matrix, :math:`\sum_k e_k ((A^k)_{ij}
            )^2`; only with gains that do not depend on the source, and
            without `token_gains` and `edge_gains`.
        num_samples: The number of draws for ``'rademacher'``, 64 if not
            given; the relative standard error is about :math:`1 / \sqrt{2 S}`.
        rows: The receivers, as an index; all if not given.
        generator: Draws the signs of ``'rademacher'``; if not given one with
            seed 0.
        dtype: The precision, ``torch.float64`` or ``torch.float32``.

    Shapes:
        - **attentions:** :math:`(L, H, N, N)`, or :math:`L` of
          :math:`(H, N, N)`
        - **gains:** a number, :math:`(L)`, :math:`(L, H)` or
          :math:`(L, H, N)`
        - **token_gains:** :math:`(L, N)` or :math:`(L, N, N)`
        - **edge_gains:** :math:`(L, N, N)`, row = receiver
        - **output:** :math:`(N, N)`, row = receiver at the top, or its `rows`

    Returns:
        The root mean squares, in `dtype`.

    Raises:
        ValueError: If the layers or gains do not fit each other or `method`,
            or if a weight is negative.

    Example:
        >>> A = torch.tensor([[[1., 0.], [.5, .5]]])
        >>> rms_rollout([A], method='exact')[1]
        tensor([0.5000, 1.1180], dtype=torch.float64)
    """
    check_dtype(dtype)
    layers = stack_of(attentions, dtype)
    if layers[0].dim() != 3:
        raise ValueError(
            f"Expected 'attentions' of shape [L, H, N, N] (got layers of shape "
            f'{list(layers[0].shape)}).'
        )
    if method not in get_args(Method):
        raise ValueError(
            f"Expected 'method' to be one of {get_args(Method)} (got "
            f'{method!r}).'
        )
    drawn = method == 'rademacher'
    if not drawn and (num_samples is not None or generator is not None):
        raise ValueError(
            f"Expected no 'num_samples' and no 'generator' for "
            f"method='{method}' (got some). Use method='rademacher' instead."
        )
    num_samples = 64 if num_samples is None else num_samples
    num_layers, size = len(layers), layers[0].size(-1)
    beta = _gains(gains, num_layers, layers[0])
    gram = token_gains is not None and token_gains.dim() == 3
    shape = (size, size) if gram else (size,)
    by_token = _given('token_gains', token_gains, layers, shape)
    by_edge = _given('edge_gains', edge_gains, layers, (size, size))
    everyone = torch.arange(size)
    chosen = everyone if rows is None else positions_of('rows', rows, size)
    chosen = chosen.to(beta.device)
    if method == 'mean':
        if token_gains is not None or edge_gains is not None:
            raise ValueError(
                "Expected no gains by token or edge for method='mean' (got "
                "some). Use method='rademacher' instead."
            )
        return _mean_form(layers, beta)[chosen]
    read = [A * b.unsqueeze(-2) for A, b in zip(layers, beta, strict=True)]
    steps = list(zip(read, by_token, by_edge, strict=True))[::-1]
    start = torch.eye(size, dtype=dtype, device=beta.device)
    start = start[chosen.reshape(-1)]
    if method == 'exact':
        few = max(_MOMENTS // size**2, 1)
        parts = start.split(few)
        square = torch.cat(
            [_second_moments(steps, part, parallel) for part in parts]
        )
    else:
        check_size('num_samples', num_samples)
        if generator is None:
            generator = torch.Generator().manual_seed(0)
        square = torch.zeros_like(start)
        for _ in range(num_samples):
            row = _signed(steps, start, parallel, generator)
            square = square + row.square()
        square = square / num_samples
    return _root(square).reshape(*chosen.shape, size)


# Of one layer: the weighted attention of its heads, and its other gains.
_Step: TypeAlias = tuple[Tensor, Tensor | None, Tensor | None]


def _given(
    name: str,
    gains: Tensor | None,
    layers: list[Tensor],
    shape: tuple[int, ...],
) -> list[Tensor | None]:
    """The gains of each layer, checked."""
    if gains is None:
        return [None] * len(layers)
    if gains.shape != (len(layers), *shape):
        raise ValueError(
            f"Expected '{name}' of shape {[len(layers), *shape]} (got "
            f'{list(gains.shape)}).'
        )
    if not gains.isfinite().all():
        raise ValueError(f"Expected '{name}' to be finite.")
    return list(gains.to(layers[0]))


def _root(square: Tensor) -> Tensor:
    """Square roots whose gradient at zero is zero, not infinite."""
    none = square == 0
    return square.masked_fill(none, 1.0).sqrt().masked_fill(none, 0.0)


def _signed(
    steps: list[_Step],
    start: Tensor,
    parallel: bool,
    generator: torch.Generator,
) -> Tensor:
    """Rows of the product for one choice of signs, from the top down."""
    row = start
    for heads, token, edge in steps:
        passed = row if token is None else row * _drawn(token, generator)
        row = row if parallel else passed
        sign = _signs((heads.size(0),), generator, row)
        step = torch.einsum('h,hij->ij', sign, heads)
        if edge is not None:
            step = step + _signs(edge.shape, generator, row) * edge
        row = passed + row @ step
    return row


def _signs(
    shape: Sequence[int], generator: torch.Generator, like: Tensor
) -> Tensor:
    drawn = torch.randint(0, 2, tuple(shape), generator=generator)
    return (2 * drawn - 1).to(like)


def _drawn(token: Tensor, generator: torch.Generator) -> Tensor:
    """The gains of tokens, or random ones with their Gram matrix."""
    if token.dim() == 1:
        return token
    values, vectors = torch.linalg.eigh(token)
    sign = _signs(values.shape, generator, token)
    return vectors @ (sign * _root(values.clamp(min=0)))


def _second_moments(
    steps: list[_Step], start: Tensor, parallel: bool
) -> Tensor:
    """Squares of the rows in expectation, from the top down."""
    moment = torch.diag_embed(start)
    for heads, token, edge in steps:
        passed = moment
        if token is not None:
            gram = token if token.dim() == 2 else torch.outer(token, token)
            passed = gram * moment
        moment = moment if parallel else passed
        through = torch.zeros_like(moment)
        for head in heads:
            through = through + head.mT @ moment @ head
        if edge is not None:
            energy = moment.diagonal(dim1=-2, dim2=-1) @ edge.square()
            through = through + torch.diag_embed(energy)
        moment = passed + through
    return moment.diagonal(dim1=-2, dim2=-1)


def _mean_form(layers: list[Tensor], beta: Tensor) -> Tensor:
    if not bool((beta == beta[..., :1]).all()):
        raise ValueError(
            "Expected gains by layer and head alone for method='mean' (got "
            "gains by token). Use method='rademacher' instead."
        )
    square = beta[..., 0].square()
    total_square = square.sum()
    weight = square / total_square.masked_fill(total_square == 0, 1.0)
    A = torch.einsum('lh,lhij->ij', weight, torch.stack(layers))
    # Elementary symmetric polynomials of the squared gains of the layers.
    powers = [square.new_ones(())] + [square.new_zeros(())] * len(layers)
    for layer in square.sum(-1):
        for k in range(len(layers), 0, -1):
            powers[k] = powers[k] + layer * powers[k - 1]
    power = torch.eye(A.size(-1), dtype=A.dtype, device=A.device)
    total = power
    for factor in powers[1:]:
        power = power @ A
        total = total + factor * power.square()
    return _root(total)


def _gains(gains: float | Tensor, num_layers: int, like: Tensor) -> Tensor:
    heads, size = like.size(0), like.size(-1)
    given = torch.as_tensor(gains, dtype=like.dtype, device=like.device)
    sizes = [(), (num_layers,), (num_layers, heads), (num_layers, heads, size)]
    if given.shape not in sizes:
        raise ValueError(
            f"Expected 'gains' to be a number or to have one of the shapes "
            f'{sizes[1:]} (got {tuple(given.shape)}).'
        )
    given = given.reshape(*given.shape, *[1] * (3 - given.dim()))
    return given.expand(num_layers, heads, size)
