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

from gnnbridge.nn.kernels.emitter import FAST, INT, INT32, Emitter

_index = types.int64


@intrinsic(prefer_literal=True)
def gemm4(  # type: ignore[no-untyped-def]
    typing, c, c_offset, c_row, a, a_offset, a_row, a_step, b, b_offset, b_step,
    length, width, add,
):  # fmt: skip
    """``c[4, width * lanes] (+)= a[4, length] @ b[length, width * lanes]``.

    ``width`` (vectors) and ``add`` (0 or 1) are literals: the product lives in
    ``4 * width`` registers until it is stored once.
    """
    vectors, keep = width.literal_value, add.literal_value
    signature = types.void(
        c, _index, _index, a, _index, _index, _index, b, _index, _index,
        _index, width, add,
    )  # fmt: skip

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        emit = Emitter(context, builder, c.dtype)
        out = emit.pointer(c, args[0], args[1])
        left = emit.pointer(a, args[3], args[4])
        right = emit.pointer(b, args[7], args[8])
        outs = [
            emit.at(out, builder.mul(args[2], ir.Constant(INT, row)))
            for row in range(4)
        ]
        lefts = [
            emit.at(left, builder.mul(args[5], ir.Constant(INT, row)))
            for row in range(4)
        ]
        starts = [x * emit.lanes for x in range(vectors)]
        totals = [
            [cgutils.alloca_once(builder, emit.vector) for _ in starts]
            for _ in range(4)
        ]
        for pointer, row in zip(outs, totals, strict=True):
            for start, total in zip(starts, row, strict=True):
                first = emit.load(pointer, start) if keep else None
                builder.store(first or emit.constant(0.0), total)
        with cgutils.for_range(builder, args[10], intp=INT) as loop:
            line = emit.at(right, builder.mul(loop.index, args[9]))
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
            emit.load(source, builder.mul(args[2], ir.Constant(INT, row)))
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
            offset = builder.mul(args[5], ir.Constant(INT, row))
            emit.store(vector, target, offset)
        return context.get_dummy_value()

    return signature, generate


@intrinsic(prefer_literal=True)
def scaled(  # type: ignore[no-untyped-def]
    typing, x, x_offset, y, y_offset, factor, add
):
    """``y (+)= factor * x`` for one vector; ``add`` is a literal, 0 or 1."""
    keep = add.literal_value
    signature = types.void(x, _index, y, _index, x.dtype, add)

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        emit = Emitter(context, builder, x.dtype)
        vector = emit.load(emit.pointer(x, args[0], args[1]))
        vector = emit.mul(vector, emit.splat(args[4]))
        target = emit.pointer(y, args[2], args[3])
        if keep:
            vector = emit.add(vector, emit.load(target))
        emit.store(vector, target)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def largest(typing, x, offset):  # type: ignore[no-untyped-def]
    """The largest number of one vector, which holds no NaN."""
    signature = x.dtype(x, _index)

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        emit = Emitter(context, builder, x.dtype)
        vector = emit.load(emit.pointer(x, *args))
        return emit.call(
            'llvm.vector.reduce.fmax', vector, out=emit.float, fast=('nnan',)
        )

    return signature, generate


@intrinsic
def exp_sum(typing, x, offset, shift):  # type: ignore[no-untyped-def]
    """``x = exp(x - shift)`` for one vector, in place; returns its sum."""
    signature = x.dtype(x, _index, x.dtype)

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        emit = Emitter(context, builder, x.dtype)
        pointer = emit.pointer(x, args[0], args[1])
        vector = emit.sub(emit.load(pointer), emit.splat(args[2]))
        vector = emit.exp(vector)
        emit.store(vector, pointer)
        return emit.sum(vector)

    return signature, generate


@intrinsic
def soften(typing, x, offset, cap):  # type: ignore[no-untyped-def]
    """``x = cap * tanh(x / cap)`` for one vector, in place."""
    signature = types.void(x, _index, x.dtype)

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        emit = Emitter(context, builder, x.dtype)
        pointer = emit.pointer(x, args[0], args[1])
        cap = emit.splat(args[2])
        vector = builder.fdiv(emit.load(pointer), cap, flags=FAST)
        size = emit.call('llvm.fabs', vector, out=emit.vector)
        power = emit.exp(emit.mul(size, emit.constant(-2.0)))
        one = emit.constant(1.0)
        tanh = builder.fdiv(
            emit.sub(one, power), emit.add(one, power), flags=FAST
        )
        negative = builder.fcmp_ordered('<', vector, emit.constant(0.0))
        tanh = builder.select(
            negative, emit.sub(emit.constant(0.0), tanh), tanh
        )
        emit.store(emit.mul(cap, tanh), pointer)
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


