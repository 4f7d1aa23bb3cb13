"""Gradients of attention over any edges on the CPU.

Weights are computed again from the saved logarithm of the row sums, first row
by row for queries and edges, then key by key over the transposed graph: no two
threads ever add to the same number, and results do not depend on how many
there are.
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
from gnnbridge.nn.kernels.numba_options import compiled
from gnnbridge.nn.kernels.simd import exp_sum, fill, scaled, soften


@compiled
def backward_rows(  # type: ignore[no-untyped-def]
    g,
    q,
    keys,
    values,
    lse,
    bias,
    keep,
    to_alpha,
    p,
    ds,
    dq,
    db,
    delta,
    start,
    other,
    size,
    options,
    work,
    rooms,
):
    """Gradients that belong to rows: of queries, biases and scores.

    ``g`` is the gradient of ``out``, ``to_alpha`` of the weights. Written are
    ``dq``, the bias's ``db``, ``delta``, and for the keys' pass, over edges,
    ``p`` (weights after dropout) and ``ds`` (gradients of the scores before
    bias and softcap). ``options`` is (scale, softcap or 0, with bias, with
    keep, with to_alpha, write db, rows by which to ask for nodes ahead or 0,
    rows of a block, first head of ``p`` and ``ds``); the fourth and fifth of
    ``rooms`` are for the scores' gradients and the softcap's slopes; the rest
    is as in :func:`forward`.
    """
    _, num_keys, groups, width, value_width = size
    scale, softcap, has_bias, has_keep, has_to, write = options[:6]
    ahead, rows, origin = options[6:]
    number = q.data.dtype.type
    lanes = LANES * 4 // q.data.itemsize
    zero, one, nothing = number(0), number(1), number(-np.inf)
    s, dp, slope = rooms[2], rooms[3], rooms[4]
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
                if softcap > 0:
                    scaled(s, at, slope, at, full(count, lanes), one, 0)
                    soften(slope, at, full(count, lanes), number(softcap))
                    for n in range(at, at + count):
                        ratio = slope[n] / number(softcap)
                        slope[n] = one - ratio * ratio
                finish_scores(
                    s, at, count, softcap, bias, has_bias, first, head
                )
                level = lse.data[row * lse.node + head * lse.head]
                if level == nothing:
                    fill(s, at, full(count, lanes), zero)
                else:
                    exp_sum(s, at, full(count, lanes), level)
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
                own = row * g.node + head * g.head
                fetch_own(g, own, value_width)
                gather_dots(
                    g.data, own, v.data, kv * v.head, other, first, count,
                    v.node, value_width, one, dp, at,
                )  # fmt: skip
                dot = zero
                for n in range(count):
                    e = first + n
                    weight = s[at + n]
                    if has_keep:
                        factor = keep.data[e * keep.node + head * keep.head]
                        weight *= factor
                        dp[at + n] *= factor
                    if has_to:
                        of = e * to_alpha.node + head * to_alpha.head
                        dp[at + n] += to_alpha.data[of]
                    dot += s[at + n] * dp[at + n]
                    p.data[e * p.node + (head - origin) * p.head] = weight
                delta.data[row * delta.node + head * delta.head] = dot
                for n in range(count):
                    e = first + n
                    d = s[at + n] * (dp[at + n] - dot)
                    if write:
                        db.data[e * db.node + head * db.head] = d
                    if softcap > 0:
                        d *= slope[at + n]
                    ds.data[e * ds.node + (head - origin) * ds.head] = d
                    dp[at + n] = d
                at += full(count, lanes)
            at = 0
            for row in range(block, stop):
                first = start[row]
                count = start[row + 1] - first
                gather_sum(
                    dp, at, k.data, kv * k.head, other, first, count, k.node,
                    width, number(scale),
                    dq.data, row * dq.node + head * dq.head, False,
                )  # fmt: skip
                at += full(count, lanes)
        block = stop


@compiled
def backward_keys(  # type: ignore[no-untyped-def]
    grads,
    queries,
    p,
    ds,
    dk,
    dv,
    start,
    other,
    edge,
    size,
    options,
    work,
    rooms,
):
    """Gradients that belong to keys, over the transposed graph.

    ``dk`` and ``dv`` are written. ``start``, ``other`` and ``edge`` give for
    each key its edges, their queries and their positions in ``p`` and ``ds``;
    ``options`` is (scale, keys by which to ask for nodes ahead or 0, keys of a
    block, first head of ``p`` and ``ds``), ``work`` (first key, last key, first
    head, last head).
    """
    num_queries, _, groups, width, value_width = size
    scale, ahead, rows, origin = options
    number = queries.data.dtype.type
    weight = rooms[2]
    block = work[0]
    while block < work[1]:
        stop = block_end(start, block, work[1], rows)
        for head in range(work[2], work[3]):
            kv = head // groups
            for values in range(2):
                x, wide, of, to, factor = queries, width, ds, dk, number(scale)
                if values:
                    x, wide, of, to = grads, value_width, p, dv
                    factor = number(1)
                source = side_by_side(
                    x, head, num_queries, wide, rooms[values],
                    groups > 1 or block == work[0],
                )  # fmt: skip
                for key in range(block, stop):
                    fetch_ahead(
                        x, other, start, key, ahead, work, head, 1, wide
                    )
                    first = start[key]
                    count = start[key + 1] - first
                    for n in range(count):
                        e = edge[first + n] * of.node
                        weight[n] = of.data[e + (head - origin) * of.head]
                    gather_sum(
                        weight, 0, source.data, head * source.head, other,
                        first, count, source.node, wide, factor, to.data,
                        key * to.node + kv * to.head, head % groups != 0,
                    )  # fmt: skip
        block = stop
