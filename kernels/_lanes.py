"""Vector operations whose type follows from the array and a literal number of lanes.

The operations of `_simd` are made for one vector type each; these take any, so that one kernel
serves several element types and widths. `lanes` must be a constant for Numba: a literal, a global,
or an int of an enclosing function (a closure over ints is cached on disk; one over operations is
compiled again in every process). A vector wider than the machine's is a block of its registers.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from neurosim.kernels._simd import Vector, pointer_to

_I8, _I32 = ir.IntType(8), ir.IntType(32)
_WIDER = {"int8": "int16", "uint8": "uint16", "int16": "int32", "uint16": "uint32"}


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def load(typing_context: Any, array: Any, index: Any, lanes: Any) -> Any:
    """load(array, index, lanes) -> vector of the array's type."""
    vector = Vector(array.dtype.name, lanes.literal_value)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = pointer_to(context, builder, vector, signature.args[0], *arguments[:2])
        return builder.load(pointer, align=1)

    return vector(array, types.intp, lanes), code


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def load_half(typing_context: Any, array: Any, index: Any, lanes: Any) -> Any:
    """load_half(array, index, lanes) -> float32 vector of the float16 bits in a 16-bit array."""
    half, vector = Vector("float16", lanes.literal_value), Vector("float32", lanes.literal_value)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = pointer_to(context, builder, half, signature.args[0], *arguments[:2])
        return builder.fpext(builder.load(pointer, align=1), vector.llvm)

    return vector(array, types.intp, lanes), code


@intrinsic  # type: ignore[untyped-decorator]
def store(typing_context: Any, array: Any, index: Any, value: Any) -> Any:
    """store(array, index, vector); the element types must have the same size."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = pointer_to(context, builder, value, signature.args[0], *arguments[:2])
        builder.store(arguments[2], pointer, align=1)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), code


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def zeros(typing_context: Any, array: Any, lanes: Any) -> Any:
    """zeros(array, lanes) -> vector of the array's type."""
    vector = Vector(array.dtype.name, lanes.literal_value)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return ir.Constant(vector.llvm, None)

    return vector(array, lanes), code


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def zero_sums(typing_context: Any, floats: Any, lanes: Any) -> Any:
    """zero_sums(floats, lanes) -> float32 vector where the literal `floats` is 1, else int32."""
    vector = Vector("float32" if floats.literal_value else "int32", lanes.literal_value)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return ir.Constant(vector.llvm, None)

    return vector(floats, lanes), code


@intrinsic  # type: ignore[untyped-decorator]
def add(typing_context: Any, a: Any, b: Any) -> Any:
    """add(a, b) -> vector; integers wrap."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return (builder.fadd if a.element.startswith("float") else builder.add)(*arguments)

    return a(a, a), code


@intrinsic  # type: ignore[untyped-decorator]
def subtract(typing_context: Any, a: Any, b: Any) -> Any:
    """subtract(a, b) -> vector; integers wrap."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return (builder.fsub if a.element.startswith("float") else builder.sub)(*arguments)

    return a(a, a), code


@intrinsic  # type: ignore[untyped-decorator]
def multiply(typing_context: Any, a: Any, b: Any) -> Any:
    """multiply(a, b) -> vector; integers wrap."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return (builder.fmul if a.element.startswith("float") else builder.mul)(*arguments)

    return a(a, a), code


@intrinsic  # type: ignore[untyped-decorator]
def divide(typing_context: Any, a: Any, b: Any) -> Any:
    """divide(a, b) -> vector; floats."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fdiv(*arguments)

    return a(a, a), code


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def add_constant(typing_context: Any, a: Any, number: Any) -> Any:
    """add_constant(a, number) -> integer vector plus a literal in every lane, wrapping."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.add(arguments[0], ir.Constant(a.llvm, [number.literal_value] * a.lanes))

    return a(a, number), code


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def both(typing_context: Any, a: Any, mask: Any) -> Any:
    """both(a, mask) -> a & mask, a literal."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.and_(arguments[0], ir.Constant(a.llvm, [mask.literal_value] * a.lanes))

    return a(a, mask), code


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def shift_right(typing_context: Any, a: Any, bits: Any) -> Any:
    """shift_right(a, bits) -> a >> bits, a literal; zeros come in whatever the sign."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.lshr(arguments[0], ir.Constant(a.llvm, [bits.literal_value] * a.lanes))

    return a(a, bits), code


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def shift_left(typing_context: Any, a: Any, bits: Any) -> Any:
    """shift_left(a, bits) -> a << bits, a literal."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.shl(arguments[0], ir.Constant(a.llvm, [bits.literal_value] * a.lanes))

    return a(a, bits), code


