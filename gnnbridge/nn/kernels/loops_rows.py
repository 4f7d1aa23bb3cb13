"""What the forward and backward pass do to the edges of a row.

Rows are taken in blocks, and within a block head by head: the keys of all its
rows first, then their values. Only one of the two has to stay in a cache.
"""

from __future__ import annotations

import numpy as np

from gnnbridge.nn.kernels.emitter import LANES
from gnnbridge.nn.kernels.gather import fetch_rows
from gnnbridge.nn.kernels.numba_options import inlined
from gnnbridge.nn.kernels.simd import (
    fill_up,
    prefetch,
    scaled,
    soften,
)
from gnnbridge.nn.kernels.strided import Strided

# Edges of a block, of which some numbers each wait for the next step.
EDGES = 1 << 16
# Rows by which queries are asked for before their turn.
AHEAD = 4


@inlined
def block_end(start, first, last, rows):  # type: ignore[no-untyped-def]
    """The end of the block of rows that starts with ``first``."""
    stop = first + 1
    limit = start[first] + EDGES
    last = min(last, first + rows)
    while stop < last and start[stop + 1] <= limit:
        stop += 1
    return stop


@inlined
def full(count, lanes):  # type: ignore[no-untyped-def]
    """The numbers of the vectors that hold ``count``."""
    return (count + lanes - 1) // lanes * lanes


@inlined
def side_by_side(x, head, nodes, width, room, new):  # type: ignore[no-untyped-def]
    """The rows of one head, next to each other in a room if there is one.

    They are copied if the copy is to be ``new``.
    """
    if len(room) == 0:
        return x
    for node in range(nodes if new else 0):
        at = node * x.node + head * x.head
        # Rows lie on pages of their own, which take time to find.
        prefetch(x.data, at + 12 * x.node, width)
        scaled(x.data, at, room, node * width, width, room.dtype.type(1), 0)
    return Strided(room, width, 0)


@inlined
def fetch_ahead(x, other, start, row, ahead, work, head, groups, width):  # type: ignore[no-untyped-def]
    """Asks for the nodes of the row ``ahead`` of this one, unless that is 0.

    All heads of a work are asked for, at each of them for a part of the edges,
    so that memory is never idle. ``groups`` of them share a head of ``x``.
    """
    row += ahead
    if ahead > 0 and row < work[1]:
        heads = work[3] - work[2]
        fetch_rows(
            x.data, work[2] // groups * x.head, other,
            start[row] + head - work[2], start[row + 1], heads, x.node,
            heads // groups * width,
        )  # fmt: skip


@inlined
def fetch_own(x, at, width):  # type: ignore[no-untyped-def]
    """Asks for a later row's own numbers, which lie on another page."""
    prefetch(x.data, at + AHEAD * x.node, width)


@inlined
def finish_scores(s, at, count, softcap, bias, has_bias, first, head):  # type: ignore[no-untyped-def]
    """Turns scaled products into scores; fills up the last vector with -inf."""
    number = s.dtype.type
    lanes = LANES * 4 // s.itemsize
    if softcap > 0:
        soften(s, at, full(count, lanes), number(softcap))
    if has_bias:
        for n in range(count):
            e = (first + n) * bias.node
            s[at + n] += bias.data[e + head * bias.head]
    fill_up(s, at, count, number(-np.inf))
