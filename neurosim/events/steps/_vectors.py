"""Vector operations of the step kernels: 64 bytes of floats, and integers with as many lanes.

Goes with `neurosim.kernels._lanes`. One source serves float32 (16 lanes) and float64 (8 lanes). No
contraction: a sum of a product is rounded twice, on every machine, as NumPy does it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from neurosim.kernels._jit import inlined
from neurosim.kernels._lanes import add, multiply, subtract
from neurosim.kernels._simd import Vector

_I32 = ir.IntType(32)
_LOG2_E = 1.4426950408889634
_LN2_HIGH, _LN2_LOW = 0.693145751953125, 1.42860682030941723212e-6  # 16 bits, and the rest


def _spread(builder: Any, vector: Vector, lane: Any) -> Any:
    undefined = ir.Constant(vector.llvm, ir.Undefined)
    one = builder.insert_element(undefined, lane, ir.Constant(_I32, 0))
    first = ir.Constant(ir.VectorType(_I32, vector.lanes), [0] * vector.lanes)
    return builder.shuffle_vector(one, undefined, first)


@intrinsic  # type: ignore[untyped-decorator]
def exclusive(typing_context: Any, a: Any, b: Any) -> Any:
    """exclusive(a, b) -> a ^ b, integers."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.xor(*arguments)

    return a(a, a), code


@intrinsic  # type: ignore[untyped-decorator]
def common(typing_context: Any, a: Any, b: Any) -> Any:
    """common(a, b) -> a & b, integers."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.and_(*arguments)

    return a(a, a), code


@intrinsic  # type: ignore[untyped-decorator]
def either(typing_context: Any, a: Any, b: Any) -> Any:
    """either(a, b) -> a | b, integers."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.or_(*arguments)

    return a(a, a), code


@intrinsic  # type: ignore[untyped-decorator]
def numbers(typing_context: Any, like: Any, value: Any) -> Any:
    """numbers(like, value) -> a float64, rounded to the type of float vector `like`, in each."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        narrow = like.element == "float32"
        lane = builder.fptrunc(arguments[1], ir.FloatType()) if narrow else arguments[1]
        return _spread(builder, like, lane)

    return like(like, types.float64), code


def _comparison(predicate: str) -> Callable[..., Any]:
    @intrinsic  # type: ignore[untyped-decorator]
    def operation(typing_context: Any, a: Any, b: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            if a.element.startswith("float"):
                test = builder.fcmp_ordered(predicate, *arguments)
            elif a.element.startswith("uint"):
                test = builder.icmp_unsigned(predicate, *arguments)
            else:
                test = builder.icmp_signed(predicate, *arguments)
            return builder.zext(builder.bitcast(test, ir.IntType(a.lanes)), ir.IntType(64))

        return types.uint64(a, a), code

    return operation  # type: ignore[no-any-return]


at_least, above, below = _comparison(">="), _comparison(">"), _comparison("<")


@intrinsic  # type: ignore[untyped-decorator]
def choose(typing_context: Any, mask: Any, a: Any, b: Any) -> Any:
    """choose(mask, a, b) -> a where the lane's bit of the uint64 is set, else b."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bits = builder.trunc(arguments[0], ir.IntType(a.lanes))
        lanes = builder.bitcast(bits, ir.VectorType(ir.IntType(1), a.lanes))
        return builder.select(lanes, arguments[1], arguments[2])

    return a(types.uint64, a, a), code


@intrinsic  # type: ignore[untyped-decorator]
def as_floats(typing_context: Any, like: Any, a: Any) -> Any:
    """as_floats(like, a) -> signed integers as floats of the type of `like`."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.sitofp(arguments[1], like.llvm)

    return like(like, a), code


@intrinsic  # type: ignore[untyped-decorator]
def _nearest(typing_context: Any, a: Any) -> Any:
    """Whole numbers, ties to even."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        width = 32 if a.element == "float32" else 64
        name = f"llvm.rint.v{a.lanes}f{width}"
        kind = ir.FunctionType(a.llvm, [a.llvm])
        function = cgutils.get_or_insert_function(builder.module, kind, name)
        return builder.call(function, arguments)

    return a(a), code


@intrinsic  # type: ignore[untyped-decorator]
def _two_to_the(typing_context: Any, a: Any) -> Any:
    """2^a of whole floats within the range of normal numbers."""
    width, bias, bits = (32, 127, 23) if a.element == "float32" else (64, 1023, 52)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.VectorType(ir.IntType(width), a.lanes)
        whole = builder.fptosi(arguments[0], kind)
        biased = builder.add(whole, ir.Constant(kind, [bias] * a.lanes))
        return builder.bitcast(builder.shl(biased, ir.Constant(kind, [bits] * a.lanes)), a.llvm)

    return a(a), code


@intrinsic  # type: ignore[untyped-decorator]
def _is_narrow(typing_context: Any, a: Any) -> Any:
    """1 for float32, 0 for float64, known when compiled."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return ir.Constant(ir.IntType(64), int(a.element == "float32"))

    return types.int64(a), code


@inlined
def exponential(x: Any) -> Any:
    """e^x: below -87 as at -87. Taylor's series on |r| <= ln(2) / 2: 7 terms, 13 for float64.

    Relative error below 2e-7 and 3e-16.
    """
    lowest = numbers(x, -87.0)
    x = choose(above(x, lowest), x, lowest)
    power = _nearest(multiply(x, numbers(x, _LOG2_E)))
    r = subtract(x, multiply(power, numbers(x, _LN2_HIGH)))
    r = subtract(r, multiply(power, numbers(x, _LN2_LOW)))
    one = numbers(x, 1.0)
    if _is_narrow(x):
        y = numbers(x, 1.0 / 5040.0)
    else:
        y = numbers(x, 1.0 / 6227020800.0)
        y = add(multiply(y, r), numbers(x, 1.0 / 479001600.0))
        y = add(multiply(y, r), numbers(x, 1.0 / 39916800.0))
        y = add(multiply(y, r), numbers(x, 1.0 / 3628800.0))
        y = add(multiply(y, r), numbers(x, 1.0 / 362880.0))
        y = add(multiply(y, r), numbers(x, 1.0 / 40320.0))
        y = add(multiply(y, r), numbers(x, 1.0 / 5040.0))
    y = add(multiply(y, r), numbers(x, 1.0 / 720.0))
    y = add(multiply(y, r), numbers(x, 1.0 / 120.0))
    y = add(multiply(y, r), numbers(x, 1.0 / 24.0))
    y = add(multiply(y, r), numbers(x, 1.0 / 6.0))
    y = add(multiply(y, r), numbers(x, 0.5))
    y = add(multiply(y, r), one)
    y = add(multiply(y, r), one)
    return multiply(y, _two_to_the(power))
