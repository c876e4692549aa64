"""Compiled code called without Numba's look at its arguments: for calls of a microsecond.

Numba finds the type of every argument at every call and counts a reference to every array: a
quarter of a microsecond, and a twentieth for each array. Here arrays arrive as the objects they
are, and compiled code reads from them where their elements are and how many. The caller has checked
their types; nothing is checked again.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import compiler, datamodel
from numba.extending import NativeValue, intrinsic, models, register_model, unbox

# Words of numpy's array object (PyArrayObject_fields of its C headers), after CPython's two.
_DATA, _AXES, _SIZES, _FLAGS = 2, 3, 4, 8
_WORD = ir.IntType(64)
_CONTIGUOUS = 0x0001 | 0x0100  # in C order, and aligned
_CARRAY = _CONTIGUOUS | 0x0400  # and writable


class _Array(types.Type):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__(name="ArrayObject")


ARRAY = _Array()
"""Numba type of an array object."""


@register_model(_Array)
class _ArrayModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: datamodel.DataModelManager, kind: _Array) -> None:
        super().__init__(manager, kind, _WORD)


@unbox(_Array)  # type: ignore[untyped-decorator]
def _unboxed(kind: Any, array: Any, context: Any) -> NativeValue:
    return NativeValue(context.builder.ptrtoint(array, _WORD))


def _word(builder: Any, start: Any, place: Any) -> Any:
    words = builder.inttoptr(start, _WORD.as_pointer())
    return builder.load(builder.gep(words, [place]))


def _has(builder: Any, array: Any, flags: int) -> Any:
    wanted, found = ir.Constant(_WORD, flags), _word(builder, array, ir.Constant(_WORD, _FLAGS))
    return builder.icmp_unsigned("==", builder.and_(found, wanted), wanted)


@intrinsic  # type: ignore[untyped-decorator]
def elements_of(typing_context: Any, array: Any) -> Any:
    """elements_of(array) -> address of its first element."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _word(builder, arguments[0], ir.Constant(_WORD, _DATA))

    return types.int64(_Array()), code


@intrinsic  # type: ignore[untyped-decorator]
def axes_of(typing_context: Any, array: Any) -> Any:
    """axes_of(array) -> how many axes it has."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        axes = _word(builder, arguments[0], ir.Constant(_WORD, _AXES))
        return builder.and_(axes, ir.Constant(_WORD, 0xFFFFFFFF))

    return types.int64(_Array()), code


@intrinsic  # type: ignore[untyped-decorator]
def size_of(typing_context: Any, array: Any, axis: Any) -> Any:
    """size_of(array, axis) -> its size along that axis, which it must have."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _word(
            builder, _word(builder, arguments[0], ir.Constant(_WORD, _SIZES)), arguments[1]
        )

    return types.int64(_Array(), types.int64), code


@intrinsic  # type: ignore[untyped-decorator]
def is_plain(typing_context: Any, array: Any) -> Any:
    """is_plain(array) -> whether it is C-contiguous, aligned and writable."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _has(builder, arguments[0], _CARRAY)

    return types.boolean(_Array()), code


@intrinsic  # type: ignore[untyped-decorator]
def is_contiguous(typing_context: Any, array: Any) -> Any:
    """is_contiguous(array) -> whether it is C-contiguous and aligned."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _has(builder, arguments[0], _CONTIGUOUS)

    return types.boolean(_Array()), code


def pointer_to(kind: Any) -> Callable[..., Any]:
    """pointer_to(kind)(address) -> what `numba.carray` makes an array of."""

    @intrinsic  # type: ignore[untyped-decorator]
    def operation(typing_context: Any, address: Any) -> Any:
        pointer = types.CPointer(kind)

        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(pointer))

        return pointer(types.int64), code

    return operation  # type: ignore[no-any-return]


def available() -> bool:
    """Whether arrays lie in memory, and compiled code is found, as this file takes them to."""
    if "entry_point" not in getattr(compiler.CompileResult, "_fields", ()):
        return False
    probe = np.zeros((3, 5, 7), np.int16)
    frozen = probe[1:]
    frozen.flags.writeable = False
    return all(_as_expected(x) for x in (probe, frozen, probe[:, :, 0], probe.T))


def _as_expected(array: Any) -> bool:
    words = (ctypes.c_int64 * (_FLAGS + 1)).from_address(id(array))
    if words[_DATA] != array.ctypes.data or words[_AXES] & 0xFFFFFFFF != array.ndim:
        return False
    if bool(words[_FLAGS] & _CARRAY == _CARRAY) != array.flags.carray:
        return False
    sizes = (ctypes.c_int64 * array.ndim).from_address(words[_SIZES])
    return bool(tuple(sizes) == array.shape)


def entry(function: Any, *kinds: Any) -> Callable[..., Any]:
    """The compiled code of a `compiled` function for arguments of these types, with nothing before.

    Compiled now, or loaded from Numba's cache. Positional arguments only, of these types.
    """
    function.compile(kinds)
    return function.overloads[kinds].entry_point  # type: ignore[no-any-return]
