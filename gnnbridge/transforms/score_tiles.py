r"""The largest quotient of all pairs of nodes, whose terms shrink.

A pair has the quotient :math:`B_{st} / T_{st}` with :math:`T \ge 1`. A change
takes :math:`2 (u_s - u_t) (w_s - w_t)` from each :math:`B` and :math:`c (u_s -
u_t)^2` from each :math:`T`. Pairs are held in tiles, and a tile is changed
when it might have the largest quotient and not before: where :math:`u` and
:math:`w` range over :math:`\delta` and :math:`\varepsilon`, a quotient
:math:`q` becomes no more than

.. math::
    \frac{q + 2 \delta \varepsilon}{1 - c \delta^2}.
"""

from __future__ import annotations

from typing import Any

import numpy as np

# Both terms and a product of this width stay in the cache of a core.
_WIDTH = 128
# Changes after which all tiles are changed, to bound the memory.
_CHANGES = 64


class ScoreTiles:
    r"""The quotients of all pairs.

    Bounds are tight if nodes that change alike are next to each other.

    Args:
        above: The matrix :math:`X` with :math:`B_{st} = e^\top X e`, :math:`e
            = e_s - e_t`, ``[n, n]`` symmetric.
        below: The matrix that gives :math:`(T_{st} - 1) / c` likewise.
        factor: :math:`c`.
        taken: The pairs that do not count, ``[n, n]`` bool.
    """

    def __init__(
        self,
        above: np.ndarray,
        below: np.ndarray,
        factor: float,
        taken: np.ndarray,
    ) -> None:
        self.size, self.factor = len(above), factor
        self.spans = [
            slice(begin, min(begin + _WIDTH, self.size))
            for begin in range(0, self.size, _WIDTH)
        ]
        self.row, self.column = np.triu_indices(len(self.spans))
        self.tiles = [
            _Tile(
                _between(above, self.spans[i], self.spans[j]),
                _between(below, self.spans[i], self.spans[j]) * factor + 1,
            )
            for i, j in zip(self.row, self.column, strict=True)
        ]
        for tile, i, j in zip(self.tiles, self.row, self.column, strict=True):
            tile.leave_out(taken[self.spans[i], self.spans[j]])
            if i == j:
                tile.leave_out(np.tri(len(tile.above), dtype=bool))
        # What the changes take is a product of two matrices for each term.
        self.of_above = np.ones((2, _CHANGES, 4, self.size))
        self.of_below = np.ones((2, _CHANGES, 3, self.size))
        self.number = 0
        self.room = np.empty(_WIDTH**2)
        # The largest quotient of each tile, or a bound on it.
        self.tops = np.empty(len(self.tiles))
        self._catch_up()

    def change(self, s: int, t: int, u: np.ndarray, w: np.ndarray) -> None:
        """Change all pairs, of which one no longer counts."""
        i, j = sorted((s // _WIDTH, t // _WIDTH))
        place = int(((self.row == i) & (self.column == j)).argmax())
        s, t = min(s, t), max(s, t)
        self.tiles[place].leave_out((s - i * _WIDTH, t - j * _WIDTH))
        if self.number == _CHANGES:
            self._catch_up()
        left, right = self.of_above[:, self.number]
        left[0], left[1], left[2] = u, w, u * w
        right[0], right[1], right[3] = -w, -u, u * w
        left, right = self.of_below[:, self.number]
        left[0], left[1] = u, u * u
        right[0], right[2] = -2 * u, u * u
        self.number += 1
        delta, epsilon = self._ranges(u), self._ranges(w)
        rest = 1 - self.factor * delta**2
        bounds = (self.tops + 2 * delta * epsilon) / np.maximum(rest, 0.1)
        self.tops = np.where(rest > 0.1, bounds, np.inf)

    def best(self) -> float:
        """The largest quotient; zero if there are no pairs."""
        while True:
            place = int(self.tops.argmax())
            if self.tiles[place].seen == self.number:
                return float(self.tops[place])
            self._quotients(place)

    def pairs_above(self, least: float) -> np.ndarray:
        """The pairs with at least some quotient, ``[2, P]``."""
        found = []
        for place in np.flatnonzero(self.tops >= least):
            rows, columns = np.nonzero(self._quotients(int(place)) >= least)
            begins = self.row[place] * _WIDTH, self.column[place] * _WIDTH
            found.append([rows + begins[0], columns + begins[1]])
        return np.concatenate(found, axis=1)

    def _quotients(self, place: int) -> np.ndarray:
        """Those of one tile, valid until the next call."""
        tile = self.tiles[place]
        room = self.room[: tile.above.size].reshape(tile.above.shape)
        rows, columns = (
            self.spans[self.row[place]],
            self.spans[self.column[place]],
        )
        if tile.seen < self.number:
            for term, (left, right), factor in (
                (tile.above, self.of_above[:, tile.seen : self.number], 2),
                (
                    tile.below,
                    self.of_below[:, tile.seen : self.number],
                    self.factor,
                ),
            ):
                left = left.reshape(-1, self.size)[:, rows]
                right = right.reshape(-1, self.size)[:, columns]
                np.matmul(left.T, right, out=room)
                room *= factor
                term -= room
            tile.seen = self.number
        np.divide(tile.above, tile.below, out=room)
        self.tops[place] = room.max()
        return room

    def _catch_up(self) -> None:
        """Change all tiles, and forget the changes."""
        for place, tile in enumerate(self.tiles):
            self._quotients(place)
            tile.seen = 0
        self.number = 0

    def _ranges(self, values: np.ndarray) -> np.ndarray:
        """How far they range over the nodes of each tile."""
        begins = np.arange(0, self.size, _WIDTH)
        low = np.minimum.reduceat(values, begins)
        high = np.maximum.reduceat(values, begins)
        most = np.maximum(high[self.row], high[self.column])
        return most - np.minimum(low[self.row], low[self.column])


class _Tile:
    """Both terms of some rows and columns.

    Attributes:
        above: What is above the line.
        below: What is below it; infinite for pairs that do not count.
        seen: How many changes they have seen.
    """

    def __init__(self, above: np.ndarray, below: np.ndarray) -> None:
        self.above, self.below, self.seen = above, below, 0

    def leave_out(self, pairs: Any) -> None:
        """Leave pairs out, given as an index."""
        # A quotient of zero is less than any other.
        self.below[pairs] = np.inf


def _between(matrix: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
    """The quadratic form of the differences of unit vectors."""
    own = matrix.diagonal()
    ends = np.add.outer(own[rows], own[columns])
    ends -= 2 * matrix[rows, columns]
    return ends
