"""Attention over any edges on the CPU: scores and sums of a block of rows.

The scores of a block of rows and one head are computed and turned into weights,
then its values are summed: nothing of the size of the edges times the width is
ever stored.
"""

from __future__ import annotations

import numpy as np

from gnnbridge.nn.kernels.emitter import LANES
from gnnbridge.nn.kernels.gather import gather_dots, gather_sum
from gnnbridge.nn.kernels.loops_rows import (
    block_end,
    fetch_ahead,
    fetch_own,
    finish_scores,
    full,
    side_by_side,
)
from gnnbridge.nn.kernels.numba_options import compiled, inlined
from gnnbridge.nn.kernels.simd import exp_sum, peak


@compiled
def forward(  # type: ignore[no-untyped-def]
    q,
    keys,
    values,
    out,
    lse,
    alpha,
    bias,
    sink,
    keep,
    start,
    other,
    size,
    options,
    work,
    rooms,
):
    """Attention of some rows and heads.

    Args:
        q: Queries, ``Strided``; so are ``keys``, ``values`` and the
            results ``out``, ``lse`` and, over edges, ``alpha``; the edges'
            ``bias`` and dropout factors ``keep``, and the logits ``sink``.
        start: First edge of each row ``[Nq + 1]``.
        other: Key of each edge ``[E]``.
        size: ``(queries, keys, heads per key head, width, value width)``.
        options: ``(scale, softcap or 0, with bias, with sink, with keep,
            whether to write alpha, rows by which to ask for nodes ahead or 0,
            rows of a block)``.
        work: ``(first row, last row, first head, last head)``.
        rooms: Memory: for the keys and values of a head, or empty where these
            are used as they are, for the scores of a block and for its rows.
    """
    _, num_keys, groups, width, value_width = size
    scale, softcap, has_bias, has_sink, has_keep, weights, ahead, rows = options
    number = q.data.dtype.type
    lanes = LANES * 4 // q.data.itemsize
    s, inverse = rooms[2], rooms[3]
    block = work[0]
    while block < work[1]:
        stop = block_end(start, block, work[1], rows)
        for head in range(work[2], work[3]):
            kv = head // groups
            # A copy is good for all heads of a work: they have the same keys.
            new = block == work[0] and head == work[2]
            k = side_by_side(keys, kv, num_keys, width, rooms[0], new)
            at = 0
            for row in range(block, stop):
                first = start[row]
                count = start[row + 1] - first
                fetch_ahead(
                    keys, other, start, row, ahead, work, head, groups, width
                )
                own = row * q.node + head * q.head
                fetch_own(q, own, width)
                gather_dots(
                    q.data, own, k.data, kv * k.head, other, first, count,
                    k.node, width, number(scale), s, at,
                )  # fmt: skip
                finish_scores(
                    s, at, count, softcap, bias, has_bias, first, head
                )
                logit = number(-np.inf)
                if has_sink:
                    logit = sink.data[row * sink.node + head * sink.head]
                level, factor = _softmax(s, at, full(count, lanes), logit)
                lse.data[row * lse.node + head * lse.head] = level
                inverse[row - block] = factor
                for n in range(count if weights else 0):
                    e = (first + n) * alpha.node + head * alpha.head
                    alpha.data[e] = s[at + n] * factor
                for n in range(count if has_keep else 0):
                    e = (first + n) * keep.node + head * keep.head
                    s[at + n] *= keep.data[e]
                at += full(count, lanes)
            v = side_by_side(values, kv, num_keys, value_width, rooms[1], new)
            at = 0
            for row in range(block, stop):
                first = start[row]
                count = start[row + 1] - first
                fetch_ahead(
                    values,
                    other,
                    start,
                    row,
                    ahead,
                    work,
                    head,
                    groups,
                    value_width,
                )
                gather_sum(
                    s, at, v.data, kv * v.head, other, first, count, v.node,
                    value_width, inverse[row - block],
                    out.data, row * out.node + head * out.head, False,
                )  # fmt: skip
                at += full(count, lanes)
        block = stop


@inlined
def _softmax(s, at, count, logit):  # type: ignore[no-untyped-def]
    """Exponentials of scores, the logarithm of their sum, and its inverse."""
    number = s.dtype.type
    high = max(peak(s, at, count), logit)
    if high == number(-np.inf):
        # Nothing is seen: zero. Or only NaN.
        none = exp_sum(s, at, count, number(0))
        return high + none, none
    mass = exp_sum(s, at, count, high)
    if logit > number(-np.inf):
        mass += np.exp(logit - high)
    return high + np.log(mass), number(1) / mass
