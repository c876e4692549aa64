"""Rows of a softmax for Numba: exponentials, and rows weighted by them, in a fixed order.

Unlike `dense`, whose sums may be reordered for training, the bits here are defined: 16 lanes, fused
multiply-adds as written, the same on every machine.
"""

from __future__ import annotations

import math
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from neurosim.kernels._tiles import (
    LANES,
    added_up,
    call,
    constant,
    first_lanes,
    fused,
    load,
    place,
)

_I1, _I32, _I64 = ir.IntType(1), ir.IntType(32), ir.IntType(64)
_FLOATS = {"float32": ir.FloatType(), "float64": ir.DoubleType()}
# element: LLVM's suffix; degree; ln 2 in two parts, the first with zeros at its end; mantissa bits
# and exponent bias; the lowest argument, below which the result is 0.
_EXP = {
    "float32": ("f32", 7, 0.693145751953125, 1.428606820309417e-06, 23, 127, -87.0),
    "float64": ("f64", 13, 0.6931471803691238, 1.9082149292705877e-10, 52, 1023, -708.0),
}


def _splat(builder: Any, value: Any, vector: Any) -> Any:
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(_I32, 0))
    return builder.shuffle_vector(one, one, constant(ir.VectorType(_I32, LANES), 0))


def exponential(builder: Any, x: Any, element: str) -> Any:
    """exp of a vector of numbers <= 0: a Taylor sum around the nearest multiple of ln 2."""
    code, degree, high, low, mantissa, bias, lowest = _EXP[element]
    vector = x.type
    words = ir.VectorType(_I32 if element == "float32" else _I64, LANES)
    below = builder.fcmp_ordered("<", x, constant(vector, lowest))
    x = builder.select(below, constant(vector, lowest), x)
    scaled = builder.fmul(x, constant(vector, 1 / math.log(2)))
    n = call(builder, f"llvm.rint.v{LANES}{code}", vector, scaled)
    f = fused(builder, n, constant(vector, -high), x)
    f = fused(builder, n, constant(vector, -low), f)
    total = constant(vector, 1 / math.factorial(degree))
    for power in range(degree - 1, -1, -1):
        total = fused(builder, total, f, constant(vector, 1 / math.factorial(power)))
    exponent = builder.add(builder.fptosi(n, words), constant(words, bias))
    power_of_two = builder.bitcast(builder.shl(exponent, constant(words, mantissa)), vector)
    return builder.select(below, constant(vector, 0.0), builder.fmul(total, power_of_two))


@intrinsic  # type: ignore[untyped-decorator]
def soften(typing_context: Any, scores: Any, first: Any, count: Any, scale: Any) -> Any:
    """soften(scores, first, count, scale): s -> exp((s - max) scale) in place; returns their sum.

    A flat float array, count > 0, scale of its type and positive.
    """
    element = scores.dtype.name
    vector = ir.VectorType(_FLOATS[element], LANES)
    lowest = constant(vector, float("-inf"))

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, start, size, factor = arguments
        wide = ir.Constant(_I64, LANES)
        whole, rest = builder.sdiv(size, wide), builder.srem(size, wide)
        mask = first_lanes(builder, rest, LANES)
        tail = builder.mul(whole, wide)
        partly = builder.icmp_signed(">", rest, ir.Constant(_I64, 0))

        def pointer(at: Any) -> Any:
            index = builder.add(start, at)
            return place(context, builder, signature.args[0], array, index, vector)

        top = cgutils.alloca_once(builder, vector)
        builder.store(lowest, top)

        def raise_top(value: Any) -> None:
            held = builder.load(top)
            higher = builder.fcmp_ordered(">", value, held)
            builder.store(builder.select(higher, value, held), top)

        with cgutils.for_range(builder, whole) as loop:
            raise_top(load(builder, pointer(builder.mul(loop.index, wide)), vector))
        with builder.if_then(partly):
            part = load(builder, pointer(tail), vector, mask)
            raise_top(builder.select(mask, part, lowest))
        most = builder.load(top)
        for step in (1, 2, 4, 8):
            order = [lane ^ step for lane in range(LANES)]
            other = builder.shuffle_vector(
                most, most, ir.Constant(ir.VectorType(_I32, LANES), order)
            )
            most = builder.select(builder.fcmp_ordered(">", other, most), other, most)
        factors = _splat(builder, factor, vector)
        total = cgutils.alloca_once(builder, vector)
        builder.store(ir.Constant(vector, None), total)

        def weight(value: Any) -> Any:
            return exponential(builder, builder.fmul(builder.fsub(value, most), factors), element)

        with cgutils.for_range(builder, whole) as loop:
            at = pointer(builder.mul(loop.index, wide))
            e = weight(load(builder, at, vector))
            builder.store(e, at, align=1)
            builder.store(builder.fadd(builder.load(total), e), total)
        with builder.if_then(partly):
            at = pointer(tail)
            e = weight(load(builder, at, vector, mask))
            e = builder.select(mask, e, constant(vector, 0.0))
            _store_part(builder, e, at, mask, element)
            builder.store(builder.fadd(builder.load(total), e), total)
        sums = added_up(builder, [builder.load(total)])
        return builder.extract_element(sums, ir.Constant(_I32, 0))

    return scores.dtype(scores, types.intp, types.intp, scores.dtype), code


