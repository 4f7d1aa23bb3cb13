"""How far apart the states of different sequences lie."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sharpness:
    r"""Distances among states, from each of them.

    Attributes:
        nearest: The distance of each state to the nearest other one
            :math:`(S)`.
        others: The mean distance of each state to all others :math:`(S)`.
    """

    nearest: Tensor
    others: Tensor

    @property
    def nearest_mean(self) -> float:
        """The mean distance to the nearest other state."""
        return float(self.nearest.mean())

    @property
    def nearest_least(self) -> float:
        """The least distance of two states."""
        return float(self.nearest.min())

    @property
    def pair_mean(self) -> float:
        """The mean distance of all pairs."""
        return float(self.others.mean())

    @property
    def ratio(self) -> float:
        """`nearest_mean` over `pair_mean`; NaN if all states are equal.

        In high dimensions 1 if the states are spread evenly, 0 if every state
        has a double.
        """
        return float(self.nearest.mean() / self.others.mean())


def nearest_neighbor_distance(states: Tensor) -> Sharpness:
    r"""Euclidean distances of states to their nearest neighbours.

    What a readout has to tell apart: the last-token states of different
    sequences. `Lee, 2025 <https://arxiv.org/abs/2512.09182>`_ asks for such a
    sharpness of representations beside how alike the tokens of one sequence
    are.

    Args:
        states: The states, one of each sequence.

    Shapes:
        - **states:** :math:`(S, d)` with :math:`S` at least 2

    Returns:
        The distances in float64, without the rounding of the product form.

    Raises:
        ValueError: If there are fewer than two states.
    """
    if states.dim() != 2 or states.size(0) < 2 or states.size(1) == 0:
        raise ValueError(
            "Expected 'states' of shape [S, d] with at least two states (got "
            f'{list(states.shape)}).'
        )
    x = states.detach().double().cpu()
    # The product form loses neighbours that are closer than half precision.
    distance = torch.cdist(x, x, compute_mode='donot_use_mm_for_euclid_dist')
    others = distance.sum(1) / (len(x) - 1)
    nearest = distance.fill_diagonal_(torch.inf).amin(1)
    return Sharpness(nearest=nearest, others=others)
