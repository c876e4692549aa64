"""Packing with Numba: 64 counts to one word by vector comparison.

The last vector of a row reaches into the next row: what it reads there is masked, what it writes
there is written again. The last rows of an array, where that would leave it, go one by one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.kernels import _simd, _simd_masks
from neurosim.kernels._jit import compiled, inlined
from neurosim.kernels.packed._lists import count_bits, events, patterns, total
from neurosim.kernels.packed._transpose import transpose
from neurosim.kernels.packed._words import Counts, Words, new_words, plane_weights

__all__ = ["count_bits", "events", "pack", "patterns", "swapped", "total", "transpose", "unpack"]

_B = _simd.Vector("int8", 64)
_zero, _load, _store, _splat = _simd.zero(_B), _simd.load(_B), _simd.store(_B), _simd.splat(_B)
_add, _subtract, _both, _either = (_simd.binary(_B, name) for name in ("add", "sub", "and_", "or_"))
_greater, _differ = _simd_masks.compare(_B, ">"), _simd_masks.compare(_B, "!=")
_select = _simd_masks.select(_B)

_F = _simd.Vector("float32", 64)
_zero_float, _load_floats, _store_floats = _simd.zero(_F), _simd.load(_F), _simd.store(_F)
_splat_float, _add_floats, _subtract_floats = (
    _simd_masks.splat_float(_F),
    _simd.binary(_F, "fadd"),
    _simd.binary(_F, "fsub"),
)
_above, _equal, _trunc = (
    _simd_masks.compare(_F, ">"),
    _simd_masks.compare(_F, "=="),
    _simd_masks.unary(_F, "trunc"),
)
_select_floats = _simd_masks.select(_F)


def pack(
    x: Counts | npt.NDArray[np.float32], levels: int, signed: bool, code: str
) -> tuple[Words, bool]:
    """See reference.py."""
    planes = len(plane_weights(levels, signed, code))
    words = new_words((planes, x.shape[0], -(-x.shape[1] // 64)))
    if x.dtype == np.float32 and code == "bits":
        with np.errstate(invalid="ignore"):
            counts = x.astype(np.int8)
        if not np.array_equal(counts, x):
            return words, False
        return pack(counts, levels, signed, code)
    rows, columns = x.shape
    flat: Any = x.reshape(-1)
    to = words.reshape(-1)
    if not x.size:
        return words, True
    if x.dtype == np.float32:
        return words, _pack_floats(flat, rows, columns, levels, signed, to, planes)
    if planes == 1:
        return words, _pack_binary(flat, rows, columns, to)
    return words, _pack(flat, rows, columns, levels, signed, code == "bits", to, planes)


def unpack(
    words: Words, levels: int, signed: bool, code: str, columns: int, kind: type[np.number]
) -> npt.NDArray[Any]:
    """See reference.py."""
    rows = words.shape[1]
    out = np.empty((rows, columns), kind)
    weights = np.array(plane_weights(levels, signed, code), kind)
    if not out.size:
        return out
    if kind == np.float32:
        _unpack_floats(words.reshape(-1), weights, rows, columns, out.reshape(-1))
    elif weights.size == 1:
        _unpack_binary(words.reshape(-1), rows, columns, out.reshape(-1))
    else:
        _unpack(words.reshape(-1), weights, rows, columns, out.reshape(-1))
    return out


def swapped(words: Words) -> Words:
    """See reference.py."""
    blocks, first, second, width = words.shape
    out = new_words((blocks, second, first, width))
    _swap(words, out)
    return out


@inlined
def _vector_rows(rows: Any, columns: Any) -> Any:
    """Rows of which whole vectors may be read and written: not beyond the end of the array."""
    width = (columns + 63) // 64
    beyond = 64 * width - columns
    return rows if beyond == 0 else max(rows - (beyond + columns - 1) // columns, 0)


@inlined
def _tail_mask(columns: Any) -> Any:
    """Bits of the last word of a row that are channels."""
    left = columns % 64
    return ~np.uint64(0) >> np.uint64(64 - left) if left else ~np.uint64(0)


@compiled
def _pack_binary(x: Any, rows: int, columns: int, words: Any) -> Any:
    """Fill flat words; whether all counts are 0 or 1."""
    seen, mask = _zero(), _tail_mask(columns)
    width = (columns + 63) // 64
    safe = _vector_rows(rows, columns)
    for r in range(safe):
        at, to = r * columns, r * width
        for w in range(width - 1):
            value = _load(x, at + 64 * w)
            seen = _either(seen, value)
            words[to + w] = _differ(value, _zero())
        value = _select(mask, _load(x, at + 64 * width - 64), _zero())
        seen = _either(seen, value)
        words[to + width - 1] = _differ(value, _zero())
    valid = _differ(_either(seen, _splat(1)), _splat(1)) == np.uint64(0)
    return _pack_rest(x, safe, rows, columns, 1, False, False, words, 1) and valid


@inlined
def _put(value: Any, words: Any, at: Any, plane: Any, half: Any, bits: Any) -> None:
    """Words of one vector in the planes of one sign, which lie `plane` words apart."""
    if bits:
        size = _select(_greater(value, _zero()), value, _zero())
        for p in range(half):
            bit = _both(size, _splat(np.int64(1) << p))
            words[at + p * plane] = _differ(bit, _zero())
    else:
        for p in range(half):
            words[at + p * plane] = _greater(value, _splat(p))


@compiled
def _pack(
    x: Any, rows: int, columns: int, levels: int, signed: bool, bits: bool, words: Any, planes: int
) -> Any:
    """Fill flat words; whether all counts are within the levels."""
    mask, width = _tail_mask(columns), (columns + 63) // 64
    plane, half = rows * width, planes // 2 if signed else planes
    low, high = _zero(), _zero()
    safe = _vector_rows(rows, columns)
    for r in range(safe):
        for w in range(width):
            value = _load(x, r * columns + 64 * w)
            if w == width - 1:
                value = _select(mask, value, _zero())
            low = _select(_greater(low, value), value, low)
            high = _select(_greater(value, high), value, high)
            to = r * width + w
            _put(value, words, to, plane, half, bits)
            if signed:
                _put(_subtract(_zero(), value), words, to + half * plane, plane, half, bits)
    wrong = _greater(high, _splat(levels)) | _greater(_splat(-levels if signed else 0), low)
    rest = _pack_rest(x, safe, rows, columns, levels, signed, bits, words, planes)
    return rest and wrong == np.uint64(0)


@compiled
def _pack_floats(
    x: Any, rows: int, columns: int, levels: int, signed: bool, words: Any, planes: int
) -> Any:
    """Fill flat thermometer words; whether all counts are whole and within the levels."""
    mask, width = _tail_mask(columns), (columns + 63) // 64
    plane, half = rows * width, planes // 2 if signed else planes
    low, high = _zero_float(), _zero_float()
    fractions = np.uint64(0)
    safe = _vector_rows(rows, columns)
    for r in range(safe):
        for w in range(width):
            value = _load_floats(x, r * columns + 64 * w)
            if w == width - 1:
                value = _select_floats(mask, value, _zero_float())
            fractions |= ~_equal(_trunc(value), value)  # also where it is nan
            low = _select_floats(_above(low, value), value, low)
            high = _select_floats(_above(value, high), value, high)
            to = r * width + w
            for p in range(half):
                words[to + p * plane] = _above(value, _splat_float(np.float32(p)))
            if signed:
                value = _subtract_floats(_zero_float(), value)
                for p in range(half, planes):
                    words[to + p * plane] = _above(value, _splat_float(np.float32(p - half)))
    bottom = np.float32(-levels if signed else 0)
    wrong = _above(high, _splat_float(np.float32(levels))) | _above(_splat_float(bottom), low)
    rest = _pack_rest(x, safe, rows, columns, levels, signed, False, words, planes)
    return rest and (wrong | fractions) == np.uint64(0)


@compiled
def _pack_rest(
    x: Any, first: int, rows: int, columns: int, levels: int, signed: bool, bits: bool,
    words: Any, planes: int,
) -> Any:  # fmt: skip
    """The last rows, one count after another."""
    width = (columns + 63) // 64
    half = planes // 2 if signed else planes
    valid = True
    for r in range(first, rows):
        for p in range(planes):
            for w in range(width):
                word = np.uint64(0)
                for c in range(64 * w, min(64 * w + 64, columns)):
                    n = x[r * columns + c]
                    valid = valid and (n >= -levels if signed else n >= 0) and n <= levels
                    valid = valid and np.floor(n) == n
                    size = -n if p >= half else n
                    level = p % half
                    if valid and (
                        size > 0 and (np.int64(size) >> level) & 1 if bits else size > level
                    ):
                        word |= np.uint64(1) << np.uint64(c % 64)
                words[p * rows * width + r * width + w] = word
    return valid


@compiled
def _unpack_binary(words: Any, rows: int, columns: int, out: Any) -> None:
    """Flat words to bytes 0 and 1."""
    width = (columns + 63) // 64
    safe = _vector_rows(rows, columns)
    for r in range(safe):
        at, of = r * columns, r * width
        for w in range(width):
            _store(out, at + 64 * w, _select(words[of + w], _splat(1), _zero()))
    for r in range(safe, rows):
        for c in range(columns):
            out[r * columns + c] = words[r * width + c // 64] >> np.uint64(c % 64) & np.uint64(1)


@compiled
def _unpack(words: Any, weights: Any, rows: int, columns: int, out: Any) -> None:
    """Flat words of several planes to bytes."""
    width = (columns + 63) // 64
    safe = _vector_rows(rows, columns)
    for r in range(safe):
        for w in range(width):
            value = _zero()
            for p in range(weights.size):
                word = words[(p * rows + r) * width + w]
                value = _add(value, _select(word, _splat(np.int64(weights[p])), _zero()))
            _store(out, r * columns + 64 * w, value)
    _unpack_rest(words, weights, safe, rows, columns, out)


@compiled
def _unpack_floats(words: Any, weights: Any, rows: int, columns: int, out: Any) -> None:
    """Flat words to float32."""
    width = (columns + 63) // 64
    safe = _vector_rows(rows, columns)
    for r in range(safe):
        for w in range(width):
            value = _select_floats(words[r * width + w], _splat_float(weights[0]), _zero_float())
            for p in range(1, weights.size):
                word = words[(p * rows + r) * width + w]
                part = _select_floats(word, _splat_float(weights[p]), _zero_float())
                value = _add_floats(value, part)
            _store_floats(out, r * columns + 64 * w, value)
    _unpack_rest(words, weights, safe, rows, columns, out)


@compiled
def _unpack_rest(words: Any, weights: Any, first: int, rows: int, columns: int, out: Any) -> None:
    """The last rows, one count after another."""
    width = (columns + 63) // 64
    for r in range(first, rows):
        for c in range(columns):
            total = np.int64(0)
            for p in range(weights.size):
                word = words[(p * rows + r) * width + c // 64]
                if word >> np.uint64(c % 64) & np.uint64(1):
                    total += np.int64(weights[p])
            out[r * columns + c] = total


@compiled
def _swap(words: Any, out: Any) -> None:
    blocks, first, second, width = words.shape
    for b in range(blocks):
        for j in range(second):
            for i in range(first):
                row, moved = words[b, i, j], out[b, j, i]
                for w in range(width):
                    moved[w] = row[w]
