"""The one way this package compiles: Numba, cached on disk, without the interpreter lock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compile on first call, typed as the Python function.

    No fastmath: float sums keep the order they are written in. Arguments are not checked.
    """
    return cast(Function, numba.njit(cache=True, nogil=True)(function))


def inlined(function: Function) -> Function:
    """Like `compiled`, and put into its callers by LLVM: for helpers that work on vector values."""
    return cast(Function, numba.njit(cache=True, nogil=True, forceinline=True)(function))


def compiled_loosely(function: Function) -> Function:
    """Like `compiled`, but float sums may be reordered and contracted, so that they vectorise.

    For training only, where results are compared with tolerances.
    """
    flags = {"contract", "reassoc", "nsz", "arcp"}
    return cast(Function, numba.njit(cache=True, nogil=True, fastmath=flags)(function))
