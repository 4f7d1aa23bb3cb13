"""Objectives of causal rewiring: their value, and after a move of one row.

A value is a pair: the number of wanted pairs that are not connected, and the
resistance of those that are. Fewer unconnected pairs are always better.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from gnnbridge.transforms.causal_walk import CausalWalk

# Numbers at a time in the tables of all moves of a row: bounds the memory.
_CHUNK = 1 << 22
# Numbers that stay in a core's cache.
_CACHED = 1 << 15
# Where tangents touch, as shares of the range: a thousandth to all of it.
_TANGENTS = (0.0, *(10 ** (-k / 3) for k in range(9, -1, -1)))


class Objective(ABC):
    """What is to be small.

    Args:
        pairs: How much each pair counts ``[N, N]``, row = receiver; only what
            is below the diagonal is used.
    """

    name: str

    def __init__(self, pairs: Tensor) -> None:
        self.pairs = pairs.tril(-1)

    @abstractmethod
    def reduce(self, resistance: Tensor) -> Tensor:
        """One number for the weighted resistances ``[M, ...]``, ``[M]``."""

    @abstractmethod
    def bound(
        self, walk: CausalWalk, a: int, sources: Tensor, move: Tensor
    ) -> Tensor:
        """What changes with a move cannot be worth less, ``[M]``; cheaper."""

    @abstractmethod
    def rest(self, resistance: Tensor) -> Tensor:
        """What a move of each row leaves as it is, ``[N]``.

        For row ``a`` the pairs that start before it or end at it or later.
        """

    @abstractmethod
    def join(self, first: Tensor, second: Tensor) -> Tensor:
        """The value of two sets of pairs from those of each."""

    def value(self, walk: CausalWalk, first: int = 0) -> tuple[int, float]:
        """Unconnected pairs, and the resistance of the others.

        Args:
            walk: The graph.
            first: Rows before this one are left out.
        """
        conductance = walk.rate[first:, None] * walk.h[first:]
        resistance, apart = self.measure(conductance, self.pairs[first:])
        return int(apart.sum()), float(self.reduce(resistance.unsqueeze(0)))

    def measure(
        self, conductance: Tensor, pairs: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Weighted resistances, 0 where there is none, and where that is."""
        resistance = pairs / conductance
        apart = resistance.isinf()
        # Not a number is what does not count and is not connected.
        return resistance.nan_to_num_(nan=0.0, posinf=0.0), apart

    def of_row(self, a: int, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Unconnected pairs and value of row `a` alone, from ``[M, a]``."""
        resistance, apart = self.measure(rows, self.pairs[a, :a])
        return apart.sum(1), self.reduce(resistance)

    def even_additions(
        self, walk: CausalWalk, a: int, eta: float
    ) -> Tensor | None:
        """Value of row `a` alone if each earlier token got the share `eta`.

        Returns:
            The values by source ``[a]``, or ``None`` where there is no faster
            way than :meth:`of_row`.
        """
        return None

    def after(
        self, walk: CausalWalk, a: int, sources: Tensor, move: Tensor
    ) -> Tensor:
        """What changes with a move is worth after it, ``[M]``, exactly.

        Args:
            walk: The graph before.
            a: The row that moves.
            sources: Where to, ``[M]``.
            move: By how much, ``[M]``.
        """
        size = max((len(walk.rate) - a) * a, 1)
        parts = zip(
            sources.split(max(_CHUNK // size, 1)),
            move.split(max(_CHUNK // size, 1)),
            strict=True,
        )
        return torch.cat([self._after(walk, a, *part) for part in parts])

    def _after(
        self, walk: CausalWalk, a: int, sources: Tensor, move: Tensor
    ) -> Tensor:
        own = self.of_row(a, walk.own_row_after(a, sources, move))[1]
        reach = walk.h[a + 1 :, a, None]
        push = walk.push(a, sources, move).unsqueeze(1)
        h = walk.h[a + 1 :, :a] + reach * push  # shape: [M, N - a - 1, a]
        later, _ = self.measure(
            walk.rate[a + 1 :, None] * h, self.pairs[a + 1 :, :a]
        )
        return self.join(own, self.reduce(later.flatten(1)))


class TotalResistance(Objective):
    """The sum over all pairs."""

    name = 'total resistance'

    def reduce(self, resistance: Tensor) -> Tensor:
        """The sum."""
        return resistance.flatten(1).sum(1)

    def join(self, first: Tensor, second: Tensor) -> Tensor:
        """The sum."""
        return first + second

    def even_additions(
        self, walk: CausalWalk, a: int, eta: float
    ) -> Tensor | None:
        """Three passes over blocks that stay in the cache."""
        old = walk.rate[a] * walk.h[a, :a]
        if not (old > 0).all():
            return None
        kept, pairs = (1 - eta) * old, self.pairs[a, :a]
        return torch.cat(
            [
                torch.add(kept, h, alpha=eta * walk.follow).reciprocal_()
                @ pairs
                for h in walk.h[:a, :a].split(max(_CACHED // a, 1))
            ]
        )

    def rest(self, resistance: Tensor) -> Tensor:
        """Sums of the rows above and of the columns from there on."""
        above = resistance.sum(1).cumsum(0).roll(1)
        above[0] = 0
        return above + resistance.sum(0).flip(0).cumsum(0).flip(0)

    def bound(
        self, walk: CausalWalk, a: int, sources: Tensor, move: Tensor
    ) -> Tensor:
        """Row `a` exactly, and the later ones by tangents.

        The resistance of a later row is convex in what the move adds to its
        hitting probability, so it is nowhere below its tangents.
        """
        own = self.of_row(a, walk.own_row_after(a, sources, move))[1]
        reach = walk.h[a + 1 :, a, None]
        h, pairs = walk.h[a + 1 :, :a], self.pairs[a + 1 :, :a]
        fixed, _ = self.measure(walk.rate[a + 1 :, None] * h, pairs)
        moves = (reach > 0) & (h > 0)
        cost = pairs / (walk.rate[a + 1 :, None] * reach)
        cost = cost.where(moves, 0.0)  # shape: [N - a - 1, a]
        q = (h / reach).where(moves, 1.0)
        push = walk.push(a, sources, move)  # shape: [M, a]
        if len(q) > 0:
            own = own + fixed.where(~moves, 0.0).sum()
            own = own + _below(cost, q, push).sum(1)
        return own


class WorstResistance(Objective):
    """The largest over all pairs."""

    name = 'largest resistance'

    def reduce(self, resistance: Tensor) -> Tensor:
        """The largest, 0 if there is none."""
        flat = resistance.flatten(1)
        if flat.size(1) == 0:
            return flat.new_zeros(len(flat))
        return flat.amax(1)

    def join(self, first: Tensor, second: Tensor) -> Tensor:
        """The larger one."""
        return torch.maximum(first, second)

    def rest(self, resistance: Tensor) -> Tensor:
        """Maxima of the rows above and of the columns from there on."""
        above = resistance.amax(1).cummax(0).values.roll(1)
        above[0] = 0
        after = resistance.amax(0).flip(0).cummax(0).values.flip(0)
        return torch.maximum(above, after)

    def bound(
        self, walk: CausalWalk, a: int, sources: Tensor, move: Tensor
    ) -> Tensor:
        """What the worst pair of now will have."""
        resistance, _ = self.measure(walk.conductance, self.pairs)
        i, j = divmod(int(resistance.argmax()), len(walk.rate))
        if not j < a <= i:
            return torch.zeros_like(move)
        if i == a:
            own = walk.own_row_after(a, sources, move)[:, j]
        else:
            push = walk.push(a, sources, move)[:, j]
            own = walk.rate[i] * (walk.h[i, j] + walk.h[i, a] * push)
        return self.measure(own, self.pairs[i, j])[0]


def _below(
    cost: Tensor,  # shape: [R, a]
    q: Tensor,  # shape: [R, a], positive
    push: Tensor,  # shape: [M, a]
) -> Tensor:  # shape: [M, a]
    """The largest of some tangents of ``sum_i cost / (q + push)``."""
    least = push.amin(0).maximum(-0.9 * q.amin(0))
    span = push.amax(0).maximum(least) - least
    best = torch.full_like(push, -torch.inf)
    for share in _TANGENTS:
        touch = least + span * share
        at = 1 / (q + touch)
        height = (cost * at).sum(0)
        slope = -(cost * at * at).sum(0)
        best = best.maximum(height + slope * (push - touch))
    return best