@intrinsic(prefer_literal=True)
def dot4(  # type: ignore[no-untyped-def]
    typing, x, x_offset, y, y0, y1, y2, y3, length, vectors, out, out_offset
):
    """Four dot products of ``x`` with rows of ``y``, stored side by side.

    ``length`` is a multiple of the lanes. If ``vectors``, a literal, is not
    zero, it is their number, and the loop over them is written out.
    """
    known = vectors.literal_value
    signature = types.void(
        x, _index, y, _index, _index, _index, _index, _index, vectors, out,
        _index,
    )  # fmt: skip

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        emit = Emitter(context, builder, x.dtype)
        left = emit.pointer(x, args[0], args[1])
        rights = [emit.pointer(y, args[2], offset) for offset in args[3:7]]
        totals = [cgutils.alloca_once(builder, emit.vector) for _ in rights]
        for total in totals:
            builder.store(emit.constant(0.0), total)

        def add(at):  # type: ignore[no-untyped-def]
            factor = emit.load(left, at)
            for right, total in zip(rights, totals, strict=True):
                value = emit.fma(
                    factor, emit.load(right, at), builder.load(total)
                )
                builder.store(value, total)

        _for_vectors(emit, add, args[7], known)
        vectors = [builder.load(total) for total in totals]
        emit.store(_sums(emit, vectors), emit.pointer(out, *args[9:]))
        return context.get_dummy_value()

    return signature, generate


def _for_vectors(emit, body, length, known):  # type: ignore[no-untyped-def]
    """Runs ``body`` at the offset of each vector of ``length`` numbers."""
    if known:
        for index in range(known):
            body(index * emit.lanes)
        return
    step = ir.Constant(INT, emit.lanes)
    count = emit.builder.sdiv(length, step)
    with cgutils.for_range(emit.builder, count, intp=INT) as loop:
        body(emit.builder.mul(loop.index, step))


def _sums(emit: Emitter, vectors: list[Any]) -> Any:
    """The sums of four vectors as one vector of four."""
    while vectors[0].type.count > 4:
        half = vectors[0].type.count // 2
        low, high = list(range(half)), list(range(half, 2 * half))
        vectors = [
            emit.add(emit.shuffle(x, x, low), emit.shuffle(x, x, high))
            for x in vectors
        ]
    even, odd = [0, 4, 2, 6], [1, 5, 3, 7]
    pairs = [
        emit.add(emit.shuffle(x, y, even), emit.shuffle(x, y, odd))
        for x, y in (vectors[:2], vectors[2:])
    ]
    one, other = pairs
    return emit.add(
        emit.shuffle(one, other, [0, 1, 4, 5]),
        emit.shuffle(one, other, [2, 3, 6, 7]),
    )


@intrinsic(prefer_literal=True)
def axpy4(  # type: ignore[no-untyped-def]
    typing, out, out_offset, weight, w_offset, y, y0, y1, y2, y3, length,
    vectors,
):  # fmt: skip
    """``out += sum_x weight[x] * y[row x]`` for four rows of ``y``.

    ``length`` and ``vectors`` are as in :func:`dot4`.
    """
    known = vectors.literal_value
    signature = types.void(
        out, _index, weight, _index, y, _index, _index, _index, _index, _index,
        vectors,
    )  # fmt: skip

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        emit = Emitter(context, builder, out.dtype)
        target = emit.pointer(out, args[0], args[1])
        weights = emit.pointer(weight, args[2], args[3])
        rows = [emit.pointer(y, args[4], offset) for offset in args[5:9]]
        factors = [
            emit.splat(builder.load(emit.at(weights, x))) for x in range(4)
        ]

        def add(at):  # type: ignore[no-untyped-def]
            total = emit.load(target, at)
            for factor, row in zip(factors, rows, strict=True):
                total = emit.fma(factor, emit.load(row, at), total)
            emit.store(total, target, at)

        _for_vectors(emit, add, args[9], known)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def fill(typing, x, offset, value):  # type: ignore[no-untyped-def]
    """``x = value`` for one vector."""
    signature = types.void(x, _index, x.dtype)

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        emit = Emitter(context, builder, x.dtype)
        emit.store(emit.splat(args[2]), emit.pointer(x, args[0], args[1]))
        return context.get_dummy_value()

    return signature, generate


@intrinsic(prefer_literal=True)
def prefetch(typing, x, offset, size):  # type: ignore[no-untyped-def]
    """Asks for ``size`` numbers (a literal) before they are needed."""
    count = size.literal_value
    signature = types.void(x, _index, size)

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        emit = Emitter(context, builder, x.dtype)
        pointer = emit.pointer(x, args[0], args[1])
        byte = ir.IntType(8).as_pointer()
        function = builder.module.declare_intrinsic(
            'llvm.prefetch',
            [byte],
            ir.FunctionType(ir.VoidType(), [byte, INT32, INT32, INT32]),
        )
        for start in range(0, count * emit.bits // 8, 64):
            line = emit.at(pointer, start * 8 // emit.bits)
            line = builder.bitcast(line, byte)
            # To be read, as soon as possible, as data.
            builder.call(function, [line, INT32(0), INT32(3), INT32(1)])
        return context.get_dummy_value()

    return signature, generate
