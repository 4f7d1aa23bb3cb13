"""Gradients of attention over any edges on the CPU.

Weights are computed again from the saved logarithm of the row sums, first row
by row for queries and edges, then key by key over the transposed graph: no two
threads ever add to the same number, and results do not depend on how many
there are.
"""

from __future__ import annotations

import numpy as np

from gnnbridge.nn.kernels.emitter import LANES
from gnnbridge.nn.kernels.loops_rows import (
    CHUNK,
    ROWS,
    clear,
    combine,
    dots,
    fetch_row,
    scores,
    side_by_side,
)
from gnnbridge.nn.kernels.numba_options import compiled
from gnnbridge.nn.kernels.simd import exp_sum, scaled, soften
from gnnbridge.nn.kernels.strided import Strided


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
    scratch,
):
    """Gradients that belong to rows: of queries, biases and scores.

    ``g`` is the gradient of ``out``, ``to_alpha`` of the weights. Written are
    ``dq``, the bias's ``db``, ``delta``, and for the keys' pass, over edges,
    ``p`` (weights after dropout) and ``ds`` (gradients of the scores before
    bias and softcap). ``options`` is (scale, softcap or 0, with bias, with
    keep, with to_alpha, write db, whether heads share lines, first head of
    ``p`` and ``ds``, edges of the longest row); the rest is as in
    :func:`forward`.
    """
    _, num_keys, groups, width, value_width = size
    scale, softcap, has_bias, has_keep, has_to, write, shared = options[:7]
    origin, longest = options[7:]
    number = q.data.dtype.type
    lanes = LANES * 4 // q.data.itemsize
    zero, one, nothing = number(0), number(1), number(-np.inf)
    s = np.zeros(longest + lanes, number)
    dp = np.zeros(longest + lanes, number)
    slope = np.ones(longest + lanes, number)
    total = np.zeros(width, number)
    step = ROWS if shared else work[1] - work[0]
    for block in range(work[0], work[1], max(step, 1)):
        for head in range(work[2], work[3]):
            kv = head // groups
            k, v = keys, values
            if len(scratch[0]) > 0:
                if head == work[2] or head % groups == 0:
                    side_by_side(keys, kv, num_keys, width, scratch[0])
                    side_by_side(values, kv, num_keys, value_width, scratch[1])
                k = Strided(scratch[0], width, 0)
                v = Strided(scratch[1], value_width, 0)
            for row in range(block, min(block + step, work[1])):
                first = start[row]
                count = start[row + 1] - first
                level = lse.data[row * lse.node + head * lse.head]
                if shared and head == work[2] and row + 1 < work[1]:
                    some = (work[3] - work[2]) // groups
                    near = first + count, start[row + 2]
                    fetch_row(k, other, near[0], near[1], some * width)
                    fetch_row(v, other, near[0], near[1], some * value_width)
                dots(
                    q.data, row * q.node + head * q.head, k, kv, other,
                    first, count, width, s,
                )  # fmt: skip
                dots(
                    g.data, row * g.node + head * g.head, v, kv, other,
                    first, count, value_width, dp,
                )  # fmt: skip
                if softcap > 0:
                    for n in range(0, count, lanes):
                        scaled(s, n, slope, n, number(scale), 0)
                        soften(slope, n, number(softcap))
                    for n in range(count):
                        ratio = slope[n] / number(softcap)
                        slope[n] = one - ratio * ratio
                full = scores(
                    s, count, scale, softcap, bias, has_bias, first, head,
                    lanes,
                )  # fmt: skip
                if level == nothing:
                    clear(s, full)
                else:
                    for n in range(0, full, lanes):
                        exp_sum(s, n, level)
                dot = zero
                for n in range(count):
                    e = first + n
                    weight = s[n]
                    if has_keep:
                        factor = keep.data[e * keep.node + head * keep.head]
                        weight *= factor
                        dp[n] *= factor
                    if has_to:
                        at = e * to_alpha.node + head * to_alpha.head
                        dp[n] += to_alpha.data[at]
                    dot += s[n] * dp[n]
                    p.data[e * p.node + (head - origin) * p.head] = weight
                delta.data[row * delta.node + head * delta.head] = dot
                for n in range(count):
                    e = first + n
                    d = s[n] * (dp[n] - dot)
                    if write:
                        db.data[e * db.node + head * db.head] = d
                    d *= slope[n]
                    ds.data[e * ds.node + (head - origin) * ds.head] = d
                    dp[n] = d
                clear(total, width)
                combine(dp, k, kv, other, first, count, width, total)
                to = row * dq.node + head * dq.head
                for d in range(0, width, lanes):
                    scaled(total, d, dq.data, to + d, number(scale), 0)


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
    scratch,
):
    """Gradients that belong to keys, over the transposed graph.

    ``dk`` and ``dv`` are added to. ``start``, ``other`` and ``edge`` give for
    each key its edges, their queries and their positions in ``p`` and ``ds``;
    ``options`` is (scale, whether heads share lines, first head of ``p`` and
    ``ds``), ``work`` (first key, last key, first head, last head).
    """
    num_queries, _, groups, width, value_width = size
    scale, shared, origin = options
    number = queries.data.dtype.type
    lanes = LANES * 4 // queries.data.itemsize
    one = number(1)
    weight = np.zeros(CHUNK + lanes, number)
    to_key = np.zeros(width, number)
    to_value = np.zeros(value_width, number)
    step = ROWS if shared else work[1] - work[0]
    for block in range(work[0], work[1], max(step, 1)):
        for head in range(work[2], work[3]):
            kv = head // groups
            q, g = queries, grads
            if len(scratch[0]) > 0:
                side_by_side(queries, head, num_queries, width, scratch[0])
                side_by_side(grads, head, num_queries, value_width, scratch[1])
                q = Strided(scratch[0], width, 0)
                g = Strided(scratch[1], value_width, 0)
            for key in range(block, min(block + step, work[1])):
                if shared and head == work[2] and key + 1 < work[1]:
                    some = work[3] - work[2]
                    near = start[key + 1], start[key + 2]
                    fetch_row(q, other, near[0], near[1], some * width)
                    fetch_row(g, other, near[0], near[1], some * value_width)
                clear(to_key, width)
                clear(to_value, value_width)
                for first in range(start[key], start[key + 1], CHUNK):
                    count = min(CHUNK, start[key + 1] - first)
                    for n in range(count):
                        at = edge[first + n] * ds.node
                        weight[n] = ds.data[at + (head - origin) * ds.head]
                    combine(
                        weight, q, head, other, first, count, width, to_key,
                    )  # fmt: skip
                    for n in range(count):
                        at = edge[first + n] * p.node
                        weight[n] = p.data[at + (head - origin) * p.head]
                    combine(
                        weight, g, head, other, first, count, value_width,
                        to_value,
                    )  # fmt: skip
                to = key * dk.node + kv * dk.head
                for d in range(0, width, lanes):
                    scaled(to_key, d, dk.data, to + d, number(scale), 1)
                to = key * dv.node + kv * dv.head
                for d in range(0, value_width, lanes):
                    scaled(to_value, d, dv.data, to + d, one, 1)
