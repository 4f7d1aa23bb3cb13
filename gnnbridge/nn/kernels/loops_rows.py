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
def side_by_side(x, head, nodes, width, out):  # type: ignore[no-untyped-def]
    """The rows of one head, copied so that they lie next to each other."""
    for node in range(nodes):
        at = node * x.node + head * x.head
        # Rows lie on pages of their own, which take time to find.
        prefetch(x.data, at + 12 * x.node, width)
        scaled(x.data, at, out, node * width, width, out.dtype.type(1), 0)


@inlined
def fetch_ahead(x, at, other, start, row, work, turn, size):  # type: ignore[no-untyped-def]
    """Asks for the nodes of a later row, ``size`` numbers from ``at`` on.

    ``turn`` is (number of this time, number of times): as many times as there
    are heads, each a part of the edges, so that memory is never idle.
    """
    if row < work[1]:
        fetch_rows(
            x.data, at, other, start[row] + turn[0], start[row + 1],
            turn[1], x.node, size,
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
