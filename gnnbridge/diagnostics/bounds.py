"""Upper bounds on how much tokens can depend on each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from gnnbridge.spectral.laplacian import leave_rate
from gnnbridge.spectral.layered import envelope_hitting, layered_influence
from gnnbridge.spectral.layers import shares_of, stack_of
from gnnbridge.spectral.resistance import effective_resistance

BoundKind: TypeAlias = Literal[
    'layers',
    'visits',
    'envelope',
    'resistance',
    'topping',
    'di_giovanni',
    'black',
    'barbero',
]
# One number for all layers, one per layer, or one per layer and receiver.
Constants: TypeAlias = float | Tensor

# Attention of layers that is the same up to rounding.
_SAME = 1e-6


def sensitivity_bound(
    attentions: Tensor | Sequence[Tensor],
    *,
    kind: BoundKind,
    constants: Constants | None = None,
    mixing: float | Tensor | None = None,
    weights: tuple[Constants, Constants] = (1.0, 1.0),
    log: bool = False,
) -> Tensor:
    r"""Upper bounds on derivatives, from attention and constants of layers.

    Of the spectral norm :math:`\lVert \partial x_i^{(L)} / \partial x_j^{(0)}
    \rVert_2`, and so of the Frobenius norm over :math:`\sqrt d` as well. With
    :math:`C_L = \prod_l \max_i c_{l,i}` and :math:`M_l =
    \mathrm{diag}(1 - m_l) + \mathrm{diag}(m_l) A_l`, `kind` is one of

    - ``'layers'``: :math:`\prod_l \mathrm{diag}(c_l) M_l`, at most
      :math:`C_L T_{ij}` with :math:`T` the attention rollout;
    - ``'visits'``: :math:`C_L V_{ij}`, with the probability that the walk
      from :math:`i` meets :math:`j`
      (:func:`~gnnbridge.spectral.layered_influence`);
    - ``'envelope'``: :math:`C_L h^*_{ij}`, which does not depend on the order
      of layers or on `mixing` (:func:`~gnnbridge.spectral.envelope_hitting`);
    - ``'resistance'``: :math:`C_L / (\ell_i R_{i \to j})`, for layers that
      share their attention (:func:`~gnnbridge.spectral.effective_resistance`).

    In this order they grow. They hold if :math:`\lVert \partial y_i / \partial
    x_j \rVert_2 \le c_i M_{ij}` for every layer, as with
    :math:`c` = ``factor``, :math:`m` = ``share`` and :math:`A` =
    ``weighted`` of ``gnnbridge.models.lipschitz.block_constants``, softmax
    included. The bounds of message-passing networks take attention for
    something that does not depend on the states:

    - ``'topping'``: :math:`\prod_l c_l A_l` (`Topping et al., 2022
      <https://arxiv.org/abs/2111.14522>`_, :math:`(\alpha \beta)^L
      (\hat A^L)_{ij}`), of sources that are :math:`L` hops away and no fewer;
    - ``'di_giovanni'``: :math:`\prod_l c_l (c_r I + c_a A_l)` (`Di Giovanni
      et al., 2023 <https://arxiv.org/abs/2302.02941>`_, :math:`(c_\sigma w
      p)^L (S^L)_{ij}`), with `weights` :math:`c_r, c_a`;
    - ``'black'``: :math:`\prod_l 2 c_l \sum_{k \le L} (A^k)_{ij}` (`Black et
      al., 2023 <https://arxiv.org/abs/2302.06835>`_, Lemma 3.2). The lemma is
      of undirected, connected graphs that are not bipartite, and of one
      graph; :math:`A^k` is here the mean of the products of :math:`k` of the
      layers, in order, and the power if they are the same;
    - ``'barbero'``: :math:`\prod_l c_l (A_l + I)` (`Barbero et al., 2024
      <https://arxiv.org/abs/2406.04267>`_, Theorem 5.1, with :math:`c =
      \sigma_\psi / \beta`).

    All but the first hold for a model if :math:`\lVert \partial y_i /
    \partial x_j \rVert_2 \le c (c_r \delta_{ij} + c_a A_{ij})` for every
    layer, as with
    :math:`A` = ``attention`` and `weights` = ``uniform`` of the same
    constants; ``'black'`` and ``'barbero'`` with the larger of the two as
    :math:`c`. Without `constants` all of them are shapes alone.

    Args:
        attentions: The matrices :math:`A_l`, first layer first, row =
            receiver.
        kind: Which bound; see above.
        constants: The factors :math:`c`: one number, one per layer or, for
            the first three, one per layer and receiver; ones if not given.
        mixing: The share :math:`m` of attention in the rows of the first two:
            one number, one per layer, or one per layer and receiver; 1/2 if
            not given.
        weights: :math:`c_r` and :math:`c_a` of ``'di_giovanni'``, numbers or
            one per layer.
        log: Whether to return the common logarithm, which neither overflows
            in deep models nor loses what is small; of 0 it is ``-inf``.

    Shapes:
        - **attentions:** :math:`(L, N, N)`, or :math:`L` of :math:`(N, N)`
        - **output:** :math:`(N, N)`, row = receiver

    Returns:
        The bounds, float64.

    Raises:
        ValueError: If the layers, constants or mixing do not fit, or layers
            differ for ``'resistance'``.

    Example:
        >>> A = torch.tensor([[1., 0.], [.5, .5]])
        >>> sensitivity_bound([A, A], kind='layers', constants=2.0)[1]
        tensor([1.7500, 2.2500], dtype=torch.float64)
    """
    if kind not in get_args(BoundKind):
        raise ValueError(
            f"Expected 'kind' to be one of {get_args(BoundKind)} (got "
            f'{kind!r}).'
        )
    layers = stack_of(attentions, torch.float64)
    if layers[0].dim() != 2:
        raise ValueError(
            f"Expected 'attentions' of shape [L, N, N] (got layers of shape "
            f'{list(layers[0].shape)}).'
        )
    c = _factors('constants', constants, layers)
    shares = shares_of(
        0.5 if mixing is None else mixing, len(layers), layers[0]
    )
    if kind in ('visits', 'envelope', 'resistance'):
        scale = c.amax(-1).log10().sum()
        flat = [share.squeeze(-1) for share in shares]
        found = _walked(kind, layers, torch.stack(flat)).log10() + scale
    elif kind == 'black':
        found = _subsets(layers).log10()
        found = found + (2 * c.amax(-1)).log10().sum()
    else:
        stay, pull = _steps(kind, shares, weights, layers)
        eye = torch.eye(len(layers[0])).to(layers[0])
        found = _product(
            [
                factor.unsqueeze(-1) * (s * eye + p * A)
                for factor, s, p, A in zip(c, stay, pull, layers, strict=True)
            ]
        )
    return found if log else 10**found


def _factors(
    name: str, given: Constants | None, layers: list[Tensor]
) -> Tensor:
    """One number per layer and receiver ``[L, N]``."""
    like = layers[0]
    given = 1.0 if given is None else given
    values = torch.as_tensor(given, dtype=like.dtype, device=like.device)
    sizes = [(), (len(layers),), (len(layers), like.size(-1))]
    if values.shape not in sizes:
        raise ValueError(
            f"Expected '{name}' to be a number or to have one of the shapes "
            f'{sizes[1:]} (got {tuple(values.shape)}).'
        )
    if not (values.isfinite() & (values >= 0)).all():
        raise ValueError(
            f"Expected '{name}' to be finite and not negative (got values "
            f'from {values.min():.4g} to {values.max():.4g}).'
        )
    values = values.reshape(*values.shape, *[1] * (2 - values.dim()))
    return values.expand(sizes[2])


def _steps(
    kind: BoundKind,
    shares: list[Tensor],
    weights: tuple[Constants, Constants],
    layers: list[Tensor],
) -> tuple[list[Tensor], list[Tensor]]:
    """What multiplies the identity and the attention of each layer."""
    if kind == 'layers':
        return [1 - share for share in shares], shares
    if kind == 'di_giovanni':
        both = (_factors('weights', given, layers) for given in weights)
        stay, pull = (list(values.unsqueeze(-1)) for values in both)
        return stay, pull
    one = [torch.ones_like(share) for share in shares]
    return (one if kind == 'barbero' else [0 * x for x in one]), one


def _product(steps: list[Tensor]) -> Tensor:
    """Common logarithm of the product, last step leftmost."""
    total, scale = steps[0], 0.0
    for step in steps[1:]:
        largest = float(total.detach().max()) or 1.0
        scale += math.log10(largest)
        total = step @ (total / largest)
    return total.log10() + scale


def _walked(kind: BoundKind, layers: list[Tensor], shares: Tensor) -> Tensor:
    """Probabilities of the walk from receiver to source."""
    if kind == 'visits':
        return layered_influence(layers, shares)[1]
    if kind == 'envelope':
        return envelope_hitting(layers)
    A = layers[0]
    if any((other - A).abs().max() > _SAME for other in layers[1:]):
        raise ValueError(
            "Expected layers that share their attention for kind='resistance' "
            "(got some that differ). Use kind='envelope' instead."
        )
    flow, rate = effective_resistance(A, conductance=True), leave_rate(A)
    h = flow / rate.masked_fill(rate == 0, 1.0).unsqueeze(-1)
    return h.fill_diagonal_(1.0)


def _subsets(layers: list[Tensor]) -> Tensor:
    """The sum over k of the mean product of k of the layers, in order."""
    count = len(layers)
    sums = [torch.eye(len(layers[0])).to(layers[0])]
    sums += [torch.zeros_like(layers[0]) for _ in layers]
    for number, A in enumerate(layers, 1):
        for k in range(number, 0, -1):
            sums[k] = sums[k] + A @ sums[k - 1]
    total = torch.zeros_like(layers[0])
    for k, one in enumerate(sums):
        total = total + one / math.comb(count, k)
    return total
