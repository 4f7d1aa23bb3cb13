r"""What one more edge, or one less, does to all hitting probabilities.

The attention of receiver :math:`a` moves towards source :math:`l`,
:math:`A_a \to A_a + \eta (e_l - A_a)`: a new edge of share :math:`\eta` takes
from the others in proportion, and one of share :math:`A_{al}` that goes,
:math:`\eta = -A_{al} / (1 - A_{al})`, leaves to them in proportion. With
:math:`s` the probability to follow an edge (1 for unlimited depth) and
:math:`\ell_a = 1 - s A_{aa}` the leave rate, the formula of Sherman and
Morrison for :math:`(I - s A)^{-1}` becomes

.. math::
    \ell_a' = \ell_a + \eta s A_{aa}, \qquad
    h_{ij}' = h_{ij} + \frac{\eta}{\ell_a'} h_{ia} (s h_{lj} - h_{aj})

for :math:`j < a \le i`, and nothing else changes. It is exact, and its
derivative at :math:`\eta = 0` is the gradient of
:func:`gnnbridge.spectral.resistance_gradient`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gnnbridge.spectral.green import hitting_of
from gnnbridge.spectral.walk import split_hops, walk_on


@dataclass(frozen=True)
class CausalWalk:
    """A walk against the information, and what its moves would change.

    Attributes:
        share: The attention ``[N, N]``, row = receiver, rows sum to one.
        h: The hitting probabilities ``[N, N]``, 1 on the diagonal.
        rate: The leave rates ``[N]``.
        follow: The probability :math:`s` to follow an edge.
    """

    share: Tensor
    h: Tensor
    rate: Tensor
    follow: float

    @classmethod
    def on(cls, weight: Tensor, hops: float | None) -> CausalWalk:
        """The walk on a graph of weights ``[N, N]``.

        A token without edges keeps to itself.
        """
        total = weight.sum(1, keepdim=True)
        share = torch.where(
            total > 0,
            weight / total.masked_fill(total == 0, 1.0),
            torch.eye(len(weight), dtype=weight.dtype, device=weight.device),
        )
        follow = 1.0 if hops is None else split_hops(hops)[0]
        walk = walk_on(share, hops, share.dtype)
        return cls(share, hitting_of(walk), walk.rate, follow)

    @property
    def conductance(self) -> Tensor:
        """One over the causal resistances, ``[N, N]``."""
        return self.rate.unsqueeze(1) * self.h

    def rate_after(self, a: int, move: Tensor) -> Tensor:
        """The leave rate of a row after moves ``[M]`` of it."""
        return self.rate[a] + move * (self.follow * self.share[a, a])

    def own_row_after(self, a: int, sources: Tensor, move: Tensor) -> Tensor:
        r"""Conductances of row `a` to the tokens before it, ``[M, a]``.

        Args:
            a: The receiver.
            sources: The source of each move ``[M]``.
            move: The size :math:`\eta` of each ``[M]``.
        """
        old = self.rate[a] * self.h[a, :a]
        pull = self.follow * self.h[sources, :a] - old
        return old + move.unsqueeze(1) * pull

    def push(self, a: int, sources: Tensor, move: Tensor) -> Tensor:
        """What later rows gain where they reach `a` for sure, ``[M, a]``.

        Row ``i > a`` gains this times ``h[i, a]``.
        """
        size = move / self.rate_after(a, move)
        pull = self.follow * self.h[sources, :a] - self.h[a, :a]
        return size.unsqueeze(1) * pull
