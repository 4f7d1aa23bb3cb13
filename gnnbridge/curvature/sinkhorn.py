r"""Optimal transport by Sinkhorn's iterations, many problems at once.

The iterations give potentials of the entropic problem. Distances are whole
numbers, so that some of the best potentials of the problem itself are whole,
too: rounded, and then made as large as the distances allow, those of the
entropic problem bound the cost from below, and mostly reach it. The cost of
the entropic plan is further off, by more than a digit, and on either side.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from gnnbridge.curvature.measures import Problems, count_up

# Where the regularisation ends; it starts at 1 and falls with each iteration,
# which takes fewer of them than a small one from the start.
_EPSILON = 0.02
# What to add before rounding down; the best is kept. Potentials that have
# room to move settle between two whole numbers.
_ROUNDING = tuple(step / 8 for step in range(8))


def sinkhorn_cost(problems: Problems, iterations: int) -> Tensor:
    """A lower bound of the cost of each problem, ``[B]``.

    Differentiable in the masses: the potentials are the gradient.
    """
    distance, supply, demand = _padded(problems)
    with torch.no_grad():
        f = _entropic(distance, supply, demand, iterations)
        potentials = [
            _tight(distance, supply, demand, (f + up).floor())
            for up in _ROUNDING
        ]
    bounds = [(supply * f).sum(1) + (demand * g).sum(1) for f, g in potentials]
    return torch.stack(bounds).amax(0)


def _padded(problems: Problems) -> tuple[Tensor, Tensor, Tensor]:
    """Distances ``[B, S, D]``, supplies ``[B, S]`` and demands ``[B, D]``."""
    row, supply = _table(problems.size, problems.supply_block, problems.supply)
    column, demand = _table(
        problems.size, problems.demand_block, problems.demand
    )
    distance = np.zeros((*supply.shape, demand.size(1)), dtype=np.float32)
    a, b = problems.pair_supply, problems.pair_demand
    distance[problems.supply_block[a], row[a], column[b]] = problems.distance
    return torch.from_numpy(distance).to(supply.device), supply, demand


def _table(
    size: int, block: np.ndarray, mass: Tensor
) -> tuple[np.ndarray, Tensor]:
    """The masses of each block in a row of its own, and where in it."""
    count = np.bincount(block, minlength=size)
    column = count_up(count)
    width = int(count.max(initial=1))
    place = torch.from_numpy(block * width + column).to(mass.device)
    table = mass.new_zeros(size * width).index_add(0, place, mass)
    return column, table.view(size, width)


def _entropic(
    distance: Tensor, supply: Tensor, demand: Tensor, iterations: int
) -> Tensor:
    """Potentials of the supplies, in float32: they are rounded anyway."""
    log_supply, log_demand = _log_share(supply), _log_share(demand)
    f = torch.zeros_like(log_supply)
    for step in range(iterations):
        epsilon = _EPSILON ** ((step + 1) / iterations)
        cost = distance / epsilon
        g = (log_supply + f / epsilon).unsqueeze(2).sub(cost).logsumexp(1)
        f = (log_demand - g).unsqueeze(1).sub(cost).logsumexp(2) * -epsilon
    # Nothing to move.
    return f.nan_to_num(0.0, 0.0, 0.0)


def _log_share(mass: Tensor) -> Tensor:
    # Masses of next to nothing may have either sign.
    mass = mass.clamp(min=0.0)
    total = mass.sum(1, keepdim=True)
    return (mass / total.masked_fill(total == 0, 1.0)).log().float()


def _tight(
    distance: Tensor, supply: Tensor, demand: Tensor, f: Tensor
) -> tuple[Tensor, Tensor]:
    """The largest potentials near `f` whose sums keep to the distances."""
    absent = (supply <= 0).unsqueeze(2)
    g = (distance - f.unsqueeze(2)).masked_fill(absent, math.inf).amin(1)
    g = g.masked_fill(demand <= 0, 0.0)
    absent = (demand <= 0).unsqueeze(1)
    f = (distance - g.unsqueeze(1)).masked_fill(absent, math.inf).amin(2)
    return f.nan_to_num(0.0, 0.0, 0.0), g.nan_to_num(0.0, 0.0, 0.0)