@intrinsic  # type: ignore[untyped-decorator]
def widen(typing_context: Any, a: Any) -> Any:
    """widen(a) -> the same integers with twice the bits."""
    wide = Vector(_WIDER[a.element], a.lanes)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        extend = builder.zext if a.element.startswith("uint") else builder.sext
        return extend(arguments[0], wide.llvm)

    return wide(a), code


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def interleave(typing_context: Any, a: Any, b: Any, block: Any) -> Any:
    """interleave(a, b, block) -> a block of a, a block of b, the next of a, ...: double lanes."""
    double = Vector(a.element, 2 * a.lanes)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        size = block.literal_value
        order = [
            lane + side * a.lanes
            for first in range(0, a.lanes, size)
            for side in range(2)
            for lane in range(first, first + size)
        ]
        mask = ir.Constant(ir.VectorType(_I32, double.lanes), order)
        return builder.shuffle_vector(arguments[0], arguments[1], mask)

    return double(a, a, block), code


@intrinsic  # type: ignore[untyped-decorator]
def splat(typing_context: Any, like: Any, value: Any) -> Any:
    """splat(like, value) -> an int64 in every lane, of the type of vector `like`; ints wrap."""
    floats = like.element.startswith("float")

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        convert = builder.sitofp if floats else builder.trunc
        lane = convert(arguments[1], like.llvm.element)
        undefined = ir.Constant(like.llvm, ir.Undefined)
        one = builder.insert_element(undefined, lane, ir.Constant(_I32, 0))
        first = ir.Constant(ir.VectorType(_I32, like.lanes), [0] * like.lanes)
        return builder.shuffle_vector(one, undefined, first)

    return like(like, types.int64), code


@intrinsic  # type: ignore[untyped-decorator]
def prefetch(typing_context: Any, array: Any, index: Any) -> Any:
    """prefetch(array, index): bring the cache line of an element close, for reading."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        pointer = builder.bitcast(builder.gep(data, [arguments[1]]), _I8.as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [_I8.as_pointer(), _I32, _I32, _I32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(function, [pointer, *(ir.Constant(_I32, hint) for hint in (0, 3, 1))])
        return context.get_dummy_value()

    return types.void(array, types.intp), code


@intrinsic  # type: ignore[untyped-decorator]
def as_signed(typing_context: Any, a: Any) -> Any:
    """as_signed(a) -> the same bits as signed integers."""
    signed = Vector(a.element.removeprefix("u"), a.lanes)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return arguments[0]

    return signed(a), code


@intrinsic  # type: ignore[untyped-decorator]
def load_like(typing_context: Any, like: Any, array: Any, index: Any) -> Any:
    """load_like(like, array, index) -> vector of the type of `like`."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = pointer_to(context, builder, like, signature.args[1], *arguments[1:])
        return builder.load(pointer, align=1)

    return like(like, array, types.intp), code


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def part(typing_context: Any, a: Any, index: Any, parts: Any) -> Any:
    """part(a, index, parts) -> one of so many equal parts of a; literals."""
    vector = Vector(a.element, a.lanes // parts.literal_value)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        first = index.literal_value * vector.lanes
        order = list(range(first, first + vector.lanes))
        mask = ir.Constant(ir.VectorType(_I32, vector.lanes), order)
        return builder.shuffle_vector(arguments[0], arguments[0], mask)

    return vector(a, index, parts), code