def _store_part(builder: Any, value: Any, pointer: Any, mask: Any, element: str) -> None:
    name = f"llvm.masked.store.v{LANES}{_EXP[element][0]}.p0"
    call(builder, name, ir.VoidType(), value, pointer, ir.Constant(_I32, 1), mask)


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def mix_tile(
    typing_context: Any, weights: Any, w_first: Any, w_stride: Any, values: Any, v_first: Any,
    v_stride: Any, count: Any, out: Any, out_first: Any, out_stride: Any, lanes: Any, rows: Any,
    vectors: Any,
) -> Any:  # fmt: skip
    """out[r, d] = sum_j weights[r, j] values[j, d], j = 0, 1, ... < count; r < rows, a literal.

    d < 16 vectors (a literal) where `lanes` is 16; with vectors 1 and lanes below 16, d < lanes.
    """
    signature = types.void(
        weights, types.intp, types.intp, values, types.intp, types.intp, types.intp, out,
        types.intp, types.intp, types.intp, rows, vectors,
    )  # fmt: skip
    height, width = rows.literal_value, vectors.literal_value
    element = values.dtype.name
    vector = ir.VectorType(_FLOATS[element], LANES)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        given, w_start, w_step, rows_of, v_start, v_step, size = arguments[:7]
        result, o_start, o_step, some = arguments[7:11]
        kinds = signature.args
        mask = first_lanes(builder, some, LANES) if width == 1 else None
        cells = [cgutils.alloca_once(builder, vector) for _ in range(height * width)]
        for cell in cells:
            builder.store(ir.Constant(vector, None), cell)

        def index(first: Any, stride: Any, i: int, d: int = 0) -> Any:
            moved = builder.add(first, builder.mul(stride, ir.Constant(_I64, i)))
            return builder.add(moved, ir.Constant(_I64, LANES * d))

        with cgutils.for_range(builder, size) as loop:
            row = builder.add(v_start, builder.mul(v_step, loop.index))
            seen = [
                load(
                    builder,
                    place(context, builder, kinds[3], rows_of, index(row, v_step, 0, d), vector),
                    vector,
                    mask,
                )
                for d in range(width)
            ]
            for r in range(height):
                at = builder.add(index(w_start, w_step, r), loop.index)
                data = context.make_array(kinds[0])(context, builder, given).data
                factor = _splat(builder, builder.load(builder.gep(data, [at])), vector)
                for d, v in enumerate(seen):
                    cell = cells[r * width + d]
                    builder.store(fused(builder, factor, v, builder.load(cell)), cell)
        for r in range(height):
            for d in range(width):
                at = index(o_start, o_step, r, d)
                target = place(context, builder, kinds[7], result, at, vector)
                total = builder.load(cells[r * width + d])
                if mask is None:
                    builder.store(total, target, align=1)
                else:
                    _store_part(builder, total, target, mask, element)
        return context.get_dummy_value()

    return signature, code
