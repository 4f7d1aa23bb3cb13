"""Attention over any edges on the CPU: one fused pass over the rows.

Scores, softmax and weighted sum of a row are computed together, some hundred
edges at a time with a running maximum, so that nothing of the size of the
edges times the width is ever stored.
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
from gnnbridge.nn.kernels.numba_options import compiled, inlined
from gnnbridge.nn.kernels.simd import exp_sum, largest, prefetch, scaled
from gnnbridge.nn.kernels.strided import Strided


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
    scratch,
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
            whether to write alpha, whether heads share lines of memory)``.
        work: ``(first row, last row, first head, last head)``.
        scratch: Two arrays for the keys and values of a head, or empty ones
            where these are used as they are.
    """
    _, num_keys, groups, width, value_width = size
    scale, softcap, has_bias, has_sink, has_keep, weights, shared = options
    number = q.data.dtype.type
    lanes = LANES * 4 // q.data.itemsize
    zero, one, nothing = number(0), number(1), number(-np.inf)
    s = np.zeros(CHUNK + lanes, number)
    total = np.zeros(value_width, number)
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
                begin, end = start[row], start[row + 1]
                at = row * q.node + head * q.head
                if row + 1 < work[1]:
                    for d in range(0, width, lanes):
                        prefetch(q.data, at + q.node + d, 8)
                    if shared and head == work[2]:
                        some = (work[3] - work[2]) // groups
                        near = end, start[row + 2]
                        fetch_row(k, other, near[0], near[1], some * width)
                        fetch_row(
                            v, other, near[0], near[1], some * value_width
                        )
                clear(total, value_width)
                peak, mass = nothing, zero
                for first in range(begin, end, CHUNK):
                    count = min(CHUNK, end - first)
                    dots(
                        q.data, at, k, kv, other, first, count, width, s,
                    )  # fmt: skip
                    full = scores(
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
                    combine(
                        s, v, kv, other, first, count, value_width, total,
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


@inlined
def _normalise(alpha, head, begin, end, level, s, lanes):  # type: ignore[no-untyped-def]
    """Turns the scores of a row into weights."""
    none = level == -np.inf
    for first in range(begin, end, CHUNK):
        count = min(CHUNK, end - first)
        for n in range(count):
            at = (first + n) * alpha.node + head * alpha.head
            s[n] = alpha.data[at]
        for n in range(0, count, lanes):
            exp_sum(s, n, level)
        for n in range(count):
            at = (first + n) * alpha.node + head * alpha.head
            alpha.data[at] = 0 if none else s[n]
