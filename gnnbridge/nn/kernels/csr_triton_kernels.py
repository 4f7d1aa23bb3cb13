"""The Triton programs of sparse attention; :mod:`csr_triton` launches them.

A score costs one gathered key row and one gathered value row for a few FLOP
per byte, so memory decides and tensor cores have nothing to do: products are
elementwise, in float32 (float64 for doubles). A program owns one row of one
key head and reads many edges at a time, one per *lane*: the row of a key is
contiguous, so each gather is made of whole 16-byte loads, and lanes times
width are what keeps the memory busy. Each lane keeps its own online softmax;
lanes meet once, after the last edge, so that the loop has no barrier. Query
heads that share a key head sit in neighbouring lanes and read the same
addresses, which the first-level cache answers. Heads of a row run next to each
other, for they share its column indices.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl


class Shape(NamedTuple):
    """What the compiled kernels depend on."""

    heads: int
    group: int  # query heads of a key head
    share: int  # of them, in one program
    lanes: int
    width: int  # of queries and keys
    padded: int  # the next power of two
    value_width: int
    value_padded: int
    bias_columns: int
    capped: bool
    dtype: Any  # of all arithmetic


@triton.jit
def _gather(
    base: tl.tensor,
    offset: tl.tensor,
    live: tl.tensor,
    WIDTH: tl.constexpr,
    PADDED: tl.constexpr,
) -> tl.tensor:
    """A row of numbers per lane, zeros where the lane is not live."""
    column = tl.arange(0, PADDED)
    mask = live[:, None] & (column < WIDTH)[None, :]
    at = base + offset[:, None] + column[None, :]
    return tl.load(at, mask=mask, other=0.0)


@triton.jit
def _gather_both(
    tensors: tl.tuple,  # of width D and Dv: query and grad_out, key and value
    strides: tl.tuple,
    node: tl.tensor,
    head: tl.tensor,
    live: tl.tensor,
    SHAPE: tl.constexpr,
) -> tl.tuple:
    one, two = tensors
    offset = node * strides[0] + head * strides[1]
    a = _gather(one, offset, live, SHAPE.width, SHAPE.padded)
    offset = node * strides[2] + head * strides[3]
    b = _gather(two, offset, live, SHAPE.value_width, SHAPE.value_padded)
    return a.to(SHAPE.dtype), b.to(SHAPE.dtype)


@triton.jit
def _score(
    q: tl.tensor,
    k: tl.tensor,
    bias: tl.tensor,
    edge: tl.tensor,
    head: tl.tensor,
    live: tl.tensor,
    scale: tl.tensor,
    softcap: tl.tensor,
    SHAPE: tl.constexpr,
) -> tl.tuple:
    """Score of each lane, ``-inf`` if not live, and the cap's derivative."""
    score = tl.sum(q * k, axis=1) * _number(scale, SHAPE.dtype)
    slope = tl.full(score.shape, 1.0, SHAPE.dtype)
    if SHAPE.capped:
        cap = _number(softcap, SHAPE.dtype)
        # A form of tanh that cannot overflow. Its error is a rounding of one,
        # so that of the score is a rounding of the cap.
        fall = tl.exp(tl.abs(score / cap) * -2.0)
        tanh = (1.0 - fall) / (1.0 + fall)
        score = tl.where(score < 0, -tanh, tanh) * cap
        slope = 1.0 - tanh * tanh
    if bias is not None:
        at = bias + edge * SHAPE.bias_columns
        at += head if SHAPE.bias_columns > 1 else 0
        score += tl.load(at, mask=live, other=0.0).to(SHAPE.dtype)
    return tl.where(live, score, float('-inf')), slope


@triton.jit
def _number(x: tl.float64, DTYPE: tl.constexpr) -> tl.tensor:
    """A scalar argument, which is passed in float64, for arithmetic."""
    return tl.full((1,), x, DTYPE)


@triton.jit
def _finite(peak: tl.tensor) -> tl.tensor:
    """A shift for exponents: where all is ``-inf``, any number will do."""
    return tl.where(peak == float('-inf'), 0.0, peak)


