"""Arrays that start on a cache line: a vector load that crosses two lines costs two."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

_LINE = 64  # bytes: a cache line of x86, half one of Apple silicon, an AVX-512 register


def aligned(shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """A C-contiguous array on a cache line boundary, not initialised."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    store = np.empty(size + _LINE, np.uint8)
    start = -store.__array_interface__["data"][0] % _LINE
    return store[start : start + size].view(dtype).reshape(shape)
