"""Attention over any edges on the CPU: one fused pass over the rows.

Scores, softmax and weighted sum of a row are computed together, some hundred
edges at a time with a running maximum, so that nothing of the size of the
edges times the width is ever stored. The backward pass computes the weights
again from the saved logarithm of the row sums, first row by row for queries
and edges, then key by key over the transposed graph: no two threads ever add
to the same number, and results do not depend on their number.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from gnnbridge.nn.kernels.simd import (
    LANES,
    axpy4,
    dot4,
    exp_sum,
    largest,
    prefetch,
    scaled,
    soften,
)

# Edges of a row that are handled at a time.
_CHUNK = 256
# Rows after which the next head takes its turn, where heads share their lines
# of memory.
_ROWS = 16

# All but the freedom to assume finite numbers: -inf is a score here.
_FAST = {'nnan', 'nsz', 'arcp', 'contract', 'afn', 'reassoc'}
_compiled = njit(nogil=True, cache=True, error_model='numpy', fastmath=_FAST)
# A call would count references to every array that is passed.
_inlined = njit(forceinline=True, error_model='numpy', fastmath=_FAST)


@_inlined
def _dots(x, at, y, head, other, first, count, width, out, ahead):  # type: ignore[no-untyped-def]
    """Products of a row of ``x`` with rows of ``y``, those of given edges."""
    last = first + count - 1
    offset = head * y.head
    for n in range(0, count, 4):
        e = first + n
        if ahead:
            for near in range(e + 8, min(e + 12, last + 1)):
                prefetch(y.data, other[near] * y.node + offset, 32)
        dot4(
            x, at, y.data,
            other[e] * y.node + offset,
            other[min(e + 1, last)] * y.node + offset,
            other[min(e + 2, last)] * y.node + offset,
            other[min(e + 3, last)] * y.node + offset,
            width, out, n,
        )  # fmt: skip


@_inlined
def _combine(weight, y, head, other, first, count, width, out, ahead):  # type: ignore[no-untyped-def]
    """Adds weighted rows of ``y``, those of given edges, to ``out``."""
    last = first + count - 1
    offset = head * y.head
    for n in range(count, (count + 3) // 4 * 4):
        weight[n] = 0
    for n in range(0, count, 4):
        e = first + n
        if ahead:
            for near in range(e + 8, min(e + 12, last + 1)):
                prefetch(y.data, other[near] * y.node + offset, 32)
        axpy4(
            out, 0, weight, n, y.data,
            other[e] * y.node + offset,
            other[min(e + 1, last)] * y.node + offset,
            other[min(e + 2, last)] * y.node + offset,
            other[min(e + 3, last)] * y.node + offset,
            width,
        )  # fmt: skip


@_inlined
def _scores(s, count, scale, softcap, bias, has_bias, first, head, lanes):  # type: ignore[no-untyped-def]
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


@_compiled
def forward(q, k, v, out, lse, alpha, bias, sink, keep, start, other, size, options, work):  # type: ignore[no-untyped-def]  # fmt: skip
    """Attention of some rows and heads.

    Args:
        q: Queries, ``Strided``; so are keys ``k``, values ``v`` and the
            results ``out``, ``lse`` and, over edges, ``alpha``; the edges'
            ``bias`` and dropout factors ``keep``, and the logits ``sink``.
        start: First edge of each row ``[Nq + 1]``.
        other: Key of each edge ``[E]``.
        size: ``(heads per key head, width, value width)``.
        options: ``(scale, softcap or 0, with bias, with sink, with keep,
            whether to write alpha, whether heads share lines of memory)``.
        work: ``(first row, last row, first head, last head)``.
    """
    groups, width, value_width = size
    scale, softcap, has_bias, has_sink, has_keep, weights, shared = options
    number = q.data.dtype.type
    lanes = LANES * 4 // q.data.itemsize
    zero, one, nothing = number(0), number(1), number(-np.inf)
    s = np.zeros(_CHUNK + lanes, number)
    total = np.zeros(value_width, number)
    step = _ROWS if shared else work[1] - work[0]
    for block in range(work[0], work[1], max(step, 1)):
        for head in range(work[2], work[3]):
            kv = head // groups
            for row in range(block, min(block + step, work[1])):
                begin, end = start[row], start[row + 1]
                at = row * q.node + head * q.head
                total[:] = zero
                peak, mass = nothing, zero
                for first in range(begin, end, _CHUNK):
                    count = min(_CHUNK, end - first)
                    _dots(
                        q.data, at, k, kv, other, first, count, width, s,
                        shared,
                    )  # fmt: skip
                    full = _scores(
                        s, count, scale, softcap, bias, has_bias, first,
                        head, lanes,
                    )  # fmt: skip
                    if weights:
                        for n in range(count):
                            e = (first + n) * alpha.node
                            alpha.data[e + head * alpha.head] = s[n]
                    high = peak
                    for n in range(0, full, lanes):
                        high = max(high, largest(s, n))
                    if high == nothing:
                        continue
                    if high > peak:
                        if mass > zero:
                            factor = np.exp(peak - high)
                            mass *= factor
                            for d in range(0, value_width, lanes):
                                scaled(total, d, total, d, factor, 0)
                        peak = high
                    for n in range(0, full, lanes):
                        mass += exp_sum(s, n, peak)
                    if has_keep:
                        for n in range(count):
                            e = (first + n) * keep.node
                            s[n] *= keep.data[e + head * keep.head]
                    _combine(
                        s, v, kv, other, first, count, value_width, total,
                        shared,
                    )  # fmt: skip
                factor = one
                if has_sink:
                    logit = sink.data[row * sink.node + head * sink.head]
                    high = max(peak, logit)
                    if mass > zero:
                        factor = np.exp(peak - high)
                        mass *= factor
                    if logit > nothing:
                        mass += np.exp(logit - high)
                    peak = high
                inverse = factor / mass if mass > zero else zero
                level = peak + np.log(mass) if mass > zero else nothing
                lse.data[row * lse.node + head * lse.head] = level
                to = row * out.node + head * out.head
                for d in range(0, value_width, lanes):
                    scaled(total, d, out.data, to + d, inverse, 0)
                if weights:
                    _normalise(alpha, head, begin, end, level, s, lanes)


@_inlined
def _normalise(alpha, head, begin, end, level, s, lanes):  # type: ignore[no-untyped-def]
    """Turns the scores of a row into weights."""
    none = level == -np.inf
    for first in range(begin, end, _CHUNK):
        count = min(_CHUNK, end - first)
        for n in range(count):
            at = (first + n) * alpha.node + head * alpha.head
            s[n] = alpha.data[at]
        for n in range(0, count, lanes):
            exp_sum(s, n, level)
        for n in range(count):
            at = (first + n) * alpha.node + head * alpha.head
            alpha.data[at] = 0 if none else s[n]


@_compiled
def backward_rows(g, q, k, v, lse, bias, keep, to_alpha, p, ds, dq, db, delta, start, other, size, options, work):  # type: ignore[no-untyped-def]  # fmt: skip
    """Gradients that belong to rows: of queries, biases and scores.

    ``g`` is the gradient of ``out``, ``to_alpha`` of the weights. Written are
    ``dq``, the bias's ``db``, ``delta``, and for the keys' pass, over edges,
    ``p`` (weights after dropout) and ``ds`` (gradients of the scores before
    bias and softcap). ``options`` is (scale, softcap or 0, with bias, with
    keep, with to_alpha, write db, whether heads share lines, first head of
    ``p`` and ``ds``, edges of the longest row); the rest is as in
    :func:`forward`.
    """
    groups, width, value_width = size
    scale, softcap, has_bias, has_keep, has_to, write, shared = options[:7]
    origin, longest = options[7:]
    number = q.data.dtype.type
    lanes = LANES * 4 // q.data.itemsize
    zero, one, nothing = number(0), number(1), number(-np.inf)
    s = np.zeros(longest + lanes, number)
    dp = np.zeros(longest + lanes, number)
    slope = np.ones(longest + lanes, number)
    total = np.zeros(width, number)
    step = _ROWS if shared else work[1] - work[0]
    for block in range(work[0], work[1], max(step, 1)):
        for head in range(work[2], work[3]):
            kv = head // groups
            for row in range(block, min(block + step, work[1])):
                first = start[row]
                count = start[row + 1] - first
                level = lse.data[row * lse.node + head * lse.head]
                _dots(
                    q.data, row * q.node + head * q.head, k, kv, other,
                    first, count, width, s, shared,
                )  # fmt: skip
                _dots(
                    g.data, row * g.node + head * g.head, v, kv, other,
                    first, count, value_width, dp, shared,
                )  # fmt: skip
                if softcap > 0:
                    for n in range(0, count, lanes):
                        scaled(s, n, slope, n, number(scale), 0)
                        soften(slope, n, number(softcap))
                    for n in range(count):
                        ratio = slope[n] / number(softcap)
                        slope[n] = one - ratio * ratio
                full = _scores(
                    s, count, scale, softcap, bias, has_bias, first, head,
                    lanes,
                )  # fmt: skip
                if level == nothing:
                    s[:full] = zero
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
                total[:] = zero
                _combine(dp, k, kv, other, first, count, width, total, shared)
                to = row * dq.node + head * dq.head
                for d in range(0, width, lanes):
                    scaled(total, d, dq.data, to + d, number(scale), 0)


@_compiled
def backward_keys(g, q, p, ds, dk, dv, start, other, edge, size, options, work):  # type: ignore[no-untyped-def]  # fmt: skip
    """Gradients that belong to keys, over the transposed graph.

    ``dk`` and ``dv`` are added to. ``start``, ``other`` and ``edge`` give for
    each key its edges, their queries and their positions in ``p`` and ``ds``;
    ``options`` is (scale, whether heads share lines, first head of ``p`` and
    ``ds``), ``work`` (first key, last key, first head, last head).
    """
    groups, width, value_width = size
    scale, shared, origin = options
    number = q.data.dtype.type
    lanes = LANES * 4 // q.data.itemsize
    zero, one = number(0), number(1)
    weight = np.zeros(_CHUNK + lanes, number)
    to_key = np.zeros(width, number)
    to_value = np.zeros(value_width, number)
    step = _ROWS if shared else work[1] - work[0]
    for block in range(work[0], work[1], max(step, 1)):
        for head in range(work[2], work[3]):
            kv = head // groups
            for key in range(block, min(block + step, work[1])):
                to_key[:] = zero
                to_value[:] = zero
                for first in range(start[key], start[key + 1], _CHUNK):
                    count = min(_CHUNK, start[key + 1] - first)
                    for n in range(count):
                        at = edge[first + n] * ds.node
                        weight[n] = ds.data[at + (head - origin) * ds.head]
                    _combine(
                        weight, q, head, other, first, count, width, to_key,
                        shared,
                    )  # fmt: skip
                    for n in range(count):
                        at = edge[first + n] * p.node
                        weight[n] = p.data[at + (head - origin) * p.head]
                    _combine(
                        weight, g, head, other, first, count, value_width,
                        to_value, shared,
                    )  # fmt: skip
                to = key * dk.node + kv * dk.head
                for d in range(0, width, lanes):
                    scaled(to_key, d, dk.data, to + d, number(scale), 1)
                to = key * dv.node + kv * dv.head
                for d in range(0, value_width, lanes):
                    scaled(to_value, d, dv.data, to + d, one, 1)
