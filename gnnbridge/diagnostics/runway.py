"""How much of a causal decoder lies ahead of a token, by its position."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gnnbridge.graph.checks import check_size


@dataclass(frozen=True)
class Runway:
    r"""What lies between each token at the input and the last one at the top.

    Positions count from 0, :math:`i = 0, \ldots, N - 1`.

    Attributes:
        num_tokens: The number of tokens :math:`N`.
        num_layers: The number of attention layers :math:`L`.
        path_counts: The ways from each token to the readout; see
            :func:`path_counts`.
        updates: The updates of a token by a layer that lie on such a way.
    """

    num_tokens: int
    num_layers: int
    path_counts: tuple[int, ...]
    updates: tuple[int, ...]

    @property
    def path_count_log10(self) -> Tensor:
        """Decimal logarithms of the path counts ``[N]`` float64."""
        # Python's logarithm takes integers of any size.
        logs = [math.log10(count) for count in self.path_counts]
        return torch.tensor(logs, dtype=torch.float64)

    @property
    def opportunities(self) -> Tensor:
        """The share of all updates before the readout ``[N]`` float64."""
        updates = torch.tensor(self.updates, dtype=torch.float64)
        return updates / updates[0]

    @property
    def asymmetry(self) -> float:
        """The :func:`runway_asymmetry` of the path counts."""
        return runway_asymmetry(self.path_counts)


def runway(num_tokens: int, num_layers: int) -> Runway:
    r"""The runway of every token of a causal decoder, from its graph alone.

    Every layer updates every token from itself and all earlier ones. Unrolled
    over the layers, an update is a node :math:`(k, l)`: token :math:`k` after
    layer :math:`l`. What token :math:`i` says at the input can be refined in
    the updates that lie on a way from :math:`(i, 0)` to the readout
    :math:`(N - 1, L)`: those of the tokens :math:`k \ge i` in all layers but
    the last, where the readout alone counts,

    .. math::
        u_i = (N - i) (L - 1) + 1.

    Every token further from the end has one layer stack more to be refined
    in; the last has its own :math:`L` updates and no other. `opportunities`
    is :math:`u_i / u_0`, the share of all updates before the readout.

    The graph is that of full causal attention: windows have less.

    Args:
        num_tokens: The number of tokens :math:`N`.
        num_layers: The number of attention layers :math:`L`.

    Raises:
        ValueError: If one of them is not positive.
    """
    counts = path_counts(num_tokens, num_layers)
    updates = [
        (num_tokens - i) * (num_layers - 1) + 1 for i in range(num_tokens)
    ]
    return Runway(num_tokens, num_layers, tuple(counts), tuple(updates))


def path_counts(num_tokens: int, num_layers: int) -> list[int]:
    r"""The number of ways from each token to the last one through all layers.

    .. math::
        \binom{N - 1 - i + L - 1}{L - 1}, \qquad i = 0, \ldots, N - 1,

    the last row of :math:`\mathrm{tril}(\mathbf{1} \mathbf{1}^\top)^L`: in
    each layer a token goes to itself or to any later one.

    Args:
        num_tokens: The number of tokens :math:`N`.
        num_layers: The number of layers :math:`L`.

    Returns:
        The counts, exactly.

    Raises:
        ValueError: If one of them is not positive.

    Example:
        >>> path_counts(6, 4)
        [56, 35, 20, 10, 4, 1]
    """
    check_size('num_tokens', num_tokens)
    check_size('num_layers', num_layers)
    counts = [1]
    for distance in range(1, num_tokens):
        # C(d + L - 1, L - 1) from C(d + L - 2, L - 1); the division is exact.
        counts.append(counts[-1] * (distance + num_layers - 1) // distance)
    return counts[::-1]


def birth_influence(
    num_tokens: int, num_layers: int, mixing: float | Tensor
) -> Tensor:
    r"""Influence on the last token if attention is uniform in every layer.

    The last row of

    .. math::
        \prod_l \bigl( (1 - m_l) I + m_l C \bigr), \qquad
        C_{ij} = \frac{1}{i + 1} \quad (j \le i),

    with :math:`C` the Cesàro matrix of uniform causal attention and
    :math:`m_l` the share of attention in the residual stream (`Chowdhury,
    2026 <https://arxiv.org/abs/2603.10123>`_): what a decoder shows before it
    has learned anything. It is computed from right to left in
    :math:`O(L N)`, exactly. The continuous form of the paper has its order of
    positions, but for 512 tokens and :math:`m = 1` its L1 error is 0.001 at 2
    layers, 0.42 at 8 and 0.89 at 12.

    It falls from the first token to the second to last, and where
    :math:`m < 1` the last token stands out, whose residual stream is read.

    Args:
        num_tokens: The number of tokens :math:`N`.
        num_layers: The number of layers :math:`L`.
        mixing: The share :math:`m`, between 0 and 1: one number, or one per
            layer.

    Shapes:
        - **mixing:** a number or :math:`(L)`
        - **output:** :math:`(N)`

    Returns:
        The influence by position, in float64; it sums to one.

    Raises:
        ValueError: If a number is out of range, or `mixing` does not fit.
    """
    check_size('num_tokens', num_tokens)
    check_size('num_layers', num_layers)
    shares = torch.as_tensor(mixing, dtype=torch.float64)
    if shares.shape not in ((), (num_layers,)):
        raise ValueError(
            f"Expected 'mixing' to be a number or one per layer, "
            f'[{num_layers}] (got shape {list(shares.shape)}).'
        )
    if not bool(((shares >= 0) & (shares <= 1)).all()):
        raise ValueError(
            f"Expected 'mixing' to be between 0 and 1 (got {shares.tolist()})."
        )
    seen = torch.arange(1, num_tokens + 1, dtype=torch.float64)
    row = torch.zeros(num_tokens, dtype=torch.float64)
    row[-1] = 1
    for share in shares.expand(num_layers).flip(0).tolist():
        # A receiver i gives each of its i + 1 sources the same.
        given = (row / seen).flip(0).cumsum(0).flip(0)
        row = (1 - share) * row + share * given
    return row


def runway_asymmetry(
    influence: Tensor | Sequence[int], share: float = 0.1
) -> float:
    r"""How many times more the first tokens count than the last, as logarithm.

    .. math::
        \mathrm{RA} = \ln \frac{\sum_{i < k} f_i}
        {\sum_{N - 1 - k \le i < N - 1} f_i}, \qquad
        k = \max(1, \lfloor s N \rfloor)

    The final token, which is read itself, is in neither: its residual stream
    would hide the others. 0 is no preference; positive, the first tokens have
    more.

    Args:
        influence: The influence :math:`f` by position, not negative; or path
            counts, which are summed exactly however large.
        share: The share :math:`s` of the tokens at each end, up to a half.

    Shapes:
        - **influence:** :math:`(N)`

    Returns:
        The natural logarithm; infinite where one end has none, NaN where
        both have none or there are fewer than :math:`2 k + 1` tokens.

    Raises:
        ValueError: If `share` is out of range or `influence` is no vector.
    """
    if not 0 < share <= 0.5:
        raise ValueError(
            f"Expected 'share' to be above 0 and at most 0.5 (got {share})."
        )
    if isinstance(influence, Tensor) and influence.dim() != 1:
        raise ValueError(
            f"Expected 'influence' of shape [N] (got {list(influence.shape)})."
        )
    values = influence.tolist() if isinstance(influence, Tensor) else influence
    count = max(1, math.floor(share * len(values) + 1e-9))
    if len(values) < 2 * count + 1:
        return math.nan
    early, late = sum(values[:count]), sum(values[-1 - count : -1])
    if not (early >= 0 and late >= 0) or early == late == 0:
        return math.nan
    if early == 0 or late == 0:
        return math.inf if late == 0 else -math.inf
    return math.log(early) - math.log(late)
