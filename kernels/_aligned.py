"""Arrays that start on a cache line: a vector load that crosses two lines costs two."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.kernels._entry import ARRAY, available, elements_of, entry
from neurosim.kernels._jit import compiled

_LINE = 64  # bytes: a cache line of x86, half one of Apple silicon, an AVX-512 register


def aligned(shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """A C-contiguous array on a cache line boundary, not initialised."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    store = np.empty(size + _LINE, np.uint8)
    start = -_place()(store) % _LINE
    return store[start : start + size].view(dtype).reshape(shape)


@functools.cache
def _place() -> Callable[[Any], int]:
    """Address of an array's elements; numpy's own ways to it take ten times as long."""
    if available():
        return entry(_address, ARRAY)
    return lambda array: array.__array_interface__["data"][0]


@compiled
def _address(array: Any) -> int:
    return elements_of(array)  # type: ignore[no-any-return]
