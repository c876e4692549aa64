"""Counts times plain weights with Numba: event lists by count, columns in registers.

A row's active inputs are listed by descending |count|, positive before negative. Then, for one
block of columns at a time, the listed weight rows are added in registers.

int8 weights are added two to a 16-bit lane without widening them first. With the low byte in offset
binary, lane x = 256 high + (low + 128); a = sum x and b = sum (x >> 8) = sum high are kept modulo
2^16, and sum low = a - 256 b - 128 rows. Both are exact for up to 255 rows (255 x 128 < 2^15),
after which they go to 32-bit sums. Little-endian, like every machine Numba supports.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import carray, types

from neurosim.kernels import _simd
from neurosim.kernels._entry import ARRAY, available, elements_of, entry, pointer_to, size_of
from neurosim.kernels._jit import compiled, inlined
from neurosim.kernels._scratch import kept, on_stack
from neurosim.kernels.spike_linear._types import Spikes, Sums, Weight

Integers = npt.NDArray[np.int32]

_ROWS = 255  # that fit a 16-bit sum
_TOP = 128  # largest |count| of int8
_TOKENS = 16  # that share one pass over the weights
_tops, _total, _running = (
    on_stack(np.int64, _TOKENS), on_stack(np.int32, 128), on_stack(np.float32, 64)
)  # fmt: skip

_Bytes = _simd.Vector("int8", 64)
_load_bytes, _splat_bytes = _simd.load(_Bytes), _simd.splat(_Bytes)
_equal = _simd.equal_mask(_Bytes)
_lowest_bit = _simd.lowest_bit

_Pairs, _Columns = _simd.Vector("int16", 32), _simd.Vector("int16", 64)
_zero_pairs, _splat_pairs, _load_pairs = (
    _simd.zero(_Pairs),
    _simd.splat(_Pairs),
    _simd.load(_Pairs),
)
_add_pairs, _subtract_pairs = _simd.binary(_Pairs, "add"), _simd.binary(_Pairs, "sub")
_flip = _simd.binary(_Pairs, "xor")
_high, _times_256 = _simd.shift(_Pairs, "ashr", 8), _simd.shift(_Pairs, "shl", 8)
_interleave = _simd.interleave(_Pairs, _Columns)
_Sums = _simd.Vector("int32", 64)
_widen = _simd.widen(_Columns, _Sums)
_load_sums, _store_sums, _add_sums = (
    _simd.load(_Sums),
    _simd.store(_Sums),
    _simd.binary(_Sums, "add"),
)

_Floats = _simd.Vector("float32", 16)
_zero_floats, _load_floats = _simd.zero(_Floats), _simd.load(_Floats)
_store_floats = _simd.store(_Floats)
_add_floats, _subtract_floats = _simd.binary(_Floats, "fadd"), _simd.binary(_Floats, "fsub")
_bytes_at, _integers_at, _floats_at = (
    pointer_to(kind) for kind in (types.int8, types.int32, types.float32)
)


def counts_times(spikes: Spikes, weight: Weight, out: Sums) -> None:
    """out (L, O) = counts (L, I) times weights (I, O), all C-contiguous."""
    rows, inputs = spikes.shape
    lists = kept(min(rows, _TOKENS) * (inputs + 2 * _TOP))
    _fill(weight.dtype.itemsize == 1)(spikes, weight, lists, out)


@functools.cache
def _fill(integer: bool) -> Callable[..., None]:
    if not available():
        return add_integer if integer else add_float
    return entry(_add_integer if integer else _add_float, ARRAY, ARRAY, ARRAY, ARRAY)


@compiled
def events(counts: Any, index: Integers, ends: Integers) -> np.int64:
    """List the active inputs of one row; returns the largest |count|.

    Args:
        counts: int8 (I,).
        index: receives the inputs (I,): |count| = top first, positive before negative, ascending.
        ends: receives the end in `index` of each class (2 * 128,): top, -top, top - 1, ...
    """
    inputs = counts.shape[0]
    top = np.int64(0)
    for i in range(inputs):
        top = max(top, abs(np.int64(counts[i])))  # widened first: -(-128) is no int8
    words = inputs - inputs % 64
    found = 0
    for level in range(top, 0, -1):
        for sign in range(2):
            value = level if sign == 0 else -level
            if value < _TOP:  # an int8 is never +128, and -128 would be taken for it
                wanted = _splat_bytes(value)
                for start in range(0, words, 64):
                    mask = _equal(_load_bytes(counts, start), wanted)
                    while mask != np.uint64(0):
                        index[found] = start + _lowest_bit(mask)
                        found += 1
                        mask &= mask - np.uint64(1)
                for i in range(words, inputs):
                    if counts[i] == value:
                        index[found] = i
                        found += 1
            ends[2 * (top - level) + sign] = found
    return top


@inlined
def _finish(low: Any, high: Any, bias: Any, total: Integers, at: int) -> None:
    """total[at : at + 64] += the sums held in one pair of accumulators."""
    even = _subtract_pairs(_subtract_pairs(low, _times_256(high)), bias)
    wide = _widen(_interleave(even, high))
    _store_sums(total, at, _add_sums(_load_sums(total, at), wide))


@inlined
def _block_of_64(
    weight: Any,
    columns: int,
    column: int,
    index: Integers,
    start: int,
    middle: int,
    stop: int,
    total: Integers,
) -> None:
    """total[0:64] += rows index[start:middle] - rows index[middle:stop], at most 255 of them."""
    offset = _splat_pairs(128)
    low, high = _zero_pairs(), _zero_pairs()
    for event in range(start, middle):
        x = _flip(_load_pairs(weight, np.int64(index[event]) * columns + column), offset)
        low, high = _add_pairs(low, x), _add_pairs(high, _high(x))
    for event in range(middle, stop):
        x = _flip(_load_pairs(weight, np.int64(index[event]) * columns + column), offset)
        low, high = _subtract_pairs(low, x), _subtract_pairs(high, _high(x))
    bias = _splat_pairs(128 * (2 * middle - start - stop))
    _finish(low, high, bias, total, 0)


@inlined
def _block_of_128(
    weight: Any,
    columns: int,
    column: int,
    index: Integers,
    start: int,
    middle: int,
    stop: int,
    total: Integers,
) -> None:
    """The same for total[0:128]."""
    offset = _splat_pairs(128)
    low_0, high_0, low_1, high_1 = _zero_pairs(), _zero_pairs(), _zero_pairs(), _zero_pairs()
    for event in range(start, middle):
        at = np.int64(index[event]) * columns + column
        x = _flip(_load_pairs(weight, at), offset)
        y = _flip(_load_pairs(weight, at + 64), offset)
        low_0, high_0 = _add_pairs(low_0, x), _add_pairs(high_0, _high(x))
        low_1, high_1 = _add_pairs(low_1, y), _add_pairs(high_1, _high(y))
    for event in range(middle, stop):
        at = np.int64(index[event]) * columns + column
        x = _flip(_load_pairs(weight, at), offset)
        y = _flip(_load_pairs(weight, at + 64), offset)
        low_0, high_0 = _subtract_pairs(low_0, x), _subtract_pairs(high_0, _high(x))
        low_1, high_1 = _subtract_pairs(low_1, y), _subtract_pairs(high_1, _high(y))
    bias = _splat_pairs(128 * (2 * middle - start - stop))
    _finish(low_0, high_0, bias, total, 0)
    _finish(low_1, high_1, bias, total, 64)


@inlined
def _integer_row(
    flat: Any,
    columns: int,
    column: int,
    width: int,
    index: Integers,
    ends: Integers,
    top: int,
    total: Integers,
    out: Integers,
) -> None:
    """out[0:width] = one row's sums of the columns from `column`; width 64 or 128."""
    total[:width] = 0
    out[:width] = 0
    start = 0
    for level in range(top):
        middle, stop = ends[2 * level], ends[2 * level + 1]
        for first in range(start, stop, _ROWS):
            last = min(first + _ROWS, stop)
            between = min(max(middle, first), last)
            if width == 128:
                _block_of_128(flat, columns, column, index, first, between, last, total)
            else:
                _block_of_64(flat, columns, column, index, first, between, last, total)
        start = stop
        for j in range(width):
            out[j] += total[j]