@triton.jit
def _row_of_program(SHAPE: tl.constexpr) -> tl.tuple:
    """Row, key head and the first of its query heads."""
    CHUNKS: tl.constexpr = (SHAPE.group + SHAPE.share - 1) // SHAPE.share
    PARTS: tl.constexpr = SHAPE.heads // SHAPE.group * CHUNKS
    # The last rows of a causal graph are the longest: they start first.
    program = tl.num_programs(0) - 1 - tl.program_id(0)
    row = (program // PARTS).to(tl.int64)
    return row, program % PARTS // CHUNKS, program % CHUNKS * SHAPE.share


@triton.jit
def forward_kernel(
    tensors: tl.tuple,  # query, key, value
    strides: tl.tuple,
    graph: tl.tuple,  # rowptr, col
    extras: tl.tuple,  # bias, sink, keep
    results: tl.tuple,  # out, lse, scores
    scale: tl.float64,
    softcap: tl.float64,
    SHAPE: tl.constexpr,
) -> None:
    """One row, and query heads that share a key head."""
    query, key, value = tensors
    rowptr, col = graph
    bias, sink, keep = extras
    out, lse, scores = results
    SHARE: tl.constexpr = SHAPE.share
    SLOTS: tl.constexpr = SHAPE.lanes // SHARE
    row, kv_head, first = _row_of_program(SHAPE)
    lane = tl.arange(0, SHAPE.lanes)
    # Without sharing one query row serves all lanes by broadcasting.
    member = first + (lane % SHARE if SHARE > 1 else tl.arange(0, 1))
    inside = member < SHAPE.group
    head = kv_head * SHAPE.group + member
    offset = row * strides[0] + head * strides[1]
    q = _gather(query, offset, inside, SHAPE.width, SHAPE.padded).to(
        SHAPE.dtype
    )

    peak = tl.full((SHAPE.lanes,), float('-inf'), SHAPE.dtype)
    mass = tl.zeros((SHAPE.lanes,), SHAPE.dtype)
    acc = tl.zeros((SHAPE.lanes, SHAPE.value_padded), SHAPE.dtype)
    end = tl.load(rowptr + row + 1)
    for start in range(tl.load(rowptr + row), end, SLOTS):
        edge = start + lane // SHARE
        live = (edge < end) & inside
        source = tl.load(col + edge, mask=edge < end, other=0).to(tl.int64)
        k, v = _gather_both(
            (key, value), strides[2:], source, kv_head, live, SHAPE
        )
        score, _ = _score(q, k, bias, edge, head, live, scale, softcap, SHAPE)
        at = edge * SHAPE.heads + head
        if scores is not None:
            tl.store(scores + at, score, mask=live)
        top = tl.maximum(peak, score)
        weight = tl.exp(score - _finite(top))
        decay = tl.exp(peak - _finite(top))
        peak = top
        mass = mass * decay + weight
        if keep is not None:
            weight *= tl.load(keep + at, mask=live, other=0.0).to(SHAPE.dtype)
        acc = acc * decay[:, None] + weight[:, None] * v

    # The lanes of a head meet, each brought to the common maximum.
    member = first + tl.arange(0, SHARE)
    inside = member < SHAPE.group
    head = row * SHAPE.heads + kv_head * SHAPE.group + member
    peak = tl.reshape(peak, (SLOTS, SHARE))
    top = tl.max(peak, axis=0)
    if sink is not None:
        logit = tl.load(sink + head, mask=inside, other=0.0).to(SHAPE.dtype)
        top = tl.maximum(top, logit)
    decay = tl.exp(peak - _finite(top)[None, :])
    mass = tl.sum(tl.reshape(mass, (SLOTS, SHARE)) * decay, axis=0)
    if sink is not None:
        mass += tl.exp(logit - _finite(top))
    safe = tl.where(mass == 0, 1.0, mass)
    peak = tl.where(mass == 0, top, _finite(top) + tl.log(safe))
    tl.store(lse + head, peak, mask=inside)
    acc = tl.reshape(acc, (SLOTS, SHARE, SHAPE.value_padded))
    acc = tl.sum(acc * decay[:, :, None], axis=0) / safe[:, None]
    column = tl.arange(0, SHAPE.value_padded)
    at = out + head[:, None] * SHAPE.value_width + column[None, :]
    mask = inside[:, None] & (column < SHAPE.value_width)[None, :]
    tl.store(at, acc, mask=mask)


@triton.jit
def weights_kernel(
    scores: tl.tensor,  # [E, H], becomes the weights
    lse: tl.tensor,
    rowptr: tl.tensor,
    HEADS: tl.constexpr,
    PADDED: tl.constexpr,
    LANES: tl.constexpr,
) -> None:
    """One row: its scores become weights."""
    row = tl.program_id(0).to(tl.int64)
    head = tl.arange(0, PADDED)
    peak = tl.load(lse + row * HEADS + head, mask=head < HEADS, other=0.0)
    end = tl.load(rowptr + row + 1)
    for start in range(tl.load(rowptr + row), end, LANES):
        edge = start + tl.arange(0, LANES)
        at = scores + edge[:, None] * HEADS + head[None, :]
        mask = (edge < end)[:, None] & (head < HEADS)[None, :]
        score = tl.load(at, mask=mask, other=float('-inf'))
        tl.store(at, tl.exp(score - _finite(peak)[None, :]), mask=mask)


@triton.jit
def _weight_gradient(
    left: tl.tuple,  # a query and the gradient of its output
    right: tl.tuple,  # a key and its value
    lse: tl.tensor,
    extras: tl.tuple,  # bias, keep, grad_alpha
    edge: tl.tensor,
    head: tl.tensor,
    live: tl.tensor,
    scale: tl.tensor,
    softcap: tl.tensor,
    SHAPE: tl.constexpr,
) -> tl.tuple:
    """Weight before and after dropout, its gradient, the cap's derivative."""
    q, do = left
    k, v = right
    bias, keep, grad_alpha = extras
    score, slope = _score(q, k, bias, edge, head, live, scale, softcap, SHAPE)
    alpha = tl.exp(score - _finite(lse))
    kept = alpha
    gain = tl.sum(do * v, axis=1)
    at = edge * SHAPE.heads + head
    if keep is not None:
        factor = tl.load(keep + at, mask=live, other=0.0).to(SHAPE.dtype)
        kept = alpha * factor
        gain *= factor
    if grad_alpha is not None:
        extra = tl.load(grad_alpha + at, mask=live, other=0.0)
        gain += extra.to(SHAPE.dtype)
    return alpha, kept, gain, slope


@triton.jit
def rows_kernel(
    left: tl.tuple,  # query, grad_out
    right: tl.tuple,  # key, value
    left_strides: tl.tuple,
    right_strides: tl.tuple,
    graph: tl.tuple,  # rowptr, col
    extras: tl.tuple,  # bias, keep, grad_alpha
    lse: tl.tensor,
    results: tl.tuple,  # grad_query, delta
    scale: tl.float64,
    softcap: tl.float64,
    SHAPE: tl.constexpr,
) -> None:
    """One row: the gradient of its query, and its delta."""
    rowptr, col = graph
    grad_query, delta = results
    SHARE: tl.constexpr = SHAPE.share
    SLOTS: tl.constexpr = SHAPE.lanes // SHARE
    row, kv_head, first = _row_of_program(SHAPE)
    lane = tl.arange(0, SHAPE.lanes)
    member = first + (lane % SHARE if SHARE > 1 else tl.arange(0, 1))
    inside = member < SHAPE.group
    head = kv_head * SHAPE.group + member
    ours = _gather_both(left, left_strides, row, head, inside, SHAPE)
    peak = tl.load(lse + row * SHAPE.heads + head, mask=inside, other=0.0)

    # A score's gradient is alpha * slope * (gain - delta), and delta is known
    # after the last edge: its two parts are summed apart, so that keys and
    # values are gathered once.
    total = tl.zeros((SHAPE.lanes,), SHAPE.dtype)
    pull = tl.zeros((SHAPE.lanes, SHAPE.padded), SHAPE.dtype)
    mean = tl.zeros((SHAPE.lanes, SHAPE.padded), SHAPE.dtype)
    end = tl.load(rowptr + row + 1)
    for start in range(tl.load(rowptr + row), end, SLOTS):
        edge = start + lane // SHARE
        live = (edge < end) & inside
        source = tl.load(col + edge, mask=edge < end, other=0).to(tl.int64)
        k, v = _gather_both(right, right_strides, source, kv_head, live, SHAPE)
        alpha, _, gain, slope = _weight_gradient(
            ours, (k, v), peak, extras, edge, head, live, scale, softcap, SHAPE
        )
        total += alpha * gain
        pull += (alpha * slope * gain)[:, None] * k
        mean += (alpha * slope)[:, None] * k

    member = first + tl.arange(0, SHARE)
    inside = member < SHAPE.group
    head = row * SHAPE.heads + kv_head * SHAPE.group + member
    total = tl.sum(tl.reshape(total, (SLOTS, SHARE)), axis=0)
    tl.store(delta + head, total, mask=inside)
    pull = tl.sum(tl.reshape(pull, (SLOTS, SHARE, SHAPE.padded)), axis=0)
    mean = tl.sum(tl.reshape(mean, (SLOTS, SHARE, SHAPE.padded)), axis=0)
    column = tl.arange(0, SHAPE.padded)
    at = grad_query + head[:, None] * SHAPE.width + column[None, :]
    mask = inside[:, None] & (column < SHAPE.width)[None, :]
    pull = (pull - total[:, None] * mean) * _number(scale, SHAPE.dtype)
    tl.store(at, pull, mask=mask)


@triton.jit(do_not_specialize=['first'])
def columns_kernel(
    left: tl.tuple,  # query, grad_out
    right: tl.tuple,  # key, value
    left_strides: tl.tuple,
    right_strides: tl.tuple,
    graph: tl.tuple,  # colptr, row, edge
    extras: tl.tuple,  # bias, keep, grad_alpha
    lse: tl.tensor,
    delta: tl.tensor,
    results: tl.tuple,  # grad_key, grad_value, grad_score
    first: tl.tensor,  # key head of this launch
    scale: tl.float64,
    softcap: tl.float64,
    COUNT: tl.constexpr,  # key heads of this launch
    SHAPE: tl.constexpr,
) -> None:
    """One key of one key head: its gradient and that of its value."""
    colptr, row, edge = graph
    grad_key, grad_value, grad_score = results
    GROUP: tl.constexpr = SHAPE.group
    column = (tl.program_id(0) // COUNT).to(tl.int64)
    part = tl.program_id(0) % COUNT
    kv_head = first + part
    one = tl.full((1,), 1, tl.int1)
    ours = _gather_both(
        right, right_strides, column + tl.arange(0, 1), kv_head, one, SHAPE
    )

    # Lanes run over pairs of an edge and a query head: the heads of a group
    # are neighbours in memory, and their gradients are summed right here.
    dk = tl.zeros((SHAPE.lanes, SHAPE.padded), SHAPE.dtype)
    dv = tl.zeros((SHAPE.lanes, SHAPE.value_padded), SHAPE.dtype)
    end = tl.load(colptr + column + 1) * GROUP
    for start in range(tl.load(colptr + column) * GROUP, end, SHAPE.lanes):
        pair = start + tl.arange(0, SHAPE.lanes)
        live = pair < end
        head = kv_head * GROUP + pair % GROUP
        at = pair // GROUP
        target = tl.load(row + at, mask=live, other=0).to(tl.int64)
        # Where the edge stands among the edges of the rows.
        home = tl.load(edge + at, mask=live, other=0).to(tl.int64)
        q, do = _gather_both(left, left_strides, target, head, live, SHAPE)
        at = target * SHAPE.heads + head
        peak = tl.load(lse + at, mask=live, other=0.0)
        mean = tl.load(delta + at, mask=live, other=0.0)
        alpha, kept, gain, slope = _weight_gradient(
            (q, do), ours, peak, extras, home, head, live, scale, softcap, SHAPE
        )
        grad = alpha * (gain - mean)
        if grad_score is not None:
            at = (home * COUNT + part) * GROUP + pair % GROUP
            tl.store(grad_score + at, grad, mask=live)
        dk += (grad * slope)[:, None] * q
        dv += kept[:, None] * do

    at = column * (SHAPE.heads // GROUP) + kv_head
    width = tl.arange(0, SHAPE.padded)
    dk = tl.sum(dk, axis=0) * _number(scale, SHAPE.dtype)
    tl.store(grad_key + at * SHAPE.width + width, dk, mask=width < SHAPE.width)
    width = tl.arange(0, SHAPE.value_padded)
    dv = tl.sum(dv, axis=0)
    at = grad_value + at * SHAPE.value_width + width
    tl.store(at, dv, mask=width < SHAPE.value_width)
