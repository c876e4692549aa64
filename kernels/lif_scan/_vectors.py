"""The 64 membranes of a word as one vector, with reads and writes that stop at the end of a row."""

from __future__ import annotations

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from neurosim.kernels import _simd, _simd_masks

LANES = 64

FLOATS = _simd.Vector("float32", LANES)
BYTES = _simd.Vector("int8", LANES)

zero, load, store = _simd.zero(FLOATS), _simd.load(FLOATS), _simd.store(FLOATS)
splat = _simd_masks.splat_float(FLOATS)
add, subtract, times, over = (
    _simd.binary(FLOATS, f"f{name}") for name in ("add", "sub", "mul", "div")
)
at_least, above, below = (_simd_masks.compare(FLOATS, sign) for sign in (">=", ">", "<"))
select = _simd_masks.select(FLOATS)
floor, nearest, size = (_simd_masks.unary(FLOATS, name) for name in ("floor", "rint", "fabs"))

to_bytes = _simd_masks.to_integers(FLOATS, BYTES)


@intrinsic  # type: ignore[untyped-decorator]
def two_to_the(typing_context: Any, exponents: Any) -> Any:
    """two_to_the(n) -> 2^n of whole floats -126..127."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        integers = ir.VectorType(ir.IntType(32), LANES)
        n = builder.fptosi(arguments[0], integers)
        biased = builder.add(n, ir.Constant(integers, [127] * LANES))
        bits = builder.shl(biased, ir.Constant(integers, [23] * LANES))
        return builder.bitcast(bits, FLOATS.llvm)

    return FLOATS(FLOATS), code


def _lanes_of(builder: Any, mask: Any) -> Any:
    return builder.bitcast(mask, ir.VectorType(ir.IntType(1), LANES))


def _place(context: Any, builder: Any, vector: _simd.Vector, kind: Any, array: Any, at: Any) -> Any:
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [at]), vector.llvm.as_pointer())


@intrinsic  # type: ignore[untyped-decorator]
def load_part(typing_context: Any, array: Any, index: Any, mask: Any) -> Any:
    """load_part(array, index, mask) -> floats where the mask is set, else 0; no others are read."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _place(context, builder, FLOATS, signature.args[0], *arguments[:2])
        lanes = ir.VectorType(ir.IntType(1), LANES)
        kind = ir.FunctionType(FLOATS.llvm, [place.type, ir.IntType(32), lanes, FLOATS.llvm])
        function = cgutils.get_or_insert_function(
            builder.module, kind, f"llvm.masked.load.v{LANES}f32.p0"
        )
        align = ir.Constant(ir.IntType(32), 4)
        nothing = ir.Constant(FLOATS.llvm, None)
        return builder.call(function, [place, align, _lanes_of(builder, arguments[2]), nothing])

    return FLOATS(array, types.intp, types.uint64), code


def _store_part(vector: _simd.Vector, name: str, align: int) -> Any:
    @intrinsic  # type: ignore[untyped-decorator]
    def operation(typing_context: Any, array: Any, index: Any, value: Any, mask: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            place = _place(context, builder, vector, signature.args[0], *arguments[:2])
            lanes = ir.VectorType(ir.IntType(1), LANES)
            kind = ir.FunctionType(ir.VoidType(), [vector.llvm, place.type, ir.IntType(32), lanes])
            function = cgutils.get_or_insert_function(
                builder.module, kind, f"llvm.masked.store.v{LANES}{name}.p0"
            )
            aligned = ir.Constant(ir.IntType(32), align)
            mask = _lanes_of(builder, arguments[3])
            builder.call(function, [arguments[2], place, aligned, mask])
            return context.get_dummy_value()

        return types.void(array, types.intp, vector, types.uint64), code

    return operation


store_part = _store_part(FLOATS, "f32", 4)
store_bytes_part = _store_part(BYTES, "i8", 1)
