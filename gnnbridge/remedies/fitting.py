"""Temperatures at which attention has a given entropy or resistance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from gnnbridge.models.pairs import dense_weights
from gnnbridge.models.slots import Pairs
from gnnbridge.spectral.resistance import total_resistance

Measure = Literal['entropy', 'resistance']
# Logarithms of temperatures [H] to weights [E, H].
Weights: TypeAlias = Callable[[Tensor], Tensor]

_RANGE = 3.0
_BISECTIONS = 40
_GRID = 25


def fit_entropy(
    weights: Weights, own: Pairs, like: Tensor, target: float
) -> tuple[Tensor, Tensor]:
    """Temperatures of a given mean entropy, one for each head.

    Args:
        weights: Attention at given temperatures.
        own: Its pairs.
        like: A tensor of the shape of the temperatures ``[H]``.
        target: The mean over rows of entropy over its maximum.

    Returns:
        Logarithms of temperatures, and what they reach, both ``[H]``.
    """
    low, high = torch.full_like(like, -_RANGE), torch.full_like(like, _RANGE)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        # Entropy falls with the factor of the scores.
        flat = mean_entropy(weights(middle), own) > target
        low = torch.where(flat, middle, low)
        high = torch.where(flat, high, middle)
    found = (low + high) / 2
    return found, mean_entropy(weights(found), own).to(found)


def mean_entropy(alpha: Tensor, own: Pairs) -> Tensor:
    """Mean of the entropy of rows over its maximum ``[H]``, float64.

    Rows of one key have none and are left out; those that do not sum to one
    are made to.

    Args:
        alpha: Weights ``[E, H]``.
        own: Their pairs.
    """
    row, alpha = own.plan.edge_index[1], alpha.double()
    zero = alpha.new_zeros(own.plan.size[1], alpha.size(1))
    total = zero.index_add(0, row, alpha).clamp_min(1e-300)
    share = alpha / total[row]
    entropy = zero.index_add(0, row, -torch.xlogy(share, share))
    count = torch.bincount(row, minlength=len(zero))
    several = count > 1
    most = count[several].double().log().unsqueeze(1)
    return (entropy[several] / most).mean(dim=0)


def fit_resistance(
    weights: Weights, own: Pairs, like: Tensor, target: float, hops: float
) -> tuple[Tensor, Tensor]:
    """The temperature at which a layer has a given total resistance.

    Args:
        weights: Attention at given temperatures.
        own: Its pairs.
        like: A tensor of the shape of the temperatures ``[H]``.
        target: Total resistance over that of uniform attention.
        hops: The expected number of attention hops.

    Returns:
        Logarithms of temperatures, and what they reach, both ``[H]``.
    """
    uniform = total(torch.ones_like(weights(torch.zeros_like(like))), own, hops)

    def ratio(value: float) -> float:
        alpha = weights(torch.full_like(like, value))
        return total(alpha, own, hops) / uniform

    centre, half = 0.0, _RANGE
    for _ in range(3):
        around = torch.linspace(centre - half, centre + half, _GRID)
        grid = around.clamp(-_RANGE, _RANGE).tolist()
        # Of two that are as near, the one that changes less.
        centre = min(grid, key=lambda x: (abs(ratio(x) - target), abs(x)))
        half = 2 * half / (_GRID - 1)
    return (
        torch.full_like(like, centre),
        torch.full_like(like, ratio(centre)),
    )


def total(alpha: Tensor, own: Pairs, hops: float) -> float:
    """Total causal resistance of the mean over heads, summed over sequences.

    Args:
        alpha: Weights ``[E, H]``.
        own: Their pairs.
        hops: The expected number of attention hops.
    """
    mean = alpha.double().mean(dim=1, keepdim=True)
    graphs = dense_weights(mean, own)[:, 0].cpu()
    resistance = total_resistance(
        graphs, kind='causal', hops=hops, renormalize=True
    )
    return float(resistance.sum())
