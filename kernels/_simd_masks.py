"""Vector comparisons and choices for Numba: lane i of a vector is bit i of an integer mask.

Goes with `_simd`; the same rules for loads and widths.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from neurosim.kernels._simd import Vector


def compare(vector: Vector, predicate: str) -> Callable[..., Any]:
    """compare(a, b) -> uint64 with bit i set where "<", ">=", ... holds; signed, or ordered."""

    @intrinsic  # type: ignore[untyped-decorator]
    def operation(typing_context: Any, a: Any, b: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            floats = vector.element == "float32"
            test = builder.fcmp_ordered if floats else builder.icmp_signed
            mask = builder.bitcast(test(predicate, *arguments), ir.IntType(vector.lanes))
            return mask if vector.lanes == 64 else builder.zext(mask, ir.IntType(64))

        return types.uint64(vector, vector), code

    return operation  # type: ignore[no-any-return]


def select(vector: Vector) -> Callable[..., Any]:
    """select(mask, a, b) -> a where the bit of the uint64 is set, else b."""

    @intrinsic  # type: ignore[untyped-decorator]
    def operation(typing_context: Any, mask: Any, a: Any, b: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            bits = arguments[0]
            if vector.lanes != 64:
                bits = builder.trunc(bits, ir.IntType(vector.lanes))
            lanes = builder.bitcast(bits, ir.VectorType(ir.IntType(1), vector.lanes))
            return builder.select(lanes, arguments[1], arguments[2])

        return vector(types.uint64, vector, vector), code

    return operation  # type: ignore[no-any-return]


def splat_float(vector: Vector) -> Callable[..., Any]:
    """splat_float(value) -> a float32 in every lane."""

    @intrinsic  # type: ignore[untyped-decorator]
    def operation(typing_context: Any, value: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            undefined = ir.Constant(vector.llvm, ir.Undefined)
            one = builder.insert_element(undefined, arguments[0], ir.Constant(ir.IntType(32), 0))
            first = ir.Constant(ir.VectorType(ir.IntType(32), vector.lanes), [0] * vector.lanes)
            return builder.shuffle_vector(one, undefined, first)

        return vector(types.float32), code

    return operation  # type: ignore[no-any-return]


def unary(vector: Vector, name: str) -> Callable[..., Any]:
    """unary(a) -> vector; `name` is LLVM's: floor, fabs, ..."""

    @intrinsic  # type: ignore[untyped-decorator]
    def operation(typing_context: Any, a: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            kind = ir.FunctionType(vector.llvm, [vector.llvm])
            function = cgutils.get_or_insert_function(
                builder.module, kind, f"llvm.{name}.v{vector.lanes}f32"
            )
            return builder.call(function, arguments)

        return vector(vector), code

    return operation  # type: ignore[no-any-return]


def to_integers(floats: Vector, integers: Vector) -> Callable[..., Any]:
    """to_integers(a) -> the whole numbers of a float vector as integers, truncated."""

    @intrinsic  # type: ignore[untyped-decorator]
    def operation(typing_context: Any, a: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            wide = builder.fptosi(arguments[0], ir.VectorType(ir.IntType(32), floats.lanes))
            return builder.trunc(wide, integers.llvm)

        return integers(floats), code

    return operation  # type: ignore[no-any-return]


@intrinsic  # type: ignore[untyped-decorator]
def count_bits(typing_context: Any, word: Any) -> Any:
    """count_bits(word) -> set bits of a uint64."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.int64(types.uint64), code
