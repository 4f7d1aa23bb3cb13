"""Attention over row windows on the CPU: tiles of a fused softmax.

FlashAttention (https://arxiv.org/abs/2205.14135) on the blocks of a row-window
graph: scores of a tile of queries and keys stay in the first caches, rows are
normalised online, and the backward pass computes them again from the saved
logarithm of the row sums. Only keys that some query of a block sees are
touched.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from gnnbridge.nn.kernels.simd import (
    LANES,
    exp_sum,
    gemm4,
    largest,
    mask_outside,
    scaled,
    soften,
    transpose,
)

# Keys of a tile. With 64 queries and width 64 a tile of each operand takes
# 16 KB: the product's working set lies in the second cache, its inner loop's in
# the first.
_KEYS = 64

# All but the freedom to assume finite numbers: -inf is a score here.
_FAST = {'nnan', 'nsz', 'arcp', 'contract', 'afn', 'reassoc'}
_compiled = njit(nogil=True, cache=True, error_model='numpy', fastmath=_FAST)
# A call would count references to every array that is passed.
_inlined = njit(forceinline=True, error_model='numpy', fastmath=_FAST)


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


@_inlined
def _product(c, c_row, a, a_row, a_step, b, b_row, shape, add):  # type: ignore[no-untyped-def]
    """``c (+)= a @ b``; ``shape`` is (rows, columns, length)."""
    lanes = LANES * 4 // c.itemsize
    rows, columns, length = shape
    for i in range(0, rows, 4):
        for j in range(0, columns, 2 * lanes):
            if add:
                gemm4(
                    c, i * c_row + j, c_row, a, i * a_row, a_row, a_step,
                    b, j, b_row, length, 2, 1,
                )  # fmt: skip
            else:
                gemm4(
                    c, i * c_row + j, c_row, a, i * a_row, a_row, a_step,
                    b, j, b_row, length, 2, 0,
                )  # fmt: skip


@_inlined
def _pack(x, node, offset, rows, count, width, out, out_row, factor):  # type: ignore[no-untyped-def]
    """Copies rows of a tensor, given by number, into a tile."""
    lanes = LANES * 4 // out.itemsize
    for r in range(count):
        source = rows[r] * node + offset
        for d in range(0, width, lanes):
            scaled(x, source + d, out, r * out_row + d, factor, 0)


@_inlined
def _turn(x, x_row, y, rows, columns):  # type: ignore[no-untyped-def]
    """Transposes a tile into rows of ``_KEYS`` numbers."""
    lanes = LANES * 4 // x.itemsize
    for r in range(0, rows, lanes):
        for c in range(0, columns, lanes):
            transpose(x, r * x_row + c, x_row, y, c * _KEYS + r, _KEYS)


@_inlined
def _next_keys(keys, start, stop, at):  # type: ignore[no-untyped-def]
    """The next keys of a block's ranges; ``at`` is (range, offset in it)."""
    count, which, offset = 0, at[0], at[1]
    while which < len(start) and count < _KEYS:
        key = start[which] + offset
        take = min(_KEYS - count, stop[which] - key)
        for x in range(take):
            keys[count + x] = key + x
        count += take
        offset += take
        if start[which] + offset >= stop[which]:
            which += 1
            offset = 0
    for x in range(count, _KEYS):
        keys[x] = -1
    return count, (which, offset)


@_inlined
def _mask(s, row, keys, count, columns, tiles, query):  # type: ignore[no-untyped-def]
    """Switches off the keys of a tile that a query does not see."""
    lanes = LANES * 4 // s.itemsize
    ranges = tiles.cover_start.shape[1]
    first = query * ranges
    if count == columns:
        for r in range(first, first + ranges):
            if tiles.start[r] <= keys[0] and keys[count - 1] < tiles.stop[r]:
                return
    for x in range(0, columns, lanes):
        if ranges == 1:
            mask_outside(s, row + x, keys, x, tiles.start, tiles.stop, first, 1)
        elif ranges == 2:
            mask_outside(s, row + x, keys, x, tiles.start, tiles.stop, first, 2)
        else:
            mask_outside(s, row + x, keys, x, tiles.start, tiles.stop, first, 4)


