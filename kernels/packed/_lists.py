"""Lists of set bits with Numba: events of a row, and channels by their pattern over four rows.

The sparse loops write four entries at a time and count afterwards, so that they branch once per
word and not once per spike; entries too many are overwritten by the next word. Lists have room
for them behind their end.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.kernels import _simd, _simd_masks
from neurosim.kernels._jit import compiled, inlined
from neurosim.kernels.packed._words import Index, Words, index_type

Pointers = npt.NDArray[np.int64]

PATTERNS = 15
_SPARE = 8  # entries written too many at the end of a list
_DENSE = 7  # bits per word above which eight channels at a time are cheaper

_H = _simd.Vector("int16", 8)
_load, _store, _splat, _add = (
    _simd.load(_H),
    _simd.store(_H),
    _simd.splat(_H),
    _simd.binary(_H, "add"),
)
_lowest_bit, _count_bits = _simd.lowest_bit, _simd_masks.count_bits

_bits = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
_POSITIONS = np.argsort(1 - _bits, axis=1, kind="stable").astype(np.int16)
"""Set bits of every byte, ascending, then the others, (256, 8)."""


def count_bits(words: Words) -> Pointers:
    """See reference.py."""
    out = np.empty(words.shape[0], np.int64)
    _count(words, out)
    return out


def total(words: Words) -> int:
    """Set bits of words (R, W)."""
    return int(_total(words))


def events(words: Words, columns: int) -> tuple[Pointers, Index]:
    """See reference.py."""
    pointer = np.empty(words.shape[0] + 1, np.int64)
    total = _total(words)
    index: Index = np.empty(total + _SPARE, index_type(columns))
    if total > _DENSE * words.size and index.dtype == np.uint16:
        _list_dense(words, _POSITIONS, pointer, index)
    else:
        _list(words, pointer, index)
    return pointer, index[:total]


def patterns(words: Words, columns: int) -> tuple[Pointers, Index]:
    """See reference.py."""
    pointer = np.empty(PATTERNS * (words.shape[0] // 4) + 1, np.int64)
    total = _total_of_groups(words)
    index: Index = np.empty(total + _SPARE, index_type(columns))
    _list_patterns(words, pointer, index)
    return pointer, index[:total]


@compiled
def _count(words: Any, out: Pointers) -> None:
    for r in range(words.shape[0]):
        total = np.int64(0)
        for w in range(words.shape[1]):
            total += _count_bits(words[r, w])
        out[r] = total


@compiled
def _total(words: Any) -> Any:
    total = np.int64(0)
    for r in range(words.shape[0]):
        row = words[r]
        for w in range(row.shape[0]):
            total += _count_bits(row[w])
    return total


@compiled
def _total_of_groups(words: Any) -> Any:
    """Channels that spike in any of four rows, over all groups of four."""
    total = np.int64(0)
    for r in range(0, words.shape[0], 4):
        a, b, c, d = words[r], words[r + 1], words[r + 2], words[r + 3]
        for w in range(words.shape[1]):
            total += _count_bits(a[w] | b[w] | c[w] | d[w])
    return total


@inlined
def _put_four(index: Any, at: Any, first: Any, word: Any) -> Any:
    """Write the four lowest bits (fewer set: anything), and return the word without them."""
    one = np.uint64(1)
    index[at] = first + _lowest_bit(word)
    word &= word - one
    index[at + 1] = first + _lowest_bit(word)
    word &= word - one
    index[at + 2] = first + _lowest_bit(word)
    word &= word - one
    index[at + 3] = first + _lowest_bit(word)
    return word & (word - one)


@compiled
def _list(words: Any, pointer: Pointers, index: Any) -> None:
    found = np.int64(0)
    for r in range(words.shape[0]):
        pointer[r] = found
        row = words[r]
        for w in range(row.shape[0]):
            word = row[w]
            end = found + _count_bits(word)
            word = _put_four(index, found, 64 * w, word)
            at = found + 4
            while at < end:
                word = _put_four(index, at, 64 * w, word)
                at += 4
            found = end
    pointer[words.shape[0]] = found


@compiled
def _list_dense(words: Any, positions: Any, pointer: Pointers, index: Any) -> None:
    """The positions of the bits of a byte are looked up; any density costs the same."""
    byte = np.uint64(255)
    found = np.int64(0)
    for r in range(words.shape[0]):
        pointer[r] = found
        row = words[r]
        for w in range(row.shape[0]):
            word = row[w]
            for b in range(8):
                octet = (word >> np.uint64(8 * b)) & byte
                places = _load(positions, np.int64(octet) * 8)
                _store(index, found, _add(places, _splat(np.int64(64 * w + 8 * b))))
                found += _count_bits(octet)
    pointer[words.shape[0]] = found


@compiled
def _list_patterns(words: Any, pointer: Pointers, index: Any) -> None:
    """The channels of a pattern are a word: the rows it has, and not those it lacks."""
    zero = np.uint64(0)
    found = np.int64(0)
    i = 0
    for r in range(0, words.shape[0], 4):
        rows_a, rows_b, rows_c, rows_d = words[r], words[r + 1], words[r + 2], words[r + 3]
        for pattern in range(1, 16):
            no_a = zero if pattern & 1 else ~zero
            no_b = zero if pattern & 2 else ~zero
            no_c = zero if pattern & 4 else ~zero
            no_d = zero if pattern & 8 else ~zero
            pointer[i] = found
            i += 1
            for w in range(words.shape[1]):
                ab = (rows_a[w] ^ no_a) & (rows_b[w] ^ no_b)
                word = ab & (rows_c[w] ^ no_c) & (rows_d[w] ^ no_d)
                end = found + _count_bits(word)
                word = _put_four(index, found, 64 * w, word)
                at = found + 4
                while at < end:
                    word = _put_four(index, at, 64 * w, word)
                    at += 4
                found = end
    pointer[i] = found
