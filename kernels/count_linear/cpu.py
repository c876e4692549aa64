"""Products with integer weights in Numba: blocks of dot products whose sums stay in registers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.kernels._jit import compiled, inlined
from neurosim.kernels._threads import pool
from neurosim.kernels._tiles import dot_tile
from neurosim.kernels.count_linear import _halves
from neurosim.kernels.count_linear._weight import IntegerWeight

_CHUNK = 1 << 19  # bytes of rows that are kept in the second-level cache while weights pass
_PART = 64  # outputs in a thread's part are a multiple, but for the last


def count_linear(
    counts: npt.NDArray[np.int8], weight: IntegerWeight, threads: int = 1
) -> npt.NDArray[np.int32]:
    """See the package."""
    length, inputs = counts.shape
    outputs = weight.shape[0]
    out = np.empty((length, outputs), np.int32)
    if not (out.size and inputs):
        out[:] = 0
        return out
    rows = np.ascontiguousarray(counts)
    if weight.multiplier is not None:
        arranged = _halves.arranged(rows)
        call = (weight.codes, weight.multiplier, *arranged, out)
        _shared(_halves.count_products, call, length, inputs, outputs, threads)
        return out
    _shared(_count_products, (weight.codes, rows, out), length, inputs, outputs, threads)
    return out


def row_linear(x: npt.NDArray[Any], weight: Any, threads: int = 1) -> npt.NDArray[Any]:
    """See the package."""
    length, inputs = x.shape
    outputs = weight.shape[0]
    out = np.empty((length, outputs), x.dtype)
    if not (out.size and inputs):
        out[:] = 0
        return out
    rows = np.ascontiguousarray(x)
    call: tuple[Any, ...]
    function = _row_products
    if not isinstance(weight, IntegerWeight):
        call = (np.ascontiguousarray(weight), rows, _NO_SCALE, out)
    elif weight.multiplier is None:
        call = (weight.codes, rows, weight.scale, out)
    else:
        function = _halves.row_products
        call = (weight.codes, weight.multiplier, _halves.spread(rows), weight.scale, out)
    _shared(function, call, length, x.itemsize * inputs, outputs, threads)
    return out


_NO_SCALE = np.empty(0, np.float32)


def _shared(
    function: Callable[[int], Callable[..., None]],
    call: tuple[Any, ...],
    length: int,
    row_bytes: int,
    outputs: int,
    threads: int,
) -> None:
    """All rows and outputs, in chunks of rows of which 4, 2 or 1 are computed together."""
    if length == threads == 1:  # a good part of the time of a small product
        function(1)(*call, 0, 1, 0, outputs)
        return
    step = max(4, _CHUNK // max(row_bytes, 1) // 4 * 4)
    part = -(-outputs // (threads * _PART)) * _PART
    ranges = [(first, min(first + part, outputs)) for first in range(0, outputs, part)]

    def work(limits: tuple[int, int]) -> None:
        whole = length // 4 * 4
        for row in range(0, whole, step):
            function(4)(*call, row, min(row + step, whole), *limits)
        row = whole
        for height in (2, 1):
            if length - row >= height:
                function(height)(*call, row, row + height, *limits)
                row += height

    if len(ranges) == 1:
        work(ranges[0])
    else:
        list(pool(threads).map(work, ranges))


@inlined
def _offset(counts: Any, row: int) -> int:
    """128 times the sum of a row."""
    total = 0
    for i in range(counts.shape[1]):
        total += counts[row, i]
    return 128 * total


def _counts_by(height: int, width: int) -> Callable[..., None]:
    @compiled
    def products(
        codes: Any, counts: Any, out: Any,
        first_row: int, end_row: int, first: int, end: int,
    ) -> None:  # fmt: skip
        inputs, outputs = codes.shape[1], codes.shape[0]
        weights, rows, sums = codes.reshape(-1), counts.reshape(-1), out.reshape(-1)
        whole = first + (end - first) // width * width
        for o in range(first, whole, width):
            for row in range(first_row, end_row, height):
                dot_tile(
                    rows, row * inputs, inputs, weights, o * inputs, inputs, inputs,
                    sums, row * outputs + o, outputs, height, width,
                )  # fmt: skip
        for o in range(whole, end):
            for row in range(first_row, end_row):
                dot_tile(
                    rows, row * inputs, inputs, weights, o * inputs, inputs, inputs,
                    sums, row * outputs + o, outputs, 1, 1,
                )  # fmt: skip
        for row in range(first_row, end_row):
            offset = _offset(counts, row)
            for o in range(first, end):
                out[row, o] -= offset

    return products


def _rows_by(height: int, width: int) -> Callable[..., None]:
    @compiled
    def products(
        codes: Any, x: Any, scale: Any, out: Any,
        first_row: int, end_row: int, first: int, end: int,
    ) -> None:  # fmt: skip
        inputs, outputs = codes.shape[1], codes.shape[0]
        weights, rows, sums = codes.reshape(-1), x.reshape(-1), out.reshape(-1)
        whole = first + (end - first) // width * width
        for o in range(first, whole, width):
            for row in range(first_row, end_row, height):
                dot_tile(
                    rows, row * inputs, inputs, weights, o * inputs, inputs, inputs,
                    sums, row * outputs + o, outputs, height, width,
                )  # fmt: skip
        for o in range(whole, end):
            for row in range(first_row, end_row):
                dot_tile(
                    rows, row * inputs, inputs, weights, o * inputs, inputs, inputs,
                    sums, row * outputs + o, outputs, 1, 1,
                )  # fmt: skip
        if scale.size:
            for row in range(first_row, end_row):
                for o in range(first, end):
                    out[row, o] *= scale[o]

    return products


_COUNTS = {1: _counts_by(1, 4), 2: _counts_by(2, 4), 4: _counts_by(4, 4)}
_ROWS = {1: _rows_by(1, 4), 2: _rows_by(2, 4), 4: _rows_by(4, 4)}
_count_products = _COUNTS.__getitem__
_row_products = _ROWS.__getitem__
