"""Arrays read as objects by compiled code."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from neurosim.kernels._entry import (
    ARRAY,
    available,
    axes_of,
    elements_of,
    entry,
    is_contiguous,
    is_plain,
    size_of,
)
from neurosim.kernels._jit import compiled


@compiled
def _seen(array: Any, axis: int) -> tuple[int, int, int, bool, bool]:
    place, plain = elements_of(array), is_plain(array)
    return place, axes_of(array), size_of(array, axis), plain, is_contiguous(array)


def test_arrays_are_read_as_they_are() -> None:
    assert available()
    seen = entry(_seen, ARRAY, types.intp)
    whole = np.zeros((3, 5, 7), np.int16)
    frozen = whole[1:]
    frozen.flags.writeable = False
    odd = np.zeros(20, np.int8)[1:9].view(np.int16)
    for array in (whole, frozen, whole[:, 1:], whole.T, whole[::-1], odd, np.zeros((0, 4))):
        flags = array.flags
        contiguous = flags.c_contiguous and flags.aligned
        for axis in range(array.ndim):
            found = seen(array, axis)
            expected = array.ctypes.data, array.ndim, array.shape[axis], flags.carray, contiguous
            assert found == expected
