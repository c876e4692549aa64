"""Where the threads of one simulation wait for each other between steps: a counter in memory.

Steps are microseconds long, too short for the locks of Python.
"""

from __future__ import annotations

import sys
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

from neurosim.kernels._jit import compiled

_SPINS = 2000  # about 10 microseconds, then the core is offered to others
_I64 = ir.IntType(64)

if sys.platform == "win32":

    @compiled
    def _offer_core() -> int:
        return 0
else:
    _offer_core = types.ExternalFunction("sched_yield", types.int32())


@intrinsic  # type: ignore[untyped-decorator]
def _add_one(typing_context: Any, address: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = builder.inttoptr(arguments[0], _I64.as_pointer())
        builder.atomic_rmw("add", place, ir.Constant(_I64, 1), "seq_cst")
        return context.get_dummy_value()

    return types.void(types.int64), code


@intrinsic  # type: ignore[untyped-decorator]
def _read(typing_context: Any, address: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = builder.inttoptr(arguments[0], _I64.as_pointer())
        return builder.load_atomic(place, "seq_cst", 8)

    return types.int64(types.int64), code


@compiled
def meet(counter: int, everyone: int) -> None:
    """Raise the counter at an address by one; return when it has been raised to `everyone`."""
    _add_one(counter)
    spins = 0
    while _read(counter) < everyone:
        spins += 1
        if spins > _SPINS:
            _offer_core()