@inlined
def _float_row(
    flat: Any, columns: int, column: int, index: Integers, ends: Integers, top: int, out: Any
) -> None:
    """out[0:64] = one row's sums of the 64 columns from `column`."""
    a, b, c, d = _zero_floats(), _zero_floats(), _zero_floats(), _zero_floats()
    out[:64] = 0
    start = 0
    for level in range(top):
        middle, stop = ends[2 * level], ends[2 * level + 1]
        for event in range(start, middle):
            at = np.int64(index[event]) * columns + column
            a, b = (
                _add_floats(a, _load_floats(flat, at)),
                _add_floats(b, _load_floats(flat, at + 16)),
            )
            c = _add_floats(c, _load_floats(flat, at + 32))
            d = _add_floats(d, _load_floats(flat, at + 48))
        for event in range(middle, stop):
            at = np.int64(index[event]) * columns + column
            a = _subtract_floats(a, _load_floats(flat, at))
            b = _subtract_floats(b, _load_floats(flat, at + 16))
            c = _subtract_floats(c, _load_floats(flat, at + 32))
            d = _subtract_floats(d, _load_floats(flat, at + 48))
        start = stop
        _store_floats(out, 0, _add_floats(_load_floats(out, 0), a))
        _store_floats(out, 16, _add_floats(_load_floats(out, 16), b))
        _store_floats(out, 32, _add_floats(_load_floats(out, 32), c))
        _store_floats(out, 48, _add_floats(_load_floats(out, 48), d))


