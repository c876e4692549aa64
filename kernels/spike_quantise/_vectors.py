"""Vector operations of the quantiser: magnitudes as integers, and rounding half away from zero."""

from __future__ import annotations

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from neurosim.kernels._simd import Vector

_BITS = {"float32": ("int32", 32), "float64": ("int64", 64)}


def _constant(vector: Any, value: float | int) -> Any:
    return ir.Constant(vector, [value] * vector.count)


def _call(builder: Any, name: str, kind: Any, code: str, *arguments: Any) -> Any:
    function = cgutils.get_or_insert_function(
        builder.module,
        ir.FunctionType(kind, [argument.type for argument in arguments]),
        f"llvm.{name}.{code}",
    )
    return builder.call(function, arguments)


def _float_code(vector: Vector) -> str:
    return f"v{vector.lanes}f{_BITS[vector.element][1]}"


@intrinsic  # type: ignore[untyped-decorator]
def magnitudes(typing_context: Any, a: Any) -> Any:
    """magnitudes(a) -> bits of |a| as signed integers: in the order of |a|, then inf, then NaN."""
    name, bits = _BITS[a.element]
    vector = Vector(name, a.lanes)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pattern = builder.bitcast(arguments[0], vector.llvm)
        return builder.and_(pattern, _constant(vector.llvm, (1 << (bits - 1)) - 1))

    return vector(a), code


@intrinsic  # type: ignore[untyped-decorator]
def larger(typing_context: Any, a: Any, b: Any) -> Any:
    """larger(a, b) -> vector of signed integers."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.select(builder.icmp_signed(">", *arguments), *arguments)

    return a(a, a), code


@intrinsic  # type: ignore[untyped-decorator]
def largest(typing_context: Any, a: Any) -> Any:
    """largest(a) -> the float whose bits are the largest of the vector's integers."""
    wide = a.element == "int64"
    kind = types.float64 if wide else types.float32

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        name = f"v{a.lanes}i{64 if wide else 32}"
        top = _call(builder, "vector.reduce.smax", a.llvm.element, name, arguments[0])
        return builder.bitcast(top, ir.DoubleType() if wide else ir.FloatType())

    return kind(a), code


@intrinsic  # type: ignore[untyped-decorator]
def rounded(typing_context: Any, a: Any, scale: Any, top: Any) -> Any:
    """rounded(a, scale, top) -> int8 nearest to a / scale, half away from zero, within +-top."""
    vector = Vector("int8", a.lanes)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        def everywhere(value: Any) -> Any:
            undefined = ir.Constant(a.llvm, ir.Undefined)
            one = builder.insert_element(undefined, value, ir.Constant(ir.IntType(32), 0))
            return builder.shuffle_vector(
                one, undefined, _constant(ir.VectorType(ir.IntType(32), a.lanes), 0)
            )

        x, code = arguments[0], _float_code(a)
        integers = ir.VectorType(ir.IntType(32), a.lanes)
        quotient = builder.fdiv(x, everywhere(arguments[1]))
        size, limit = _call(builder, "fabs", a.llvm, code, quotient), everywhere(arguments[2])
        size = builder.select(builder.fcmp_ordered("<", size, limit), size, limit)
        whole = _call(builder, "floor", a.llvm, code, size)
        up = builder.fcmp_ordered(">=", builder.fsub(size, whole), _constant(a.llvm, 0.5))
        n = builder.add(builder.fptosi(whole, integers), builder.zext(up, integers))
        below = builder.fcmp_ordered("<", x, ir.Constant(a.llvm, None))
        signed = builder.select(below, builder.neg(n), n)
        return builder.trunc(signed, vector.llvm)

    return vector(a, scale, top), code
