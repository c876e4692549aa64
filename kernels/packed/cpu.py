"""Packing with Numba: 64 counts to one word by vector comparison."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.kernels import _simd, _simd_masks
from neurosim.kernels._jit import compiled
from neurosim.kernels.packed._lists import count_bits, events, patterns
from neurosim.kernels.packed._words import Counts, Words, new_words, plane_weights

__all__ = ["count_bits", "events", "pack", "patterns", "swapped", "transpose", "unpack"]

Pointers = npt.NDArray[np.int64]

_Bytes = _simd.Vector("int8", 64)
_zero, _load, _store = _simd.zero(_Bytes), _simd.load(_Bytes), _simd.store(_Bytes)
_splat, _select = _simd.splat(_Bytes), _simd_masks.select(_Bytes)
_add, _subtract, _both = (_simd.binary(_Bytes, name) for name in ("add", "sub", "and_"))
_greater, _differ = _simd_masks.compare(_Bytes, ">"), _simd_masks.compare(_Bytes, "!=")


def pack(x: Counts, levels: int, signed: bool, code: str) -> Words:
    """See reference.py."""
    planes = len(plane_weights(levels, signed, code))
    words = new_words((planes, x.shape[0], -(-x.shape[1] // 64)))
    _pack(x, signed, code == "thermometer", words)
    return words


def unpack(words: Words, levels: int, signed: bool, code: str, columns: int) -> Counts:
    """See reference.py."""
    out = np.empty((words.shape[1], columns), np.int8)
    _unpack(words, np.array(plane_weights(levels, signed, code), np.int64), out)
    return out


def swapped(words: Words) -> Words:
    """See reference.py."""
    blocks, first, second, width = words.shape
    out = new_words((blocks, second, first, width))
    _swap(words, out)
    return out


def transpose(words: Words, columns: int) -> Words:
    """See reference.py."""
    planes, rows, _ = words.shape
    out = new_words((planes, columns, -(-rows // 64)))
    _transpose(words, out)
    return out


@compiled
def _pack(x: Any, signed: bool, thermometer: bool, words: Any) -> None:
    rows, columns = x.shape
    half = words.shape[0] // 2 if signed else words.shape[0]
    rest = np.zeros(64, np.int8)  # the last columns of a row, then zeros
    zero = _zero()
    for r in range(rows):
        for w in range(words.shape[2]):
            if 64 * w + 64 <= columns:
                value = _load(x, r * columns + 64 * w)
            else:
                for c in range(64 * w, columns):
                    rest[c - 64 * w] = x[r, c]
                value = _load(rest, 0)
            for side in range(2 if signed else 1):
                if side == 1:
                    value = _subtract(zero, value)
                size = _select(_greater(value, zero), value, zero)
                for p in range(half):
                    if thermometer:
                        words[side * half + p, r, w] = _greater(size, _splat(p))
                    else:
                        bit = _both(size, _splat(np.int64(1) << p))
                        words[side * half + p, r, w] = _differ(bit, zero)


@compiled
def _unpack(words: Any, weights: Pointers, out: Counts) -> None:
    planes, rows, width = words.shape
    columns = out.shape[1]
    rest = np.empty(64, np.int8)
    zero = _zero()
    for r in range(rows):
        for w in range(width):
            value = zero
            for p in range(planes):
                value = _add(value, _select(words[p, r, w], _splat(weights[p]), zero))
            if 64 * w + 64 <= columns:
                _store(out, r * columns + 64 * w, value)
            else:
                _store(rest, 0, value)
                for c in range(64 * w, columns):
                    out[r, c] = rest[c - 64 * w]


@compiled
def _swap(words: Any, out: Any) -> None:
    blocks, first, second, width = words.shape
    for b in range(blocks):
        for j in range(second):
            for i in range(first):
                row, moved = words[b, i, j], out[b, j, i]
                for w in range(width):
                    moved[w] = row[w]


@compiled
def _transpose(words: Any, out: Any) -> None:
    """64 x 64 bits at a time, swapping halves of halves (Warren, Hacker's Delight 7-3, 2012)."""
    planes, rows, width = words.shape
    columns = out.shape[1]
    block = np.empty(64, np.uint64)
    for p in range(planes):
        for first in range(0, rows, 64):
            for w in range(width):
                for i in range(64):
                    block[i] = words[p, first + i, w] if first + i < rows else np.uint64(0)
                size = 32
                mask = np.uint64(0x00000000FFFFFFFF)
                while size:
                    shift = np.uint64(size)
                    i = 0
                    while i < 64:
                        swap = ((block[i] >> shift) ^ block[i + size]) & mask
                        block[i + size] ^= swap
                        block[i] ^= swap << shift
                        i = (i + size + 1) & ~size
                    size >>= 1
                    mask ^= mask << np.uint64(size)
                for i in range(min(64, columns - 64 * w)):
                    out[p, 64 * w + i, first // 64] = block[i]