@_compiled
def forward(q, k, v, out, lse, sink, tiles, size, options, work):  # type: ignore[no-untyped-def]
    """Attention of some blocks of queries.

    Args:
        q: Queries, ``Strided``; so are keys ``k``, values ``v``, the results
            ``out`` and ``lse`` and the logits ``sink``.
        tiles: The graph, ``Tiles``.
        size: ``(queries, heads, heads per key head, width, value width)``.
        options: ``(scale, softcap or 0, whether there is a sink)``.
        work: ``(first block, last block)``.
    """
    queries, heads, groups, width, value_width = size
    scale, softcap, has_sink = options
    number = q.data.dtype.type
    lanes = LANES * 4 // q.data.itemsize
    pair = 2 * lanes
    rows = tiles.rows
    wide = (value_width + pair - 1) // pair * pair
    zero, one, nothing = number(0), number(1), number(-np.inf)
    keys = np.empty(_KEYS, np.int32)
    numbers = np.empty(rows, np.int64)
    query = np.zeros(rows * width, number)
    key = np.zeros(_KEYS * width, number)
    turned = np.zeros(width * _KEYS, number)
    value = np.zeros(_KEYS * wide, number)
    s = np.zeros(rows * _KEYS, number)
    total = np.zeros(rows * wide, number)
    peak = np.empty(rows, number)
    mass = np.empty(rows, number)
    for block in range(work[0], work[1]):
        first = block * rows
        count = min(rows, queries - first)
        fours = (count + 3) // 4 * 4
        for r in range(count):
            numbers[r] = first + r
        for head in range(heads):
            _pack(
                q.data, q.node, head * q.head, numbers, count, width,
                query, width, number(scale),
            )  # fmt: skip
            total[:] = zero
            peak[:] = nothing
            mass[:] = zero
            at = (0, 0)
            while True:
                n, at = _next_keys(
                    keys, tiles.cover_start[block], tiles.cover_stop[block], at
                )
                if n == 0:
                    break
                columns = (n + pair - 1) // pair * pair
                kv = head // groups
                _pack(
                    k.data, k.node, kv * k.head, keys, n, width,
                    key, width, one,
                )  # fmt: skip
                _pack(
                    v.data, v.node, kv * v.head, keys, n, value_width,
                    value, wide, one,
                )  # fmt: skip
                _turn(key, width, turned, columns, width)
                _product(
                    s, _KEYS, query, width, 1, turned, _KEYS,
                    (fours, columns, width), False,
                )  # fmt: skip
                for r in range(count):
                    row = r * _KEYS
                    if softcap > 0:
                        for x in range(0, columns, lanes):
                            soften(s, row + x, number(softcap))
                    _mask(s, row, keys, n, columns, tiles, first + r)
                    high = peak[r]
                    for x in range(0, columns, lanes):
                        high = max(high, largest(s, row + x))
                    if high == nothing:
                        s[row : row + columns] = zero
                        continue
                    if high > peak[r]:
                        if mass[r] > zero:
                            factor = np.exp(peak[r] - high)
                            mass[r] *= factor
                            for d in range(0, wide, lanes):
                                at_d = r * wide + d
                                scaled(total, at_d, total, at_d, factor, 0)
                        peak[r] = high
                    for x in range(0, columns, lanes):
                        mass[r] += exp_sum(s, row + x, high)
                _product(
                    total, wide, s, _KEYS, 1, value, wide,
                    (fours, wide, n), True,
                )  # fmt: skip
            for r in range(count):
                high, weight = peak[r], one
                if has_sink:
                    logit = sink.data[
                        (first + r) * sink.node + head * sink.head
                    ]
                    high = max(high, logit)
                    if mass[r] > zero:
                        weight = np.exp(peak[r] - high)
                    mass[r] = mass[r] * weight
                    if logit > nothing:
                        mass[r] += np.exp(logit - high)
                inverse = weight / mass[r] if mass[r] > zero else zero
                to = (first + r) * out.node + head * out.head
                for d in range(0, value_width, lanes):
                    scaled(total, r * wide + d, out.data, to + d, inverse, 0)
                to = (first + r) * lse.node + head * lse.head
                lse.data[to] = (
                    high + np.log(mass[r]) if mass[r] > zero else nothing
                )


