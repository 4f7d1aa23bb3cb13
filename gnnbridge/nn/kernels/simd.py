"""Vector instructions for the CPU kernels, as numba intrinsics.

numba compiles loops well, but a matrix product that stays in registers, or an
exponential that is vectorised without a vendor's library, has to be spelled
out. Every function here works on one-dimensional arrays and offsets into them,
on ``LANES`` numbers at a time for float32 and half as many for float64; LLVM
maps these vectors onto whatever registers the machine has.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from gnnbridge.nn.kernels.emitter import (
    FAST,
    INT,
    INT32,
    Emitter,
    integer,
)

_index = types.int64


@intrinsic
def gemm4(  # type: ignore[no-untyped-def]
    typing, c, c_offset, c_row, a, a_offset, a_row, a_step, b, b_offset, b_step,
    length, columns, add,
):  # fmt: skip
    """``c[4, columns] (+)= a[4, length] @ b[length, columns]``.

    ``columns`` are whole vectors, ``add`` says whether to add: up to four
    vectors of each row live in registers until they are stored once.
    """
    signature = types.void(
        c, _index, _index, a, _index, _index, _index, b, _index, _index,
        _index, _index, types.boolean,
    )  # fmt: skip

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        emit = Emitter(context, builder, c.dtype)
        out = emit.pointer(c, args[0], args[1])
        left = emit.pointer(a, args[3], args[4])
        right = emit.pointer(b, args[7], args[8])
        lefts = [
            emit.at(left, builder.mul(args[5], integer(row)))
            for row in range(4)
        ]
        add = builder.trunc(args[12], ir.IntType(1))

        def body(offset: Any, vectors: int) -> None:
            outs = [
                emit.at(
                    out,
                    builder.add(builder.mul(args[2], integer(row)), offset),
                )
                for row in range(4)
            ]
            starts = [x * emit.lanes for x in range(vectors)]
            totals = [
                [cgutils.alloca_once(builder, emit.vector) for _ in starts]
                for _ in range(4)
            ]
            for pointer, row in zip(outs, totals, strict=True):
                for start, total in zip(starts, row, strict=True):
                    first = builder.select(
                        add, emit.load(pointer, start), emit.constant(0.0)
                    )
                    builder.store(first, total)
            with cgutils.for_range(builder, args[10], intp=INT) as loop:
                line = builder.add(builder.mul(loop.index, args[9]), offset)
                line = emit.at(right, line)
                factors = [emit.load(line, start) for start in starts]
                step = builder.mul(loop.index, args[6])
                for pointer, row in zip(lefts, totals, strict=True):
                    scalar = emit.splat(builder.load(emit.at(pointer, step)))
                    for factor, total in zip(factors, row, strict=True):
                        value = emit.fma(scalar, factor, builder.load(total))
                        builder.store(value, total)
            for pointer, row in zip(outs, totals, strict=True):
                for start, total in zip(starts, row, strict=True):
                    emit.store(builder.load(total), pointer, start)

        emit.blocks(args[11], body)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def transpose(  # type: ignore[no-untyped-def]
    typing, x, x_offset, x_row, y, y_offset, y_row
):
    """``y[i, j] = x[j, i]`` for a square block of ``LANES`` rows."""
    signature = types.void(x, _index, _index, y, _index, _index)

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        emit = Emitter(context, builder, x.dtype)
        source = emit.pointer(x, args[0], args[1])
        target = emit.pointer(y, args[3], args[4])
        lanes = emit.lanes
        rows = [
            emit.load(source, builder.mul(args[2], integer(row)))
            for row in range(lanes)
        ]
        # Blocks off the diagonal change places, from halves down to pairs.
        step = lanes // 2
        while step:
            first = [
                c if not c & step else lanes + c - step for c in range(lanes)
            ]
            second = [
                c + step if not c & step else lanes + c for c in range(lanes)
            ]
            for row in range(lanes):
                if not row & step:
                    one, other = rows[row], rows[row + step]
                    rows[row] = emit.shuffle(one, other, first)
                    rows[row + step] = emit.shuffle(one, other, second)
            step //= 2
        for row, vector in enumerate(rows):
            offset = builder.mul(args[5], integer(row))
            emit.store(vector, target, offset)
        return context.get_dummy_value()

    return signature, generate


@intrinsic(prefer_literal=True)
def scaled(  # type: ignore[no-untyped-def]
    typing, x, x_offset, y, y_offset, count, factor, add
):
    """``y (+)= factor * x``, whole vectors; ``add`` is a literal, 0 or 1."""
    keep = add.literal_value
    signature = types.void(x, _index, y, _index, _index, x.dtype, add)

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        emit = Emitter(context, builder, x.dtype)
        source = emit.pointer(x, args[0], args[1])
        target = emit.pointer(y, args[2], args[3])
        factor = emit.splat(args[5])

        def body(at: Any) -> None:
            vector = emit.mul(emit.load(source, at), factor)
            if keep:
                vector = emit.add(vector, emit.load(target, at))
            emit.store(vector, target, at)

        emit.vectors(args[4], body)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def peak(typing, x, offset, count):  # type: ignore[no-untyped-def]
    """The largest of ``count`` numbers, whole vectors of them; or -inf."""
    signature = x.dtype(x, _index, _index)

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        emit = Emitter(context, builder, x.dtype)
        pointer = emit.pointer(x, args[0], args[1])
        best = cgutils.alloca_once(builder, emit.vector)
        builder.store(emit.constant(float('-inf')), best)

        def body(at: Any) -> None:
            vector, high = emit.load(pointer, at), builder.load(best)
            larger = builder.fcmp_ordered('>', vector, high)
            builder.store(builder.select(larger, vector, high), best)

        emit.vectors(args[2], body)
        return emit.call(
            'llvm.vector.reduce.fmax',
            builder.load(best),
            out=emit.float,
            fast=('nnan',),
        )

    return signature, generate


@intrinsic
def exp_sum(typing, x, offset, count, shift):  # type: ignore[no-untyped-def]
    """``x = exp(x - shift)``, whole vectors in place; returns the sum."""
    signature = x.dtype(x, _index, _index, x.dtype)

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        emit = Emitter(context, builder, x.dtype)
        pointer = emit.pointer(x, args[0], args[1])
        shift = emit.splat(args[3])
        total = cgutils.alloca_once(builder, emit.vector)
        builder.store(emit.constant(0.0), total)

        def body(at: Any) -> None:
            vector = emit.exp(emit.sub(emit.load(pointer, at), shift))
            emit.store(vector, pointer, at)
            builder.store(emit.add(builder.load(total), vector), total)

        emit.vectors(args[2], body)
        return emit.sum(builder.load(total))

    return signature, generate


@intrinsic
def fill_up(typing, x, offset, count, value):  # type: ignore[no-untyped-def]
    """``x = value`` from ``count`` numbers on, to the end of that vector."""
    signature = types.void(x, _index, _index, x.dtype)

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        emit = Emitter(context, builder, x.dtype)
        rest = builder.and_(args[2], integer(emit.lanes - 1))
        with builder.if_then(builder.icmp_signed('!=', rest, integer(0))):
            last = builder.sub(builder.add(args[1], args[2]), rest)
            pointer = emit.pointer(x, args[0], last)
            integers = ir.VectorType(INT32, emit.lanes)
            lane = ir.Constant(integers, list(range(emit.lanes)))
            nothing = ir.Constant(integers, ir.Undefined)
            many = builder.insert_element(
                nothing, builder.trunc(rest, INT32), ir.Constant(INT32, 0)
            )
            many = emit.shuffle(many, nothing, [0] * emit.lanes)
            vector = builder.select(
                builder.icmp_signed('<', lane, many),
                emit.load(pointer),
                emit.splat(args[3]),
            )
            emit.store(vector, pointer)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def soften(typing, x, offset, count, cap):  # type: ignore[no-untyped-def]
    """``x = cap * tanh(x / cap)``, whole vectors in place."""
    signature = types.void(x, _index, _index, x.dtype)

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        emit = Emitter(context, builder, x.dtype)
        pointer, cap = emit.pointer(x, *args[:2]), emit.splat(args[3])
        zero, one = emit.constant(0.0), emit.constant(1.0)

        def body(at: Any) -> None:
            vector = builder.fdiv(emit.load(pointer, at), cap, flags=FAST)
            size = emit.call('llvm.fabs', vector, out=emit.vector)
            power = emit.exp(emit.mul(size, emit.constant(-2.0)))
            tanh = builder.fdiv(
                emit.sub(one, power), emit.add(one, power), flags=FAST
            )
            negative = builder.fcmp_ordered('<', vector, zero)
            tanh = builder.select(negative, emit.sub(zero, tanh), tanh)
            emit.store(emit.mul(cap, tanh), pointer, at)

        emit.vectors(args[2], body)
        return context.get_dummy_value()

    return signature, generate


@intrinsic(prefer_literal=True)
def mask_outside(  # type: ignore[no-untyped-def]
    typing, x, x_offset, number, n_offset, start, stop, r_offset, ranges
):
    """``x = -inf`` where ``number`` lies in none of some ranges, one vector.

    ``ranges`` is a literal; ``start`` and ``stop`` hold that many integers
    from ``r_offset`` on.
    """
    count = ranges.literal_value
    signature = types.void(
        x, _index, number, _index, start, stop, _index, ranges
    )

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        emit = Emitter(context, builder, x.dtype)
        integers = ir.VectorType(INT32, emit.lanes)
        pointer = emit.pointer(x, args[0], args[1])
        numbers = builder.load(
            builder.bitcast(
                emit.pointer(number, args[2], args[3]), integers.as_pointer()
            ),
            align=4,
        )

        def bound(array_type, array, which):  # type: ignore[no-untyped-def]
            base = emit.pointer(array_type, array, args[6])
            scalar = builder.load(emit.at(base, which))
            nothing = ir.Constant(integers, ir.Undefined)
            first = builder.insert_element(
                nothing, scalar, ir.Constant(INT32, 0)
            )
            return emit.shuffle(first, nothing, [0] * emit.lanes)

        inside = None
        for which in range(count):
            low = bound(start, args[4], which)
            high = bound(stop, args[5], which)
            both = builder.and_(
                builder.icmp_signed('>=', numbers, low),
                builder.icmp_signed('<', numbers, high),
            )
            inside = both if inside is None else builder.or_(inside, both)
        vector = builder.select(
            inside, emit.load(pointer), emit.constant(float('-inf'))
        )
        emit.store(vector, pointer)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def fill(typing, x, offset, count, value):  # type: ignore[no-untyped-def]
    """``x = value``, whole vectors."""
    signature = types.void(x, _index, _index, x.dtype)

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        emit = Emitter(context, builder, x.dtype)
        pointer, value = emit.pointer(x, *args[:2]), emit.splat(args[3])
        emit.vectors(args[2], lambda at: emit.store(value, pointer, at))
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def prefetch(typing, x, offset, count):  # type: ignore[no-untyped-def]
    """Asks for ``count`` numbers, whole vectors, before they are needed."""
    signature = types.void(x, _index, _index)

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        emit = Emitter(context, builder, x.dtype)
        pointer = emit.pointer(x, *args[:2])
        emit.vectors(args[2], lambda at: emit.prefetch(emit.at(pointer, at)))
        return context.get_dummy_value()

    return signature, generate
