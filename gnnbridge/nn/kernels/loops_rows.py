"""What the forward and backward pass do to the edges of one row."""

from __future__ import annotations

import numpy as np

from gnnbridge.nn.kernels.emitter import LANES
from gnnbridge.nn.kernels.numba_options import inlined
from gnnbridge.nn.kernels.simd import (
    axpy4,
    dot4,
    fill,
    prefetch,
    scaled,
    soften,
)

# Edges of a row that are handled at a time.
CHUNK = 256
# Rows after which the next head takes its turn, where heads share their lines
# of memory.
ROWS = 16


@inlined
def dots(x, at, y, head, other, first, count, width, out):  # type: ignore[no-untyped-def]
    """Products of a row of ``x`` with rows of ``y``, those of given edges."""
    lanes = LANES * 4 // out.itemsize
    last = first + count - 1
    offset = head * y.head
    for n in range(0, count, 4):
        e = first + n
        y0 = other[e] * y.node + offset
        y1 = other[min(e + 1, last)] * y.node + offset
        y2 = other[min(e + 2, last)] * y.node + offset
        y3 = other[min(e + 3, last)] * y.node + offset
        # The usual widths have their loops written out.
        if width == 4 * lanes:
            dot4(x, at, y.data, y0, y1, y2, y3, width, 4, out, n)
        elif width == 2 * lanes:
            dot4(x, at, y.data, y0, y1, y2, y3, width, 2, out, n)
        else:
            dot4(x, at, y.data, y0, y1, y2, y3, width, 0, out, n)


@inlined
def combine(weight, y, head, other, first, count, width, out):  # type: ignore[no-untyped-def]
    """Adds weighted rows of ``y``, those of given edges, to ``out``."""
    lanes = LANES * 4 // out.itemsize
    last = first + count - 1
    offset = head * y.head
    for n in range(count, (count + 3) // 4 * 4):
        weight[n] = 0
    for n in range(0, count, 4):
        e = first + n
        y0 = other[e] * y.node + offset
        y1 = other[min(e + 1, last)] * y.node + offset
        y2 = other[min(e + 2, last)] * y.node + offset
        y3 = other[min(e + 3, last)] * y.node + offset
        if width == 4 * lanes:
            axpy4(out, 0, weight, n, y.data, y0, y1, y2, y3, width, 4)
        elif width == 2 * lanes:
            axpy4(out, 0, weight, n, y.data, y0, y1, y2, y3, width, 2)
        else:
            axpy4(out, 0, weight, n, y.data, y0, y1, y2, y3, width, 0)


@inlined
def side_by_side(x, head, nodes, width, out):  # type: ignore[no-untyped-def]
    """The rows of one head, copied so that they lie next to each other."""
    lanes = LANES * 4 // out.itemsize
    for node in range(nodes):
        at = node * x.node + head * x.head
        for d in range(0, width, lanes):
            # Rows lie on pages of their own, which take time to find.
            prefetch(x.data, at + 12 * x.node + d, 8)
            scaled(x.data, at + d, out, node * width + d, out.dtype.type(1), 0)


@inlined
def fetch_row(x, other, first, last, size):  # type: ignore[no-untyped-def]
    """Asks for the nodes of some edges, all heads of them."""
    lanes = LANES * 4 // x.data.itemsize
    for e in range(first, last):
        at = other[e] * x.node
        for d in range(0, size, lanes):
            prefetch(x.data, at + d, 8)


@inlined
def clear(x, count):  # type: ignore[no-untyped-def]
    """Sets whole vectors to zero."""
    for n in range(0, count, LANES * 4 // x.itemsize):
        fill(x, n, x.dtype.type(0))


@inlined
def scores(s, count, scale, softcap, bias, has_bias, first, head, lanes):  # type: ignore[no-untyped-def]
    """Turns products into scores; fills up the last vector with -inf."""
    number = s.dtype.type
    full = (count + lanes - 1) // lanes * lanes
    for n in range(0, full, lanes):
        scaled(s, n, s, n, number(scale), 0)
        if softcap > 0:
            soften(s, n, number(softcap))
    if has_bias:
        for n in range(count):
            s[n] += bias.data[(first + n) * bias.node + head * bias.head]
    for n in range(count, full):
        s[n] = -np.inf
    return full
