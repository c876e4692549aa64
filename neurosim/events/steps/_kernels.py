"""Kernels of the step loop, compiled to addresses when a network needs them.

The loop calls them through the tables, so it does not contain them: a network waits for the
compilation of what it uses only, and the loop is compiled once per type of floats.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numba

# unit (0 of the type of floats), then nine int64; each kernel says what they are
Kernel = Callable[..., int]


@functools.cache
def address(kernel: Kernel, precision: str) -> int:
    """Where the compiled kernel is; it stays there as long as the process lives."""
    unit = numba.float32 if precision == "float32" else numba.float64
    compiled = _compiled(kernel, numba.int64(unit, *[numba.int64] * 9))
    return int(compiled.address)


@functools.cache
def _compiled(kernel: Kernel, signature: numba.core.typing.Signature) -> numba.core.ccallback.CFunc:
    return numba.cfunc(signature, cache=True, error_model="numpy")(kernel)
