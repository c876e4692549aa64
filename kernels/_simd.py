"""Vector values for Numba: LLVM vector types with the few operations the spike kernels need.

Numba's loops use half the width of AVX-512 and keep accumulators in memory; these are held in
registers. LLVM splits a vector that is wider than the machine's (AVX2, NEON), so results are the
same everywhere. Loads and stores take an element index into the flat memory of a C-contiguous
array and are not checked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import datamodel
from numba.extending import intrinsic, models, register_model

_ELEMENTS = {
    "int8": ir.IntType(8),
    "int16": ir.IntType(16),
    "int32": ir.IntType(32),
    "int64": ir.IntType(64),
    "uint8": ir.IntType(8),
    "uint16": ir.IntType(16),
    "uint32": ir.IntType(32),
    "float16": ir.HalfType(),
    "float32": ir.FloatType(),
    "float64": ir.DoubleType(),
}


class Vector(types.Type):  # type: ignore[misc]
    """Numba type of a vector of `lanes` elements."""

    def __init__(self, element: str, lanes: int) -> None:
        self.llvm = ir.VectorType(_ELEMENTS[element], lanes)
        self.element, self.lanes = element, lanes
        super().__init__(name=f"Vector({element}, {lanes})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: datamodel.DataModelManager, kind: Vector) -> None:
        super().__init__(manager, kind, kind.llvm)


def pointer_to(
    context: Any, builder: Any, vector: Vector, kind: Any, array: Any, index: Any
) -> Any:
    """Address of an element of an array, as that of a vector."""
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), vector.llvm.as_pointer())


def zero(vector: Vector) -> Callable[..., Any]:
    """zero() -> vector."""

    @intrinsic  # type: ignore[untyped-decorator]
    def operation(typing_context: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return ir.Constant(vector.llvm, None)

        return vector(), code

    return operation  # type: ignore[no-any-return]


def load(vector: Vector) -> Callable[..., Any]:
    """load(array, index) -> vector."""

    @intrinsic  # type: ignore[untyped-decorator]
    def operation(typing_context: Any, array: Any, index: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            pointer = pointer_to(context, builder, vector, signature.args[0], *arguments)
            return builder.load(pointer, align=1)

        return vector(array, types.intp), code

    return operation  # type: ignore[no-any-return]


def store(vector: Vector) -> Callable[..., Any]:
    """store(array, index, vector)."""

    @intrinsic  # type: ignore[untyped-decorator]
    def operation(typing_context: Any, array: Any, index: Any, value: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            pointer = pointer_to(context, builder, vector, signature.args[0], *arguments[:2])
            builder.store(arguments[2], pointer, align=1)
            return context.get_dummy_value()

        return types.void(array, types.intp, vector), code

    return operation  # type: ignore[no-any-return]


def binary(vector: Vector, instruction: str) -> Callable[..., Any]:
    """binary(a, b) -> vector; `instruction` is LLVM's: add, sub, fadd, fsub, ..."""

    @intrinsic  # type: ignore[untyped-decorator]
    def operation(typing_context: Any, a: Any, b: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return getattr(builder, instruction)(*arguments)

        return vector(vector, vector), code

    return operation  # type: ignore[no-any-return]


def widen(narrow: Vector, wide: Vector) -> Callable[..., Any]:
    """widen(a) -> the same signed integers with more bits."""

    @intrinsic  # type: ignore[untyped-decorator]
    def operation(typing_context: Any, a: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.sext(arguments[0], wide.llvm)

        return wide(narrow), code

    return operation  # type: ignore[no-any-return]


def splat(vector: Vector) -> Callable[..., Any]:
    """splat(value) -> the low bits of an integer in every lane."""

    @intrinsic  # type: ignore[untyped-decorator]
    def operation(typing_context: Any, value: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            lane = builder.trunc(arguments[0], vector.llvm.element)
            undefined = ir.Constant(vector.llvm, ir.Undefined)
            one = builder.insert_element(undefined, lane, ir.Constant(ir.IntType(32), 0))
            first = ir.Constant(ir.VectorType(ir.IntType(32), vector.lanes), [0] * vector.lanes)
            return builder.shuffle_vector(one, undefined, first)

        return vector(types.int64), code

    return operation  # type: ignore[no-any-return]


def shift(vector: Vector, instruction: str, bits: int) -> Callable[..., Any]:
    """shift(a) -> a shifted by constant bits; `instruction` is LLVM's: shl, ashr or lshr."""

    @intrinsic  # type: ignore[untyped-decorator]
    def operation(typing_context: Any, a: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            constant = ir.Constant(vector.llvm, [bits] * vector.lanes)
            return getattr(builder, instruction)(arguments[0], constant)

        return vector(vector), code

    return operation  # type: ignore[no-any-return]


def interleave(vector: Vector, double: Vector) -> Callable[..., Any]:
    """interleave(a, b) -> a0 b0 a1 b1 ..., twice as many lanes."""

    @intrinsic  # type: ignore[untyped-decorator]
    def operation(typing_context: Any, a: Any, b: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            order = [lane for i in range(vector.lanes) for lane in (i, i + vector.lanes)]
            mask = ir.Constant(ir.VectorType(ir.IntType(32), double.lanes), order)
            return builder.shuffle_vector(arguments[0], arguments[1], mask)

        return double(vector, vector), code

    return operation  # type: ignore[no-any-return]


def equal_mask(vector: Vector) -> Callable[..., Any]:
    """equal_mask(a, b) -> uint64 with bit i set where lanes i are equal; 64 lanes."""

    @intrinsic  # type: ignore[untyped-decorator]
    def operation(typing_context: Any, a: Any, b: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            equal = builder.icmp_signed("==", *arguments)
            return builder.bitcast(equal, ir.IntType(vector.lanes))

        return types.uint64(vector, vector), code

    return operation  # type: ignore[no-any-return]


@intrinsic  # type: ignore[untyped-decorator]
def lowest_bit(typing_context: Any, word: Any) -> Any:
    """lowest_bit(word) -> index of the lowest set bit of a nonzero uint64."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), code
