"""What the forward and backward pass do to one tile of queries and keys."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gnnbridge.nn.kernels.emitter import LANES
from gnnbridge.nn.kernels.numba_options import inlined
from gnnbridge.nn.kernels.simd import (
    gemm4,
    mask_outside,
    prefetch,
    scaled,
    transpose,
)

# Keys of a tile. With 64 queries and width 64 a tile of each operand takes
# 16 KB: the product's working set lies in the second cache, its inner loop's in
# the first.
KEYS = 64
# Blocks of queries that a forward pass takes together: they share keys.
BLOCKS = 2


class Tiles(NamedTuple):
    """The blocks of a row-window graph as the kernels read them.

    Attributes:
        rows: Queries of a block.
        start: First key of each range ``[Nq * R]`` int32.
        stop: End of each range ``[Nq * R]`` int32.
        cover_start: First key of each range of a block ``[blocks, R]``.
        cover_stop: End of each range of a block; they are disjoint.
    """

    rows: int
    start: np.ndarray
    stop: np.ndarray
    cover_start: np.ndarray
    cover_stop: np.ndarray


def forward_sizes(rows, width, value_width, lanes):  # type: ignore[no-untyped-def]
    """Numbers of the tiles of a forward pass."""
    wide, rows = padded.py_func(value_width, lanes), _fours(rows)
    tiles = [rows * width, KEYS * width, width * KEYS, KEYS * wide]
    return [*tiles, 4 * KEYS, rows * wide, rows, rows]


def integers(rows, ranges):  # type: ignore[no-untyped-def]
    """Room for numbers of keys and rows, and for where ranges begin and end."""
    keys, ahead = np.empty((2, KEYS), np.int32)
    ends = np.empty((2, ranges), np.int64)
    rows = _fours(rows)
    fours = np.empty((2, rows // 4 * ranges), np.int64)
    return keys, ahead, np.empty(rows, np.int64), *ends, *fours


def _fours(rows):  # type: ignore[no-untyped-def]
    """Rows of the blocks that are taken together, a multiple of four."""
    return -(-BLOCKS * rows // 4) * 4


def backward_sizes(rows, width, value_width, lanes):  # type: ignore[no-untyped-def]
    """Numbers of the tiles of a backward pass."""
    deep, wide = (padded.py_func(x, lanes) for x in (width, value_width))
    tiles = [rows * deep, rows * wide, KEYS * deep, KEYS * wide]
    tiles += [max(width, value_width) * KEYS, rows * KEYS, rows * KEYS]
    return [*tiles, rows * deep, KEYS * deep, KEYS * wide, rows]


@inlined
def padded(width, lanes):  # type: ignore[no-untyped-def]
    """A width of whole pairs of vectors."""
    return (width + 2 * lanes - 1) // (2 * lanes) * 2 * lanes


@inlined
def product(c, c_row, a, a_row, a_step, b, b_row, shape, add):  # type: ignore[no-untyped-def]
    """``c (+)= a @ b``; ``shape`` is (rows, columns, length)."""
    rows, columns, length = shape
    for i in range(0, rows, 4):
        gemm4(
            c, i * c_row, c_row, a, i * a_row, a_row, a_step, b, 0, b_row,
            length, columns, add,
        )  # fmt: skip


@inlined
def pack(x, node, offset, rows, count, width, out, out_row, factor):  # type: ignore[no-untyped-def]
    """Copies rows of a tensor, given by number, into a tile."""
    for r in range(count):
        source = rows[r] * node + offset
        scaled(x, source, out, r * out_row, width, factor, 0)


@inlined
def fetch(x, head, node, width):  # type: ignore[no-untyped-def]
    """Asks for a row of a tensor before it is packed."""
    prefetch(x.data, node * x.node + head * x.head, width)


@inlined
def turn(x, x_row, y, rows, columns):  # type: ignore[no-untyped-def]
    """Transposes a tile into rows of ``KEYS`` numbers."""
    lanes = LANES * 4 // x.itemsize
    for r in range(0, rows, lanes):
        for c in range(0, columns, lanes):
            transpose(x, r * x_row + c, x_row, y, c * KEYS + r, KEYS)


@inlined
def next_keys(keys, start, stop, at):  # type: ignore[no-untyped-def]
    """The next keys of a block's ranges, all of one range.

    ``at`` is (range, offset in it).
    """
    which, offset = at
    while which < len(start) and start[which] + offset >= stop[which]:
        which += 1
        offset = 0
    count = 0
    if which < len(start):
        count = min(KEYS, stop[which] - start[which] - offset)
        for x in range(count):
            keys[x] = start[which] + offset + x
    for x in range(count, KEYS):
        keys[x] = -1
    return count, (which, offset + count)


@inlined
def cover(tiles, block, blocks, start, stop):  # type: ignore[no-untyped-def]
    """Ranges that hold all keys that some blocks of queries see, none twice."""
    for x in range(len(start)):
        low, high = np.int64(0), np.int64(0)
        for other in range(block, block + blocks):
            first, end = tiles.cover_start[other, x], tiles.cover_stop[other, x]
            if first < end:
                low = min(low, first) if low < high else first
                high = max(high, end)
        # In their order: what is in an earlier one is left out of a later.
        at = x
        while at > 0 and start[at - 1] > low:
            start[at], stop[at] = start[at - 1], stop[at - 1]
            at -= 1
        start[at], stop[at] = low, high
    last = np.int64(0)
    for x in range(len(start)):
        start[x] = max(start[x], last)
        stop[x] = last = max(stop[x], start[x])


@inlined
def spans(tiles, first, count, near, far):  # type: ignore[no-untyped-def]
    """Where each range of four queries together begins and ends."""
    ranges = tiles.cover_start.shape[1]
    for four in range((count + 3) // 4):
        for x in range(ranges):
            low, high = np.int64(1) << 40, np.int64(0)
            for r in range(4 * four, min(4 * four + 4, count)):
                at = (first + r) * ranges + x
                if tiles.start[at] < tiles.stop[at]:
                    low = min(low, tiles.start[at])
                    high = max(high, tiles.stop[at])
            near[four * ranges + x] = low
            far[four * ranges + x] = high


@inlined
def seen(keys, count, near, far, four, ranges):  # type: ignore[no-untyped-def]
    """The columns of a tile between which four queries see all their keys."""
    low, high = np.int64(count), np.int64(0)
    for x in range(four * ranges, (four + 1) * ranges):
        first = max(near[x] - keys[0], 0)
        last = min(far[x] - keys[0], count)
        if first < last:
            low, high = min(low, first), max(high, last)
    return low, high


@inlined
def mask(s, row, keys, first, last, tiles, query):  # type: ignore[no-untyped-def]
    """Switches off what a query does not see among some columns of a tile."""
    lanes = LANES * 4 // s.itemsize
    ranges = tiles.cover_start.shape[1]
    at = query * ranges
    for r in range(at, at + ranges):
        # Keys beyond the last one are -1.
        if tiles.start[r] <= keys[first] and (
            keys[first] <= keys[last - 1] < tiles.stop[r]
        ):
            return
    for x in range(first, last, lanes):
        if ranges == 1:
            mask_outside(s, row + x, keys, x, tiles.start, tiles.stop, at, 1)
        elif ranges == 2:
            mask_outside(s, row + x, keys, x, tiles.start, tiles.stop, at, 2)
        else:
            mask_outside(s, row + x, keys, x, tiles.start, tiles.stop, at, 4)
