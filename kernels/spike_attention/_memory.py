"""Vectors and words in memory by address, for helpers of Numba kernels.

Numba counts references where an array is passed to a helper, also an inlined one: two calls each
time, more than a state row costs. Addresses are integers. The arrays must be arguments of the
kernel, which keeps them alive, and C-contiguous; nothing is checked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

from neurosim.kernels._simd import Vector


@intrinsic  # type: ignore[untyped-decorator]
def address(typing_context: Any, array: Any) -> Any:
    """address(array) -> where its first element is."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.ptrtoint(data, ir.IntType(64))

    return types.int64(array), code


def _pointer(builder: Any, kind: Any, arguments: Any, element: Any) -> Any:
    start = builder.inttoptr(arguments[0], element.as_pointer())
    return builder.bitcast(builder.gep(start, [arguments[1]]), kind.as_pointer())


def load(vector: Vector) -> Callable[..., Any]:
    """load(address, index) -> vector; the index counts elements."""

    @intrinsic  # type: ignore[untyped-decorator]
    def operation(typing_context: Any, start: Any, index: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            pointer = _pointer(builder, vector.llvm, arguments, vector.llvm.element)
            return builder.load(pointer, align=1)

        return vector(types.int64, types.int64), code

    return operation  # type: ignore[no-any-return]


def store(vector: Vector) -> Callable[..., Any]:
    """store(address, index, vector)."""

    @intrinsic  # type: ignore[untyped-decorator]
    def operation(typing_context: Any, start: Any, index: Any, value: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            pointer = _pointer(builder, vector.llvm, arguments, vector.llvm.element)
            builder.store(arguments[2], pointer, align=1)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, vector), code

    return operation  # type: ignore[no-any-return]


@intrinsic  # type: ignore[untyped-decorator]
def load_word(typing_context: Any, start: Any, index: Any) -> Any:
    """load_word(address, index) -> uint64."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word = ir.IntType(64)
        return builder.load(_pointer(builder, word, arguments, word))

    return types.uint64(types.int64, types.int64), code


@intrinsic  # type: ignore[untyped-decorator]
def load_byte(typing_context: Any, start: Any, index: Any) -> Any:
    """load_byte(address, index) -> int8."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        byte = ir.IntType(8)
        return builder.load(_pointer(builder, byte, arguments, byte))

    return types.int8(types.int64, types.int64), code


@intrinsic  # type: ignore[untyped-decorator]
def store_word(typing_context: Any, start: Any, index: Any, word: Any) -> Any:
    """store_word(address, index, word)."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.IntType(64)
        builder.store(arguments[2], _pointer(builder, kind, arguments, kind))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.uint64), code


@intrinsic  # type: ignore[untyped-decorator]
def trailing_zeros(typing_context: Any, word: Any) -> Any:
    """trailing_zeros(word) -> index of the lowest set bit of a uint64, 64 where there is none."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), code
