"""Memory for compiled functions, which do not allocate: on the stack, or kept for each thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir  # type: ignore[import-untyped]
from numba import from_dtype, types
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

from neurosim.kernels._aligned import aligned

_LINE = 64  # bytes
_KEPT, _MOST_KEPT = 1 << 16, 1 << 20  # elements: from 256 kB to 4 MB for each thread


def on_stack(dtype: npt.DTypeLike, size: int) -> Callable[[], Any]:
    """on_stack(dtype, size)() -> a compiled function's array (size,), not initialised.

    It ends with the function: it may be handed down, never returned. For a few kilobytes.
    """
    kind = from_dtype(np.dtype(dtype))
    array_type = types.Array(kind, 1, "C")

    @intrinsic  # type: ignore[untyped-decorator]
    def operation(typing_context: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            element = context.get_data_type(kind)
            with builder.goto_entry_block():  # once, also where it is asked for in a loop
                memory = builder.alloca(ir.ArrayType(element, size))
            memory.align = _LINE
            array = context.make_array(array_type)(context, builder)
            count, width = (
                context.get_constant(types.intp, x) for x in (size, np.dtype(dtype).itemsize)
            )
            data = builder.bitcast(memory, element.as_pointer())
            populate_array(array, data, [count], [width], width, meminfo=None)
            return array._getvalue()

        return array_type(), code

    return operation  # type: ignore[no-any-return]


class _Kept(threading.local):
    """The memory itself, for what looks at its size in compiled code: 0.1 us less than `kept`."""

    def __init__(self) -> None:  # of the importing thread at import, where nothing may compile
        store = np.empty(_KEPT + _LINE // 4, np.int32)
        start = -store.ctypes.data % _LINE // 4
        self.memory: npt.NDArray[np.int32] = store[start : start + _KEPT]


KEPT = _Kept()


def kept(size: int) -> npt.NDArray[np.int32]:
    """This thread's memory of at least `size` elements, not initialised, until it asks again."""
    memory = KEPT.memory
    if memory.size < size:
        memory = aligned((size,), np.int32)
        if size <= _MOST_KEPT:
            KEPT.memory = memory
    return memory