@_compiled
def backward(g, q, k, v, out, lse, dq, dk, dv, delta, tiles, size, options, work):  # type: ignore[no-untyped-def]  # fmt: skip
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
    deep = (width + pair - 1) // pair * pair
    wide = (value_width + pair - 1) // pair * pair
    zero, one, nothing = number(0), number(1), number(-np.inf)
    keys = np.empty(_KEYS, np.int32)
    numbers = np.empty(rows, np.int64)
    query = np.zeros(rows * deep, number)
    grad = np.zeros(rows * wide, number)
    key = np.zeros(_KEYS * deep, number)
    value = np.zeros(_KEYS * wide, number)
    turned = np.zeros(max(width, value_width) * _KEYS, number)
    s = np.zeros(rows * _KEYS, number)
    ds = np.zeros(rows * _KEYS, number)
    to_query = np.zeros(rows * deep, number)
    to_key = np.zeros(_KEYS * deep, number)
    to_value = np.zeros(_KEYS * wide, number)
    own = np.empty(rows, number)
    for block in range(work[0], work[1]):
        first = block * rows
        count = min(rows, queries - first)
        fours = (count + 3) // 4 * 4
        for r in range(count):
            numbers[r] = first + r
        for head in range(work[2] * groups, work[3] * groups):
            kv = head // groups
            _pack(
                q.data, q.node, head * q.head, numbers, count, width,
                query, deep, number(scale),
            )  # fmt: skip
            _pack(
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
            to_query[:] = zero
            at = (0, 0)
            while True:
                n, at = _next_keys(
                    keys, tiles.cover_start[block], tiles.cover_stop[block], at
                )
                if n == 0:
                    break
                columns = (n + pair - 1) // pair * pair
                _pack(
                    k.data, k.node, kv * k.head, keys, n, width,
                    key, deep, one,
                )  # fmt: skip
                _pack(
                    v.data, v.node, kv * v.head, keys, n, value_width,
                    value, wide, one,
                )  # fmt: skip
                _turn(key, deep, turned, columns, width)
                _product(
                    s, _KEYS, query, deep, 1, turned, _KEYS,
                    (fours, columns, width), False,
                )  # fmt: skip
                _turn(value, wide, turned, columns, value_width)
                _product(
                    ds, _KEYS, grad, wide, 1, turned, _KEYS,
                    (fours, columns, value_width), False,
                )  # fmt: skip
                for r in range(count):
                    row = r * _KEYS
                    level = lse.data[(first + r) * lse.node + head * lse.head]
                    if level == nothing:
                        s[row : row + columns] = zero
                        ds[row : row + columns] = zero
                        continue
                    if softcap > 0:
                        for x in range(0, columns, lanes):
                            soften(s, row + x, number(softcap))
                        for x in range(row, row + columns):
                            ratio = s[x] / number(softcap)
                            ds[x] = (ds[x] - own[r]) * (one - ratio * ratio)
                    else:
                        for x in range(row, row + columns):
                            ds[x] -= own[r]
                    _mask(s, row, keys, n, columns, tiles, first + r)
                    for x in range(0, columns, lanes):
                        exp_sum(s, row + x, level)
                    for x in range(row, row + columns):
                        ds[x] *= s[x]
                _product(
                    to_query, deep, ds, _KEYS, 1, key, deep,
                    (fours, deep, n), True,
                )  # fmt: skip
                n4 = (n + 3) // 4 * 4
                _product(
                    to_key, deep, ds, 1, _KEYS, query, deep,
                    (n4, deep, count), False,
                )  # fmt: skip
                _product(
                    to_value, wide, s, 1, _KEYS, grad, wide,
                    (n4, wide, count), False,
                )  # fmt: skip
                for x in range(n):
                    to = keys[x] * dk.node + kv * dk.head
                    for d in range(0, width, lanes):
                        scaled(to_key, x * deep + d, dk.data, to + d, one, 1)
                    to = keys[x] * dv.node + kv * dv.head
                    for d in range(0, value_width, lanes):
                        scaled(to_value, x * wide + d, dv.data, to + d, one, 1)
            for r in range(count):
                to = (first + r) * dq.node + head * dq.head
                for d in range(0, width, lanes):
                    scaled(
                        to_query, r * deep + d, dq.data, to + d,
                        number(scale), 0,
                    )  # fmt: skip
