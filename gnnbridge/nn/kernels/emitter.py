"""Writing vector instructions of LLVM for numba."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Any

from llvmlite import binding, ir
from numba.core import cgutils

# The width of a register with AVX-512 or AVX2; two registers where they are
# narrower.
BITS = 512 if binding.get_host_cpu_features().get('avx512f') else 256
LANES = BITS // 32

INT = ir.IntType(64)
INT32 = ir.IntType(32)
# Numbers may be NaN or infinite: a NaN that comes in has to come out.
FAST = ('reassoc', 'contract', 'nsz')


def integer(value: int) -> Any:
    """A known number of the kind that counts and indexes."""
    return ir.Constant(INT, value)


def lanes_of(itemsize: int) -> int:
    """Number of lanes of a vector of numbers of this size in bytes."""
    return BITS // (8 * itemsize)


class Emitter:
    """Writes vector instructions for one element type."""

    def __init__(self, context: Any, builder: Any, dtype: Any) -> None:
        self.context, self.builder = context, builder
        self.float = context.get_value_type(dtype)
        self.bits = dtype.bitwidth
        self.lanes = BITS // self.bits
        self.vector = ir.VectorType(self.float, self.lanes)

    def pointer(self, array_type: Any, array: Any, offset: Any) -> Any:
        """The address of one number of an array."""
        data = self.context.make_array(array_type)(
            self.context, self.builder, value=array
        ).data
        return self.builder.gep(data, [offset])

    def at(self, pointer: Any, offset: Any) -> Any:
        """The address some numbers further on."""
        if isinstance(offset, int):
            offset = integer(offset)
        return self.builder.gep(pointer, [offset])

    def load(self, pointer: Any, offset: Any = 0) -> Any:
        """One vector from an address that need not be aligned."""
        pointer = self.builder.bitcast(
            self.at(pointer, offset), self.vector.as_pointer()
        )
        return self.builder.load(pointer, align=self.bits // 8)

    def store(self, vector: Any, pointer: Any, offset: Any = 0) -> None:
        """Writes one vector to an address that need not be aligned."""
        pointer = self.builder.bitcast(
            self.at(pointer, offset), vector.type.as_pointer()
        )
        self.builder.store(vector, pointer, align=self.bits // 8)

    def blocks(self, width: Any, body: Callable[[Any, int], None]) -> None:
        """Runs ``body`` on (offset, vectors): blocks of four, two and one.

        ``width`` is a multiple of the lanes.
        """
        builder = self.builder
        vectors = builder.sdiv(width, integer(self.lanes))
        fours = builder.ashr(vectors, integer(2))
        with cgutils.for_range(builder, fours, intp=INT) as loop:
            body(builder.mul(loop.index, integer(4 * self.lanes)), 4)
        done = builder.shl(fours, integer(2))
        for block in (2, 1):
            some = builder.and_(vectors, integer(block))
            with builder.if_then(builder.icmp_signed('!=', some, integer(0))):
                body(builder.mul(done, integer(self.lanes)), block)
            done = builder.add(done, some)

    def vectors(self, width: Any, body: Callable[[Any], None]) -> None:
        """Runs ``body`` on the offset of each vector of ``width`` numbers."""

        def block(offset: Any, vectors: int) -> None:
            for vector in range(vectors):
                step = integer(vector * self.lanes)
                body(self.builder.add(offset, step))

        self.blocks(width, block)

    def prefetch(self, pointer: Any) -> None:
        """Asks for the line of memory at an address."""
        byte = ir.IntType(8).as_pointer()
        function = self.builder.module.declare_intrinsic(
            'llvm.prefetch',
            [byte],
            ir.FunctionType(ir.VoidType(), [byte, INT32, INT32, INT32]),
        )
        # To be read, as soon as possible, as data.
        hints = [INT32(0), INT32(3), INT32(1)]
        self.builder.call(
            function, [self.builder.bitcast(pointer, byte), *hints]
        )

    def constant(self, value: float) -> Any:
        """A vector of one known number."""
        return ir.Constant(self.vector, [value] * self.lanes)

    def shuffle(self, one: Any, other: Any, index: list[int]) -> Any:
        """Lanes of two vectors; the second is numbered after the first."""
        lanes = ir.Constant(ir.VectorType(INT32, len(index)), index)
        return self.builder.shuffle_vector(one, other, lanes)

    def splat(self, scalar: Any) -> Any:
        """A vector of one number."""
        nothing = ir.Constant(self.vector, ir.Undefined)
        first = self.builder.insert_element(
            nothing, scalar, ir.Constant(INT32, 0)
        )
        return self.shuffle(first, nothing, [0] * self.lanes)

    def add(self, one: Any, other: Any) -> Any:
        """Sum of two vectors."""
        return self.builder.fadd(one, other, flags=FAST)

    def sub(self, one: Any, other: Any) -> Any:
        """Difference of two vectors."""
        return self.builder.fsub(one, other, flags=FAST)

    def mul(self, one: Any, other: Any) -> Any:
        """Product of two vectors, lane by lane."""
        return self.builder.fmul(one, other, flags=FAST)

    def fma(self, one: Any, other: Any, total: Any) -> Any:
        """``one * other + total``; one instruction where there is one."""
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
        """The sum of the lanes."""
        zero = ir.Constant(self.float, 0.0)
        return self.call(
            'llvm.vector.reduce.fadd', zero, vector, out=self.float, fast=FAST
        )

    def exp(self, x: Any) -> Any:
        """The exponential: two to a whole power times a Taylor polynomial.

        With |r| <= log(2) / 2 the first omitted term is below half a unit in
        the last place. What would be subnormal is zero.
        """
        single = self.bits == 32
        degree, smallest = (7, -87.0) if single else (13, -708.0)
        # log(2) in two parts, the first with trailing zeros, so that its
        # product with a whole number is exact (Cody and Waite, 1980); the
        # second has the digits that a single number cannot hold.
        high = 0.693359375 if single else 0.693145751953125
        low = -2.121944400546905827679e-4 if single else 1.428606820309417232e-6
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
