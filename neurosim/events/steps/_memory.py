"""Reads and writes at addresses: for kernels whose arrays are many, of several types, or in a loop.

A kernel typed by a network's projections would be compiled anew for every network; and Numba counts
references to arrays that are handed to helpers inside a loop, which costs more than the work. The
addresses are those of arrays that a simulation holds for as long as it lives. Nothing is checked;
an index counts elements.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

from neurosim.kernels._simd import Vector

_BLOCK_BITS = 512
_I64 = ir.IntType(64)


def _place(builder: Any, element: Any, address: Any, index: Any) -> Any:
    return builder.gep(builder.inttoptr(address, element.as_pointer()), [index])


def _reader(bits: int, signed: bool) -> Callable[..., Any]:
    @intrinsic  # type: ignore[untyped-decorator]
    def operation(typing_context: Any, address: Any, index: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            value = builder.load(_place(builder, ir.IntType(bits), *arguments))
            if bits == 64:
                return value
            return (builder.sext if signed else builder.zext)(value, _I64)

        return types.int64(types.int64, types.int64), code

    return operation  # type: ignore[no-any-return]


def _writer(bits: int, adding: bool = False) -> Callable[..., Any]:
    @intrinsic  # type: ignore[untyped-decorator]
    def operation(typing_context: Any, address: Any, index: Any, value: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            place = _place(builder, ir.IntType(bits), *arguments[:2])
            number = arguments[2]
            if bits < 64:
                number = builder.trunc(number, ir.IntType(bits))
            if adding:
                number = builder.add(builder.load(place), number)
            builder.store(number, place)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, types.int64), code

    return operation  # type: ignore[no-any-return]


uint16_at = _reader(16, signed=False)
int32_at = _reader(32, signed=True)
int64_at = _reader(64, signed=True)
put_int32, put_int64 = _writer(32), _writer(64)
add_int32, add_int64 = _writer(32, adding=True), _writer(64, adding=True)


def _float(unit: Any) -> Any:
    return ir.FloatType() if unit == types.float32 else ir.DoubleType()


@intrinsic  # type: ignore[untyped-decorator]
def float_at(typing_context: Any, unit: Any, address: Any, index: Any) -> Any:
    """float_at(unit, address, index) -> number of the type of `unit`, float32 or float64."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(_place(builder, _float(unit), *arguments[1:]))

    return unit(unit, types.int64, types.int64), code


@intrinsic  # type: ignore[untyped-decorator]
def put_float(typing_context: Any, address: Any, index: Any, value: Any) -> Any:
    """put_float(address, index, value)."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store(arguments[2], _place(builder, _float(value), *arguments[:2]))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, value), code


@intrinsic  # type: ignore[untyped-decorator]
def add_float(typing_context: Any, address: Any, index: Any, value: Any) -> Any:
    """add_float(address, index, value): add to the number there."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _place(builder, _float(value), *arguments[:2])
        builder.store(builder.fadd(builder.load(place), arguments[2]), place)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, value), code


def _load(vector: Vector, builder: Any, address: Any, index: Any) -> Any:
    place = _place(builder, vector.llvm.element, address, index)
    return builder.load(builder.bitcast(place, vector.llvm.as_pointer()), align=1)


@intrinsic  # type: ignore[untyped-decorator]
def floats_at(typing_context: Any, unit: Any, address: Any, index: Any) -> Any:
    """floats_at(unit, address, index) -> 64 bytes of floats of the type of `unit`."""
    vector = Vector(unit.name, _BLOCK_BITS // unit.bitwidth)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _load(vector, builder, *arguments[1:])

    return vector(unit, types.int64, types.int64), code


@intrinsic  # type: ignore[untyped-decorator]
def int32s_at(typing_context: Any, like: Any, address: Any, index: Any) -> Any:
    """int32s_at(like, address, index) -> as many int32 as vector `like` has lanes."""
    vector = Vector("int32", like.lanes)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _load(vector, builder, *arguments[1:])

    return vector(like, types.int64, types.int64), code


@intrinsic  # type: ignore[untyped-decorator]
def floats_like(typing_context: Any, like: Any, address: Any, index: Any) -> Any:
    """floats_like(like, address, index) -> vector of the type of `like`."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _load(like, builder, *arguments[1:])

    return like(like, types.int64, types.int64), code


def _vector_reader(element: str, lanes: int) -> Callable[..., Any]:
    vector = Vector(element, lanes)

    @intrinsic  # type: ignore[untyped-decorator]
    def operation(typing_context: Any, address: Any, index: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return _load(vector, builder, *arguments)

        return vector(types.int64, types.int64), code

    return operation  # type: ignore[no-any-return]


words_at = _vector_reader("int64", 8)
uint32s_at = _vector_reader("uint32", 16)
counts_at = _vector_reader("int32", 16)


@intrinsic  # type: ignore[untyped-decorator]
def put(typing_context: Any, address: Any, index: Any, value: Any) -> Any:
    """put(address, index, vector); the index counts elements of the vector."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _place(builder, value.llvm.element, *arguments[:2])
        builder.store(arguments[2], builder.bitcast(place, value.llvm.as_pointer()), align=1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, value), code


@intrinsic  # type: ignore[untyped-decorator]
def lanes_of(typing_context: Any, unit: Any) -> Any:
    """lanes_of(unit) -> numbers of that type in 64 bytes, known when compiled."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return ir.Constant(_I64, _BLOCK_BITS // unit.bitwidth)

    return types.int64(unit), code


@intrinsic  # type: ignore[untyped-decorator]
def size_of(typing_context: Any, unit: Any) -> Any:
    """size_of(unit) -> bytes of a number of that type, known when compiled."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return ir.Constant(_I64, unit.bitwidth // 8)

    return types.int64(unit), code


@intrinsic  # type: ignore[untyped-decorator]
def call(
    typing_context: Any,
    address: Any,
    unit: Any,
    a: Any,
    b: Any,
    c: Any,
    d: Any,
    e: Any,
    f: Any,
    g: Any,
    h: Any,
    i: Any,
) -> Any:
    """call(address, unit, a .. i) -> int64 of the kernel compiled to that address."""
    whole = types.int64

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(_I64, [_float(unit), *[_I64] * 9])
        return builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), arguments[1:])

    return whole(whole, unit, *[whole] * 9), code
