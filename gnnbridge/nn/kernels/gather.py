"""Products with rows that are given by number, as numba intrinsics.

A row of a graph has few edges, and their nodes lie anywhere: what a kernel
does to them has to stay in registers from the first edge to the last. These
loops are therefore written out here, as the vectors in :mod:`.simd` are.
"""

from __future__ import annotations

from functools import reduce
from itertools import chain
from typing import Any, TypeAlias

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from gnnbridge.nn.kernels.emitter import INT, Emitter, integer

_index = types.int64
# Dot products that are summed at the same time, if a vector is as long.
_TOGETHER = 8


@intrinsic
def gather_dots(  # type: ignore[no-untyped-def]
    typing, x, x_at, y, y_at, other, first, count, node, width, factor, out,
    to,
):  # fmt: skip
    """``out[n] = factor * x . y[other[first + n]]`` for ``count`` edges.

    Row ``i`` of ``y`` starts at ``y_at + i * node``; ``width`` is a multiple of
    the lanes. Whole vectors are written: what lies beyond the last edge in
    the last of them is undefined.
    """
    signature = types.void(
        x, _index, y, _index, other, _index, _index, _index, _index, x.dtype,
        out, _index,
    )  # fmt: skip

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        emit = Emitter(context, builder, x.dtype)
        left = emit.pointer(x, args[0], args[1])
        right = emit.pointer(y, args[2], args[3])
        numbers = emit.pointer(other, args[4], args[5])
        count, node, width, factor = args[6:10]
        target = emit.pointer(out, args[10], args[11])
        together = min(_TOGETHER, emit.lanes)
        totals = [
            cgutils.alloca_once(builder, emit.vector) for _ in range(together)
        ]
        sums = [
            cgutils.alloca_once(builder, emit.vector)
            for _ in range(emit.lanes // together)
        ]
        factor = emit.splat(factor)
        last = builder.sub(count, integer(1))

        def add(edge: Any, part: int) -> list[_Partial]:
            rows = []
            for n in range(together):
                place = builder.add(edge, integer(n))
                # The last one again, where there are no more.
                beyond = builder.icmp_signed('>', place, last)
                place = builder.select(beyond, last, place)
                rows.append(emit.at(right, _start(emit, numbers, place, node)))
                builder.store(emit.constant(0.0), totals[n])

            def body(at: Any) -> None:
                common = emit.load(left, at)
                for row, total in zip(rows, totals, strict=True):
                    value = emit.load(row, at)
                    value = emit.fma(common, value, builder.load(total))
                    builder.store(value, total)

            emit.vectors(width, body)
            partials = [
                (builder.load(total), [part * together + n] * emit.lanes)
                for n, total in enumerate(totals)
            ]
            return _merged(emit, partials)

        found: list[list[int]] = [[] for _ in sums]
        step = integer(emit.lanes)
        groups = builder.sdiv(builder.add(last, step), step)
        with cgutils.for_range(builder, groups, intp=INT) as loop:
            edge = builder.mul(loop.index, step)
            for part, total in enumerate(sums):
                place = builder.add(edge, integer(part * together))
                builder.store(emit.constant(0.0), total)
                with builder.if_then(builder.icmp_signed('<=', place, last)):
                    ((vector, found[part]),) = add(place, part)
                    builder.store(vector, total)
            partials = [
                (builder.load(total), edges)
                for total, edges in zip(sums, found, strict=True)
            ]
            ((vector, edges),) = _merged(emit, partials)
            order = [edges.index(n) for n in range(emit.lanes)]
            vector = emit.shuffle(vector, vector, order)
            emit.store(emit.mul(vector, factor), target, edge)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def gather_sum(  # type: ignore[no-untyped-def]
    typing, weight, w_at, y, y_at, other, first, count, node, width, factor,
    out, to, add,
):  # fmt: skip
    """``out (+)= factor * sum_n weight[n] * y[other[first + n]]``.

    ``add`` says whether to add; the rest is as in :func:`gather_dots`.
    """
    signature = types.void(
        weight, _index, y, _index, other, _index, _index, _index, _index,
        y.dtype, out, _index, types.boolean,
    )  # fmt: skip

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        emit = Emitter(context, builder, y.dtype)
        weights = emit.pointer(weight, args[0], args[1])
        right = emit.pointer(y, args[2], args[3])
        numbers = emit.pointer(other, args[4], args[5])
        count, node, width, factor = args[6:10]
        target = emit.pointer(out, args[10], args[11])
        factor = emit.splat(factor)
        add = builder.trunc(args[12], ir.IntType(1))
        fours = builder.ashr(count, integer(2))

        def body(offset: Any, vectors: int) -> None:
            # Enough sums side by side that none waits for the one before.
            sets = [
                [
                    cgutils.alloca_once(builder, emit.vector)
                    for _ in range(vectors)
                ]
                for _ in range(2 if vectors == 4 else 4)
            ]
            for total in chain.from_iterable(sets):
                builder.store(emit.constant(0.0), total)

            def add_edge(edge: Any, totals: list[Any]) -> None:
                start = _start(emit, numbers, edge, node)
                row = emit.at(right, builder.add(start, offset))
                share = emit.splat(builder.load(emit.at(weights, edge)))
                for vector, total in enumerate(totals):
                    value = emit.load(row, vector * emit.lanes)
                    value = emit.fma(share, value, builder.load(total))
                    builder.store(value, total)

            with cgutils.for_range(builder, fours, intp=INT) as loop:
                edge = builder.shl(loop.index, integer(2))
                for n in range(4):
                    add_edge(builder.add(edge, integer(n)), sets[n % len(sets)])
            rest = builder.and_(count, integer(3))
            with cgutils.for_range(builder, rest, intp=INT) as loop:
                edge = builder.add(builder.sub(count, rest), loop.index)
                add_edge(edge, sets[0])
            for vector, totals in enumerate(zip(*sets, strict=True)):
                values = [builder.load(total) for total in totals]
                value = emit.mul(reduce(emit.add, values), factor)
                at = builder.add(offset, integer(vector * emit.lanes))
                there = builder.select(
                    add, emit.load(target, at), emit.constant(0.0)
                )
                emit.store(emit.add(value, there), target, at)

        emit.blocks(width, body)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def fetch_rows(typing, y, y_at, other, first, last, step, node, width):  # type: ignore[no-untyped-def]
    """Asks for rows of ``y`` before they are needed: of every step-th edge.

    Rows that follow that of the edge before are left to the processor, which
    sees such a sequence by itself.
    """
    signature = types.void(
        y, _index, other, _index, _index, _index, _index, _index
    )

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        emit = Emitter(context, builder, y.dtype)
        rows = emit.pointer(y, args[0], args[1])
        numbers = emit.pointer(other, args[2], integer(0))
        first, last, step, node, width = args[3:]
        with cgutils.for_range_slice(builder, first, last, step, intp=INT) as (
            edge,
            _,
        ):
            number = _number(emit, numbers, edge)
            before = builder.icmp_signed('>', edge, integer(0))
            before = builder.sub(edge, builder.zext(before, INT))
            before = _number(emit, numbers, before)
            follows = builder.add(before, integer(1))
            with builder.if_then(builder.icmp_signed('!=', number, follows)):
                row = emit.at(rows, builder.mul(number, node))
                emit.vectors(width, lambda at: emit.prefetch(emit.at(row, at)))
        return context.get_dummy_value()

    return signature, generate


def _number(emit: Emitter, numbers: Any, edge: Any) -> Any:
    """The node of an edge."""
    number = emit.builder.load(emit.at(numbers, edge))
    return number if number.type == INT else emit.builder.sext(number, INT)


def _start(emit: Emitter, numbers: Any, edge: Any, node: Any) -> Any:
    """Where the row of an edge's node starts."""
    return emit.builder.mul(_number(emit, numbers, edge), node)


# A vector of partial sums, and the edge to which each lane belongs.
_Partial: TypeAlias = tuple[Any, list[int]]


def _merged(emit: Emitter, partials: list[_Partial]) -> list[_Partial]:
    """Adds up partial sums until one vector is left."""
    while len(partials) > 1:
        partials = [
            _pair(emit, one, other)
            for one, other in zip(partials[::2], partials[1::2], strict=True)
        ]
    return partials


def _pair(emit: Emitter, one: _Partial, other: _Partial) -> _Partial:
    """Two vectors of partial sums as one, with half as many for each edge."""
    edges = one[1] + other[1]
    # Neighbouring lanes that belong to one edge, of which there are as many
    # for each.
    span = edges.count(edges[0])
    half, quarter = span // 2, 128 // emit.bits
    # A permutation within 128 bits costs less than one across them.
    block = len(one[1]) if span > quarter else quarter
    low = [
        source + start + lane
        for at in range(0, len(one[1]), block)
        for source in (0, len(one[1]))
        for start in range(at, at + block, span)
        for lane in range(half)
    ]
    high = [lane + half for lane in low]
    total = emit.add(
        emit.shuffle(one[0], other[0], low),
        emit.shuffle(one[0], other[0], high),
    )
    return total, [edges[lane] for lane in low]
