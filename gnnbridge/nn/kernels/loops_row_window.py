"""Attention over row windows on the CPU: tiles of a fused softmax.

FlashAttention (https://arxiv.org/abs/2205.14135) on the blocks of a row-window
graph: scores of a tile of queries and keys stay in the first caches, rows are
normalised online, and the backward pass computes them again from the saved
logarithm of the row sums. Only keys that some query of a block sees are
touched.
"""

from __future__ import annotations

import numpy as np

from gnnbridge.nn.kernels.emitter import LANES
from gnnbridge.nn.kernels.loops_tiles import (
    BLOCKS,
    KEYS,
    cover,
    fetch,
    mask,
    next_keys,
    pack,
    padded,
    product,
    seen,
    spans,
    turn,
)
from gnnbridge.nn.kernels.numba_options import compiled
from gnnbridge.nn.kernels.simd import exp_sum, fill, gemm4, peak, scaled, soften


@compiled
def forward(  # type: ignore[no-untyped-def]
    q,
    k,
    v,
    out,
    lse,
    sink,
    tiles,
    size,
    options,
    work,
    room,
):
    """Attention of some blocks of queries.

    Args:
        q: Queries, ``Strided``; so are keys ``k``, values ``v``, the results
            ``out`` and ``lse`` and the logits ``sink``.
        tiles: The graph, ``Tiles``.
        size: ``(queries, heads, heads per key head, width, value width)``.
        options: ``(scale, softcap or 0, whether there is a sink)``.
        work: ``(first block, last block)``.
        room: Memory for keys, the keys after these and row numbers, and for
            tiles of :func:`~.loops_tiles.forward_sizes`.
    """
    queries, heads, groups, width, value_width = size
    scale, softcap, has_sink = options
    number = q.data.dtype.type
    lanes = LANES * 4 // q.data.itemsize
    rows = tiles.rows
    wide = padded(value_width, lanes)
    zero, one, nothing = number(0), number(1), number(-np.inf)
    keys, ahead, numbers, start, stop, near, far = room[0]
    query, key, turned, value, s, total, highest, mass = room[1]
    for block in range(work[0], work[1], BLOCKS):
        first = block * rows
        blocks = min(BLOCKS, work[1] - block)
        count = min(blocks * rows, queries - first)
        cover(tiles, block, blocks, start, stop)
        spans(tiles, first, count, near, far)
        for r in range(count):
            numbers[r] = first + r
        for head in range(heads):
            pack(
                q.data, q.node, head * q.head, numbers, count, width,
                query, width, number(scale),
            )  # fmt: skip
            fill(total, 0, (count + 3) // 4 * 4 * wide, zero)
            highest[:] = nothing
            mass[:] = zero
            n, at = next_keys(keys, start, stop, (0, 0))
            while n > 0:
                coming, at = next_keys(ahead, start, stop, at)
                columns = (n + lanes - 1) // lanes * lanes
                kv = head // groups
                pack(
                    k.data, k.node, kv * k.head, keys, n, width,
                    key, width, one,
                )  # fmt: skip
                pack(
                    v.data, v.node, kv * v.head, keys, n, value_width,
                    value, wide, one,
                )  # fmt: skip
                turn(key, width, turned, columns, width)
                # Four rows at a time see less than all of them together.
                for four in range(0, count, 4):
                    end = min(four + 4, count)
                    for r in range(four, end):
                        if r < coming:
                            fetch(k, kv, ahead[r], width)
                            fetch(v, kv, ahead[r], value_width)
                    low, high = seen(keys, n, near, far, four // 4, len(start))
                    if low >= high:
                        continue
                    length = high - low // lanes * lanes
                    low = low // lanes * lanes
                    last = low + (length + lanes - 1) // lanes * lanes
                    gemm4(
                        s, low, KEYS, query, four * width, width, 1,
                        turned, low, KEYS, width, last - low, False,
                    )  # fmt: skip
                    for r in range(four, end):
                        row = (r - four) * KEYS
                        if softcap > 0:
                            soften(s, row + low, last - low, number(softcap))
                        mask(s, row, keys, low, last, tiles, first + r)
                        top = max(highest[r], peak(s, row + low, last - low))
                        if top == nothing:
                            # Zero, or NaN if one is seen.
                            mass[r] += exp_sum(s, row + low, last - low, zero)
                            continue
                        if top > highest[r]:
                            if mass[r] > zero:
                                factor = np.exp(highest[r] - top)
                                mass[r] *= factor
                                scaled(
                                    total, r * wide, total, r * wide, wide,
                                    factor, 0,
                                )  # fmt: skip
                            highest[r] = top
                        mass[r] += exp_sum(s, row + low, last - low, top)
                    gemm4(
                        total, four * wide, wide, s, low, KEYS, 1,
                        value, low * wide, wide, length, wide, True,
                    )  # fmt: skip
                n, keys, ahead = coming, ahead, keys
            for r in range(count):
                high, weight = highest[r], one
                if has_sink:
                    logit = sink.data[
                        (first + r) * sink.node + head * sink.head
                    ]
                    high = max(high, logit)
                    if mass[r] > zero:
                        weight = np.exp(highest[r] - high)
                    mass[r] = mass[r] * weight
                    if logit > nothing:
                        mass[r] += np.exp(logit - high)
                inverse = zero if mass[r] == zero else weight / mass[r]
                to = (first + r) * out.node + head * out.head
                scaled(total, r * wide, out.data, to, value_width, inverse, 0)
                to = (first + r) * lse.node + head * lse.head
                lse.data[to] = (
                    nothing if mass[r] == zero else high + np.log(mass[r])
                )


@compiled
def backward(  # type: ignore[no-untyped-def]
    g,
    q,
    k,
    v,
    out,
    lse,
    dq,
    dk,
    dv,
    delta,
    tiles,
    size,
    options,
    work,
    room,
):
    """Gradients of some blocks of queries, for some heads of the keys.

    ``g`` is the gradient of ``out``. ``dq`` and ``delta`` are written, ``dk``
    and ``dv`` added to. ``work`` is (first block, last block, first key head,
    last key head); the rest is as in :func:`forward`.
    """
    queries, _, groups, width, value_width = size
    scale, softcap = options
    number = q.data.dtype.type
    lanes = LANES * 4 // q.data.itemsize
    pair = 2 * lanes
    rows = tiles.rows
    deep, wide = padded(width, lanes), padded(value_width, lanes)
    zero, one, nothing = number(0), number(1), number(-np.inf)
    keys, ahead, numbers = room[0][:3]
    query, grad, key, value, turned = room[1][:5]
    s, ds, to_query, to_key, to_value, own = room[1][5:]
    for block in range(work[0], work[1]):
        first = block * rows
        count = min(rows, queries - first)
        fours = (count + 3) // 4 * 4
        for r in range(count):
            numbers[r] = first + r
        for head in range(work[2] * groups, work[3] * groups):
            kv = head // groups
            pack(
                q.data, q.node, head * q.head, numbers, count, width,
                query, deep, number(scale),
            )  # fmt: skip
            pack(
                g.data, g.node, head * g.head, numbers, count, value_width,
                grad, wide, one,
            )  # fmt: skip
            for r in range(count):
                of = (first + r) * out.node + head * out.head
                dot = zero
                for d in range(value_width):
                    dot += out.data[of + d] * grad[r * wide + d]
                own[r] = dot
                delta.data[(first + r) * delta.node + head * delta.head] = dot
            fill(to_query, 0, rows * deep, zero)
            n, at = next_keys(
                keys, tiles.cover_start[block], tiles.cover_stop[block], (0, 0)
            )
            while n > 0:
                coming, at = next_keys(
                    ahead, tiles.cover_start[block], tiles.cover_stop[block], at
                )
                columns = (n + pair - 1) // pair * pair
                pack(
                    k.data, k.node, kv * k.head, keys, n, width,
                    key, deep, one,
                )  # fmt: skip
                pack(
                    v.data, v.node, kv * v.head, keys, n, value_width,
                    value, wide, one,
                )  # fmt: skip
                turn(key, deep, turned, columns, width)
                product(
                    s, KEYS, query, deep, 1, turned, KEYS,
                    (fours, columns, width), False,
                )  # fmt: skip
                turn(value, wide, turned, columns, value_width)
                product(
                    ds, KEYS, grad, wide, 1, turned, KEYS,
                    (fours, columns, value_width), False,
                )  # fmt: skip
                for r in range(count):
                    row = r * KEYS
                    if r < coming:
                        fetch(k, kv, ahead[r], width)
                        fetch(v, kv, ahead[r], value_width)
                    level = lse.data[(first + r) * lse.node + head * lse.head]
                    if level == nothing:
                        fill(s, row, columns, zero)
                        fill(ds, row, columns, zero)
                        continue
                    if softcap > 0:
                        soften(s, row, columns, number(softcap))
                        for x in range(row, row + columns):
                            ratio = s[x] / number(softcap)
                            ds[x] = (ds[x] - own[r]) * (one - ratio * ratio)
                    else:
                        for x in range(row, row + columns):
                            ds[x] -= own[r]
                    mask(s, row, keys, 0, columns, tiles, first + r)
                    exp_sum(s, row, columns, level)
                    for x in range(row, row + columns):
                        ds[x] *= s[x]
                product(
                    to_query, deep, ds, KEYS, 1, key, deep,
                    (fours, deep, n), True,
                )  # fmt: skip
                n4 = (n + 3) // 4 * 4
                product(
                    to_key, deep, ds, 1, KEYS, query, deep,
                    (n4, deep, count), False,
                )  # fmt: skip
                product(
                    to_value, wide, s, 1, KEYS, grad, wide,
                    (n4, wide, count), False,
                )  # fmt: skip
                for x in range(n):
                    to = keys[x] * dk.node + kv * dk.head
                    scaled(to_key, x * deep, dk.data, to, width, one, 1)
                    to = keys[x] * dv.node + kv * dv.head
                    scaled(to_value, x * wide, dv.data, to, value_width, one, 1)
                n, keys, ahead = coming, ahead, keys
            for r in range(count):
                to = (first + r) * dq.node + head * dq.head
                scaled(to_query, r * deep, dq.data, to, width, number(scale), 0)
