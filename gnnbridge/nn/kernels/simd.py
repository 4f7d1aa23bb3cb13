"""Vector instructions for the CPU kernels, as numba intrinsics.

numba compiles loops well, but a matrix product that stays in registers, or an
exponential that is vectorised without a vendor's library, has to be spelled
out. Every function here works on one-dimensional arrays and offsets into them,
on ``LANES`` numbers at a time for float32 and half as many for float64; LLVM
maps these vectors onto whatever registers the machine has.
"""

from __future__ import annotations

import math
import struct
from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

# Twice the width of a register on machines without AVX-512 and SVE: two
# registers for each vector hide the latency of its additions.
_BITS = 512 if binding.get_host_cpu_features().get('avx512f') else 256
LANES = _BITS // 32

_INT = ir.IntType(64)
_INT32 = ir.IntType(32)
_FAST = ('reassoc', 'contract', 'nnan', 'nsz')
_index = types.int64


def lanes_of(itemsize: int) -> int:
    """Number of lanes of a vector of numbers of this size in bytes."""
    return _BITS // (8 * itemsize)


class _Emitter:
    """Writes vector instructions for one element type."""

    def __init__(self, context: Any, builder: Any, dtype: Any) -> None:
        self.context, self.builder = context, builder
        self.float = context.get_value_type(dtype)
        self.bits = dtype.bitwidth
        self.lanes = _BITS // self.bits
        self.vector = ir.VectorType(self.float, self.lanes)

    def pointer(self, array_type: Any, array: Any, offset: Any) -> Any:
        data = self.context.make_array(array_type)(
            self.context, self.builder, value=array
        ).data
        return self.builder.gep(data, [offset])

    def at(self, pointer: Any, offset: Any) -> Any:
        if isinstance(offset, int):
            offset = ir.Constant(_INT, offset)
        return self.builder.gep(pointer, [offset])

    def load(self, pointer: Any, offset: Any = 0) -> Any:
        pointer = self.builder.bitcast(
            self.at(pointer, offset), self.vector.as_pointer()
        )
        return self.builder.load(pointer, align=self.bits // 8)

    def store(self, vector: Any, pointer: Any, offset: Any = 0) -> None:
        pointer = self.builder.bitcast(
            self.at(pointer, offset), vector.type.as_pointer()
        )
        self.builder.store(vector, pointer, align=self.bits // 8)

    def constant(self, value: float) -> Any:
        return ir.Constant(self.vector, [value] * self.lanes)

    def shuffle(self, one: Any, other: Any, index: list[int]) -> Any:
        lanes = ir.Constant(ir.VectorType(_INT32, len(index)), index)
        return self.builder.shuffle_vector(one, other, lanes)

    def splat(self, scalar: Any) -> Any:
        nothing = ir.Constant(self.vector, ir.Undefined)
        first = self.builder.insert_element(
            nothing, scalar, ir.Constant(_INT32, 0)
        )
        return self.shuffle(first, nothing, [0] * self.lanes)

    def add(self, one: Any, other: Any) -> Any:
        return self.builder.fadd(one, other, flags=_FAST)

    def sub(self, one: Any, other: Any) -> Any:
        return self.builder.fsub(one, other, flags=_FAST)

    def mul(self, one: Any, other: Any) -> Any:
        return self.builder.fmul(one, other, flags=_FAST)

    def fma(self, one: Any, other: Any, total: Any) -> Any:
        return self.add(self.mul(one, other), total)

    def call(self, name: str, *arguments: Any, out: Any, fast: Any = ()) -> Any:
        """Calls an LLVM intrinsic whose last argument is a vector."""
        name = f'{name}.v{self.lanes}f{self.bits}'
        module = self.builder.module
        function = module.globals.get(name)
        if function is None:
            signature = ir.FunctionType(out, [x.type for x in arguments])
            function = ir.Function(module, signature, name)
        return self.builder.call(function, arguments, fastmath=fast)

    def sum(self, vector: Any) -> Any:
        zero = ir.Constant(self.float, 0.0)
        return self.call(
            'llvm.vector.reduce.fadd', zero, vector, out=self.float, fast=_FAST
        )

    def exp(self, x: Any) -> Any:
        """The exponential: two to a whole power times a Taylor polynomial.

        With |r| <= log(2) / 2 the first omitted term is below half a unit in
        the last place. What would be subnormal is zero.
        """
        single = self.bits == 32
        degree, smallest = (7, -87.0) if single else (13, -708.0)
        # log(2) in two parts, the first with trailing zeros, so that its
        # product with a whole number is exact (Cody and Waite, 1980).
        high = 0.693359375 if single else 0.693145751953125
        low = math.log(2.0) - high
        builder, constant = self.builder, self.constant
        under = builder.fcmp_ordered('<', x, constant(smallest))
        x = builder.select(under, constant(smallest), x)
        per_octave = constant(_round(1 / math.log(2.0), single))
        whole = self.fma(x, per_octave, constant(0.5))
        whole = self.call('llvm.floor', whole, out=self.vector)
        r = self.fma(whole, constant(-high), x)
        r = self.fma(whole, constant(_round(-low, single)), r)
        y = constant(_round(1 / math.factorial(degree), single))
        for k in reversed(range(degree)):
            y = self.fma(y, r, constant(_round(1 / math.factorial(k), single)))
        integers = ir.VectorType(ir.IntType(self.bits), self.lanes)
        bias, mantissa = (127, 23) if single else (1023, 52)
        power = builder.fptosi(whole, integers)
        power = builder.add(power, ir.Constant(integers, [bias] * self.lanes))
        power = builder.shl(
            power, ir.Constant(integers, [mantissa] * self.lanes)
        )
        y = self.mul(y, builder.bitcast(power, self.vector))
        return builder.select(under, constant(0.0), y)


def _round(value: float, single: bool) -> float:
    """A constant as the element type holds it; LLVM refuses any other."""
    if not single:
        return value
    return float(struct.unpack('f', struct.pack('f', value))[0])


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
        emit = _Emitter(context, builder, c.dtype)
        out = emit.pointer(c, args[0], args[1])
        left = emit.pointer(a, args[3], args[4])
        right = emit.pointer(b, args[7], args[8])
        outs = [
            emit.at(out, builder.mul(args[2], ir.Constant(_INT, row)))
            for row in range(4)
        ]
        lefts = [
            emit.at(left, builder.mul(args[5], ir.Constant(_INT, row)))
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
        with cgutils.for_range(builder, args[10], intp=_INT) as loop:
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
        emit = _Emitter(context, builder, x.dtype)
        source = emit.pointer(x, args[0], args[1])
        target = emit.pointer(y, args[3], args[4])
        lanes = emit.lanes
        rows = [
            emit.load(source, builder.mul(args[2], ir.Constant(_INT, row)))
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
            offset = builder.mul(args[5], ir.Constant(_INT, row))
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
        emit = _Emitter(context, builder, x.dtype)
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
        emit = _Emitter(context, builder, x.dtype)
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
        emit = _Emitter(context, builder, x.dtype)
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
        emit = _Emitter(context, builder, x.dtype)
        pointer = emit.pointer(x, args[0], args[1])
        cap = emit.splat(args[2])
        vector = builder.fdiv(emit.load(pointer), cap, flags=_FAST)
        size = emit.call('llvm.fabs', vector, out=emit.vector)
        power = emit.exp(emit.mul(size, emit.constant(-2.0)))
        one = emit.constant(1.0)
        tanh = builder.fdiv(
            emit.sub(one, power), emit.add(one, power), flags=_FAST
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
        emit = _Emitter(context, builder, x.dtype)
        integers = ir.VectorType(_INT32, emit.lanes)
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
                nothing, scalar, ir.Constant(_INT32, 0)
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
def dot4(  # type: ignore[no-untyped-def]
    typing, x, x_offset, y, y0, y1, y2, y3, length, out, out_offset
):
    """Four dot products of ``x`` with rows of ``y``, stored side by side.

    ``length`` is a multiple of the lanes.
    """
    signature = types.void(
        x, _index, y, _index, _index, _index, _index, _index, out, _index
    )

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        emit = _Emitter(context, builder, x.dtype)
        left = emit.pointer(x, args[0], args[1])
        rights = [emit.pointer(y, args[2], offset) for offset in args[3:7]]
        totals = [cgutils.alloca_once(builder, emit.vector) for _ in rights]
        for total in totals:
            builder.store(emit.constant(0.0), total)
        step = ir.Constant(_INT, emit.lanes)
        count = builder.sdiv(args[7], step)
        with cgutils.for_range(builder, count, intp=_INT) as loop:
            at = builder.mul(loop.index, step)
            factor = emit.load(left, at)
            for right, total in zip(rights, totals, strict=True):
                value = emit.fma(
                    factor, emit.load(right, at), builder.load(total)
                )
                builder.store(value, total)
        vectors = [builder.load(total) for total in totals]
        emit.store(_sums(emit, vectors), emit.pointer(out, *args[8:]))
        return context.get_dummy_value()

    return signature, generate


def _sums(emit: _Emitter, vectors: list[Any]) -> Any:
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


@intrinsic
def axpy4(  # type: ignore[no-untyped-def]
    typing, out, out_offset, weight, w_offset, y, y0, y1, y2, y3, length
):
    """``out += sum_x weight[x] * y[row x]`` for four rows of ``y``.

    ``length`` is a multiple of the lanes.
    """
    signature = types.void(
        out, _index, weight, _index, y, _index, _index, _index, _index, _index
    )

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        emit = _Emitter(context, builder, out.dtype)
        target = emit.pointer(out, args[0], args[1])
        weights = emit.pointer(weight, args[2], args[3])
        rows = [emit.pointer(y, args[4], offset) for offset in args[5:9]]
        factors = [
            emit.splat(builder.load(emit.at(weights, x))) for x in range(4)
        ]
        step = ir.Constant(_INT, emit.lanes)
        count = builder.sdiv(args[9], step)
        with cgutils.for_range(builder, count, intp=_INT) as loop:
            at = builder.mul(loop.index, step)
            total = emit.load(target, at)
            for factor, row in zip(factors, rows, strict=True):
                total = emit.fma(factor, emit.load(row, at), total)
            emit.store(total, target, at)
        return context.get_dummy_value()

    return signature, generate


@intrinsic(prefer_literal=True)
def prefetch(typing, x, offset, size):  # type: ignore[no-untyped-def]
    """Asks for ``size`` numbers (a literal) before they are needed."""
    count = size.literal_value
    signature = types.void(x, _index, size)

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        emit = _Emitter(context, builder, x.dtype)
        pointer = emit.pointer(x, args[0], args[1])
        byte = ir.IntType(8).as_pointer()
        function = builder.module.declare_intrinsic(
            'llvm.prefetch',
            [byte],
            ir.FunctionType(ir.VoidType(), [byte, _INT32, _INT32, _INT32]),
        )
        for start in range(0, count * emit.bits // 8, 64):
            line = emit.at(pointer, start * 8 // emit.bits)
            line = builder.bitcast(line, byte)
            # To be read, as soon as possible, as data.
            builder.call(function, [line, _INT32(0), _INT32(3), _INT32(1)])
        return context.get_dummy_value()

    return signature, generate