@compiled
def _narrow_row(
    weight: Any, index: Integers, ends: Integers, top: int, running: Any, out: Any
) -> None:
    """out = one row's sums, for matrices of fewer than 64 columns."""
    running[:] = 0
    out[:] = 0
    start = 0
    for level in range(top):
        middle, stop = ends[2 * level], ends[2 * level + 1]
        for event in range(start, middle):
            line = weight[index[event]]
            for j in range(out.shape[0]):
                running[j] += line[j]
        for event in range(middle, stop):
            line = weight[index[event]]
            for j in range(out.shape[0]):
                running[j] -= line[j]
        start = stop
        for j in range(out.shape[0]):
            out[j] += running[j]


@inlined
def _lists_of(lists: Integers, inputs: int, row: int) -> Any:
    """Where `events` puts the two lists of a row."""
    start = row * (inputs + 2 * _TOP)
    ends = start + inputs
    return lists[start:ends], lists[ends : ends + 2 * _TOP]


@compiled
def add_integer(spikes: Spikes, weight: Any, lists: Integers, out: Any) -> None:
    """out (L, O) int32 = spikes (L, I) int8 times weight (I, O) int8; C-contiguous, unchecked.

    `lists` is scratch for I + 256 integers of each of at most 16 rows.
    """
    inputs, columns = weight.shape
    flat = weight.reshape(-1)
    tops, total = _tops(), _total()
    for first in range(0, spikes.shape[0], _TOKENS):
        rows = min(_TOKENS, spikes.shape[0] - first)
        for row in range(rows):
            index, ends = _lists_of(lists, inputs, row)
            tops[row] = events(spikes[first + row], index, ends)
        if columns < 64:
            for row in range(rows):
                index, ends = _lists_of(lists, inputs, row)
                _narrow_row(weight, index, ends, tops[row], total[:columns], out[first + row])
        else:
            for start in range(0, columns, 128):  # the last block may overlap the one before it
                width = 128 if start + 128 <= columns else 64
                for column in range(start, min(start + 128, columns), width):
                    column = min(column, columns - width)
                    for row in range(rows):
                        index, ends = _lists_of(lists, inputs, row)
                        _integer_row(
                            flat,
                            columns,
                            column,
                            width,
                            index,
                            ends,
                            tops[row],
                            total,
                            out[first + row, column : column + width],
                        )


@compiled
def add_float(spikes: Spikes, weight: Any, lists: Integers, out: Any) -> None:
    """out (L, O) float32 = spikes (L, I) int8 times weight (I, O) float32; as `add_integer`."""
    inputs, columns = weight.shape
    flat = weight.reshape(-1)
    tops, running = _tops(), _running()
    for first in range(0, spikes.shape[0], _TOKENS):
        rows = min(_TOKENS, spikes.shape[0] - first)
        for row in range(rows):
            index, ends = _lists_of(lists, inputs, row)
            tops[row] = events(spikes[first + row], index, ends)
        if columns < 64:
            for row in range(rows):
                index, ends = _lists_of(lists, inputs, row)
                _narrow_row(weight, index, ends, tops[row], running[:columns], out[first + row])
        else:
            for start in range(0, columns, 64):
                column = min(start, columns - 64)
                for row in range(rows):
                    index, ends = _lists_of(lists, inputs, row)
                    _float_row(
                        flat,
                        columns,
                        column,
                        index,
                        ends,
                        tops[row],
                        out[first + row, column : column + 64],
                    )


@compiled
def _add_integer(spikes_: Any, weight_: Any, lists_: Any, out_: Any) -> None:
    """`add_integer` of array objects."""
    rows, inputs, columns = size_of(spikes_, 0), size_of(weight_, 0), size_of(weight_, 1)
    add_integer(
        carray(_bytes_at(elements_of(spikes_)), (rows, inputs)),
        carray(_bytes_at(elements_of(weight_)), (inputs, columns)),
        carray(_integers_at(elements_of(lists_)), (size_of(lists_, 0),)),
        carray(_integers_at(elements_of(out_)), (rows, columns)),
    )


@compiled
def _add_float(spikes_: Any, weight_: Any, lists_: Any, out_: Any) -> None:
    """`add_float` of array objects."""
    rows, inputs, columns = size_of(spikes_, 0), size_of(weight_, 0), size_of(weight_, 1)
    add_float(
        carray(_bytes_at(elements_of(spikes_)), (rows, inputs)),
        carray(_floats_at(elements_of(weight_)), (inputs, columns)),
        carray(_integers_at(elements_of(lists_)), (size_of(lists_, 0),)),
        carray(_floats_at(elements_of(out_)), (rows, columns)),
    )
