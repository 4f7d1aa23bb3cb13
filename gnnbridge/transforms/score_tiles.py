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
        self.begins = np.arange(0, self.size, _WIDTH)
        self.row, self.column = np.triu_indices(self.begins.size)
        self.tiles = [
            _Tile(_span(i), _span(j), (above, below), factor, taken)
            for i, j in np.stack([self.row, self.column], axis=1).tolist()
        ]
        # The largest quotient of each tile, or a bound on it.
        self.tops = np.empty(len(self.tiles))
        # What the changes take from each term, as products of two matrices.
        self.number = 0
        self.products = (
            np.empty((2, _CHANGES, 4, self.size)),
            np.empty((2, _CHANGES, 3, self.size)),
        )
        self.room = np.empty(min(self.size, _WIDTH) ** 2)
        self._catch_up()

    def change(self, s: int, t: int, u: np.ndarray, w: np.ndarray) -> None:
        """Change all pairs, of which one no longer counts."""
        s, t = min(s, t), max(s, t)
        place = (self.row == s // _WIDTH) & (self.column == t // _WIDTH)
        self.tiles[int(place.argmax())].leave_out(s, t)
        if self.number == _CHANGES:
            self._catch_up()
        c, one, above, below = self.factor, np.ones_like(u), 2 * u * w, u * u
        self.products[0][:, self.number] = [
            [u, w, above, one],
            [-2 * w, -2 * u, one, above],
        ]
        self.products[1][:, self.number] = [
            [u, below, one],
            [-2 * c * u, c * one, c * below],
        ]
        self.number += 1
        delta, epsilon = self._ranges(u), self._ranges(w)
        rest = 1 - c * delta**2
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
            tile = self.tiles[place]
            rows, columns = np.nonzero(self._quotients(int(place)) >= least)
            found.append([rows + tile.rows.start, columns + tile.columns.start])
        return np.concatenate(found, axis=1)

    def _quotients(self, place: int) -> np.ndarray:
        """Those of one tile, valid until the next call."""
        tile = self.tiles[place]
        room = self.room[: tile.above.size].reshape(tile.above.shape)
        if tile.seen < self.number:
            for term, product in zip(
                (tile.above, tile.below), self.products, strict=True
            ):
                since = product[:, tile.seen : self.number]
                left, right = since.reshape(2, -1, self.size)
                np.matmul(left[:, tile.rows].T, right[:, tile.columns], room)
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
        low = np.minimum.reduceat(values, self.begins)
        high = np.maximum.reduceat(values, self.begins)
        most = np.maximum(high[self.row], high[self.column])
        return most - np.minimum(low[self.row], low[self.column])


class _Tile:
    """Both terms of some rows and columns.

    Attributes:
        rows: The rows.
        columns: The columns.
        above: What is above the line.
        below: What is below it.
        seen: How many changes they have seen.
    """

    def __init__(
        self,
        rows: slice,
        columns: slice,
        matrices: tuple[np.ndarray, np.ndarray],
        factor: float,
        taken: np.ndarray,
    ) -> None:
        self.rows, self.columns, self.seen = rows, columns, 0
        self.above = _between(matrices[0], rows, columns)
        self.below = _between(matrices[1], rows, columns) * factor + 1
        # What does not count has a quotient of zero, less than any other.
        self.below[taken[rows, columns]] = np.inf
        if rows == columns:
            self.below[np.tri(len(self.below), dtype=bool)] = np.inf

    def leave_out(self, s: int, t: int) -> None:
        """Leave a pair out."""
        self.below[s - self.rows.start, t - self.columns.start] = np.inf


def _span(block: int) -> slice:
    return slice(block * _WIDTH, (block + 1) * _WIDTH)


def _between(matrix: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
    """The quadratic form of the differences of unit vectors."""
    own = matrix.diagonal()
    ends = np.add.outer(own[rows], own[columns])
    ends -= 2 * matrix[rows, columns]
    return ends
