"""Vector operations of a neuron, for any number of lanes; go with `kernels._lanes`."""

from __future__ import annotations

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils, datamodel
from numba.extending import intrinsic, models, register_model

from neurosim.kernels._simd import Vector

_I1, _I32 = ir.IntType(1), ir.IntType(32)


class Mask(types.Type):  # type: ignore[misc]
    """Numba type of one bit per lane."""

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        super().__init__(name=f"Mask({lanes})")


@register_model(Mask)
class _MaskModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: datamodel.DataModelManager, kind: Mask) -> None:
        super().__init__(manager, kind, ir.VectorType(_I1, kind.lanes))


def _floats(vector: Vector) -> bool:
    return bool(vector.element == "float32")


@intrinsic  # type: ignore[untyped-decorator]
def at_least(typing_context: Any, a: Any, b: Any) -> Any:
    """at_least(a, b) -> Mask, set where a >= b; signed, or ordered."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        test = builder.fcmp_ordered if _floats(a) else builder.icmp_signed
        return test(">=", *arguments)

    return Mask(a.lanes)(a, a), code


@intrinsic  # type: ignore[untyped-decorator]
def choose(typing_context: Any, mask: Any, a: Any, b: Any) -> Any:
    """choose(mask, a, b) -> a where the mask is set, else b."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.select(*arguments)

    return a(mask, a, a), code


@intrinsic  # type: ignore[untyped-decorator]
def store_mask(typing_context: Any, words: Any, index: Any, mask: Any) -> Any:
    """store_mask(words, index, mask): lanes as bits of uint64 words from index; little-endian."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        bits = ir.IntType(mask.lanes)
        pointer = builder.bitcast(builder.gep(data, [arguments[1]]), bits.as_pointer())
        builder.store(builder.bitcast(arguments[2], bits), pointer, align=1)
        return context.get_dummy_value()

    return types.void(words, types.intp, mask), code


@intrinsic  # type: ignore[untyped-decorator]
def floor(typing_context: Any, a: Any) -> Any:
    """floor(a) -> vector; floats."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(a.llvm, [a.llvm])
        function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.floor.v{a.lanes}f32")
        return builder.call(function, arguments)

    return a(a), code


@intrinsic  # type: ignore[untyped-decorator]
def halve(typing_context: Any, a: Any, times: Any) -> Any:
    """halve(a, times) -> integers shifted right, their sign kept."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lane = builder.trunc(arguments[1], a.llvm.element)
        undefined = ir.Constant(a.llvm, ir.Undefined)
        one = builder.insert_element(undefined, lane, ir.Constant(_I32, 0))
        first = ir.Constant(ir.VectorType(_I32, a.lanes), [0] * a.lanes)
        return builder.ashr(arguments[0], builder.shuffle_vector(one, undefined, first))

    return a(a, types.int64), code


@intrinsic  # type: ignore[untyped-decorator]
def like(typing_context: Any, a: Any, value: Any) -> Any:
    """like(a, value) -> a float32 number in every lane, as many as a has."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        undefined = ir.Constant(a.llvm, ir.Undefined)
        one = builder.insert_element(undefined, arguments[1], ir.Constant(_I32, 0))
        first = ir.Constant(ir.VectorType(_I32, a.lanes), [0] * a.lanes)
        return builder.shuffle_vector(one, undefined, first)

    return a(a, types.float32), code


@intrinsic  # type: ignore[untyped-decorator]
def as_floats(typing_context: Any, a: Any) -> Any:
    """as_floats(a) -> float32 nearest to the integers; floats as they are."""
    if _floats(a):
        return a(a), lambda context, builder, signature, arguments: arguments[0]
    vector = Vector("float32", a.lanes)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.sitofp(arguments[0], vector.llvm)

    return vector(a), code
