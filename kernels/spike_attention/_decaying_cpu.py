"""All tokens of attention with decay with Numba: one head after the other, its state in the cache.

Rows of the state are padded to whole vectors on cache lines. Each token decays every row and gives
it one row of a table of the multiples of v, built by additions: no branch. The read-out lists each
query channel |q_i| times and adds the listed rows, in int32 where the bound on the state allows.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from neurosim.kernels import _simd, _simd_masks
from neurosim.kernels._aligned import aligned
from neurosim.kernels._jit import compiled, inlined
from neurosim.kernels.spike_attention import _memory
from neurosim.kernels.spike_attention._types import Counts, Shifts, Spikes, State, Sums

_LANES, _WORD = 16, 64
_MOST_COUNT, _LARGEST = 128, 2**31 - 1
_DONE, _ONE = np.uint64(0), np.uint64(1)

_One, _Two = _simd.Vector("int32", _LANES), _simd.Vector("int32", 2 * _LANES)
_load, _store, _splat, _zero = (
    f(_One) for f in (_memory.load, _memory.store, _simd.splat, _simd.zero)
)
_add, _subtract, _and, _shift = (
    _simd.binary(_One, name) for name in ("add", "sub", "and_", "ashr")
)
_load_two, _store_two, _splat_two, _zero_two = (
    f(_Two) for f in (_memory.load, _memory.store, _simd.splat, _simd.zero)
)
_add_two, _subtract_two, _and_two, _shift_two = (
    _simd.binary(_Two, name) for name in ("add", "sub", "and_", "ashr")
)
_Long, _LongTwo = _simd.Vector("int64", _LANES), _simd.Vector("int64", 2 * _LANES)
_zero_long, _store_long, _widen = (
    _simd.zero(_Long), _memory.store(_Long), _simd.widen(_One, _Long)
)  # fmt: skip
_store_long_two, _widen_two = _memory.store(_LongTwo), _simd.widen(_Two, _LongTwo)
_add_long, _subtract_long = _simd.binary(_Long, "add"), _simd.binary(_Long, "sub")
_Bytes, _Few = _simd.Vector("int8", _WORD), _simd.Vector("int8", _LANES)
_load_few, _extended, _shift_left = (
    _memory.load(_Few), _simd.widen(_Few, _One), _simd.binary(_One, "shl")
)  # fmt: skip
_load_bytes, _splat_bytes = _memory.load(_Bytes), _simd.splat(_Bytes)
_above, _below = _simd_masks.compare(_Bytes, ">"), _simd_masks.compare(_Bytes, "<")
_address, _byte, _lowest_bit = _memory.address, _memory.load_byte, _simd.lowest_bit


def scan(
    q: Spikes,
    k: Spikes,
    v: Spikes,
    decay_shift: Shifts,
    fraction_bits: int,
    state: State,
    bound: int,
) -> Sums:
    """See reference.py."""
    _, heads, channels = q.shape
    pitch = -(-channels // _LANES) * _LANES
    out = np.empty(q.shape, np.int64)
    most = int(np.abs(q.astype(np.int16)).max(initial=0))
    _scan(
        _by_head(q), _by_head(k), _by_head(v), decay_shift, fraction_bits,
        state.reshape(heads, channels * channels), out, channels * most * bound <= _LARGEST,
        aligned((channels * pitch,), np.int32),
        aligned(((2 * _MOST_COUNT + 1) * pitch,), np.int32),
        np.empty((2, _MOST_COUNT * (channels + 1)), np.int32),
        aligned((pitch,), np.int64),
    )  # fmt: skip
    return out


def _by_head(x: Spikes) -> Spikes:
    """(L, H, D) as (H, L, D), with zeros up to a multiple of 64 channels."""
    tokens, heads, channels = x.shape
    padded = np.zeros((heads, tokens, -(-channels // _WORD) * _WORD), np.int8)
    padded[..., :channels] = x.swapaxes(0, 1)
    return padded


@inlined
def _update(memory: Any, table: Any, k: Any, channels: Any, pitch: Any, j: Any, shift: Any) -> None:
    """Columns j..j + 15 of all rows: S -= S >> shift (not for 0), then S += k_i v."""
    shifts, keep = _splat(shift), _splat(np.int64(0) if shift == 0 else np.int64(-1))
    for i in range(channels):
        old = _load(memory, i * pitch + j)
        lost = _and(_shift(old, shifts), keep)
        more = _load(table, (_MOST_COUNT + np.int64(_byte(k, i))) * pitch + j)
        _store(memory, i * pitch + j, _add(_subtract(old, lost), more))


@inlined
def _update_two(
    memory: Any, table: Any, k: Any, channels: Any, pitch: Any, j: Any, shift: Any
) -> None:
    """`_update` of columns j..j + 31."""
    shifts, keep = _splat_two(shift), _splat_two(np.int64(0) if shift == 0 else np.int64(-1))
    for i in range(channels):
        old = _load_two(memory, i * pitch + j)
        lost = _and_two(_shift_two(old, shifts), keep)
        more = _load_two(table, (_MOST_COUNT + np.int64(_byte(k, i))) * pitch + j)
        _store_two(memory, i * pitch + j, _add_two(_subtract_two(old, lost), more))


@inlined
def _any_beyond(counts: Any, width: Any, size: Any) -> Any:
    """Whether some |count| exceeds `size`."""
    found = _DONE
    for first in range(0, width, _WORD):
        vector = _load_bytes(counts, first)
        found |= _above(vector, _splat_bytes(size)) | _below(vector, _splat_bytes(-size))
    return found != _DONE


@inlined
def _listed(counts: Any, width: Any, pitch: Any, sign: Any, lists: Any) -> Any:
    """List the row of each channel |count| times if it has that sign; how many there are."""
    found = np.int64(0)
    none = _splat_bytes(np.int64(0))
    for first in range(0, width, _WORD):
        vector = _load_bytes(counts, first)
        word = _above(vector, none) if sign > 0 else _below(vector, none)
        while word != _DONE:
            channel = first + _lowest_bit(word)
            word &= word - _ONE
            size = abs(np.int64(_byte(counts, channel)))
            row = _splat(channel * pitch)
            for copies in range(0, size, _LANES):
                _store(lists, found + copies, row)
            found += size
    return found


@compiled
def _scan(
    q_: Spikes,
    k_: Spikes,
    v_: Spikes,
    decay_shift: Shifts,
    fraction_bits: int,
    state: State,
    out: Sums,
    narrow: bool,
    memory_: Counts,
    table_: Counts,
    lists_: Counts,
    sums: Sums,
) -> None:
    heads, tokens, width = q_.shape
    channels, pitch = out.shape[2], sums.shape[0]
    memory, table, totals = _address(memory_), _address(table_), _address(sums)
    plus = _address(lists_)
    minus, middle = plus + 4 * lists_.shape[1], _MOST_COUNT * pitch
    bits = _splat(fraction_bits)
    table_[:] = 0  # row 128 + n will be n v; row 0 is -128 v
    for head in range(heads):
        shift = decay_shift[head]
        memory_[:] = 0
        for i in range(channels):
            for j in range(channels):
                memory_[i * pitch + j] = state[head, i * channels + j]
        for token in range(tokens):
            at = (head * tokens + token) * width
            query, key, value = _address(q_) + at, _address(k_) + at, _address(v_) + at
            for j in range(0, pitch, _LANES):
                one = _shift_left(_extended(_load_few(value, j)), bits)
                _store(table, middle + pitch + j, one)
                _store(table, middle - pitch + j, _subtract(_zero(), one))
            size = 1
            while size < _MOST_COUNT and _any_beyond(key, width, size):
                for j in range(0, pitch, _LANES):
                    one = _load(table, middle + pitch + j)
                    more, less = middle + size * pitch + j, middle - size * pitch + j
                    _store(table, more + pitch, _add(_load(table, more), one))
                    _store(table, less - pitch, _subtract(_load(table, less), one))
                size += 1
            for j in range(0, pitch - _LANES, 2 * _LANES):
                _update_two(memory, table, key, channels, pitch, j, shift)
            if pitch % (2 * _LANES):
                _update(memory, table, key, channels, pitch, pitch - _LANES, shift)
            added = _listed(query, width, pitch, 1, plus)
            subtracted = _listed(query, width, pitch, -1, minus)
            if narrow:
                for j in range(0, pitch - _LANES, 2 * _LANES):
                    total_two = _zero_two()
                    for e in range(added):
                        total_two = _add_two(total_two, _load_two(memory, lists_[0, e] + j))
                    for e in range(subtracted):
                        total_two = _subtract_two(total_two, _load_two(memory, lists_[1, e] + j))
                    _store_long_two(totals, j, _widen_two(total_two))
                for j in range(pitch - pitch % (2 * _LANES), pitch, _LANES):
                    total = _zero()
                    for e in range(added):
                        total = _add(total, _load(memory, lists_[0, e] + j))
                    for e in range(subtracted):
                        total = _subtract(total, _load(memory, lists_[1, e] + j))
                    _store_long(totals, j, _widen(total))
            else:
                for j in range(0, pitch, _LANES):
                    long_total = _zero_long()
                    for e in range(added):
                        row = _load(memory, lists_[0, e] + j)
                        long_total = _add_long(long_total, _widen(row))
                    for e in range(subtracted):
                        row = _load(memory, lists_[1, e] + j)
                        long_total = _subtract_long(long_total, _widen(row))
                    _store_long(totals, j, long_total)
            for j in range(channels):
                out[token, head, j] = sums[j]
        for i in range(channels):
            for j in range(channels):
                state[head, i * channels + j] = memory_[i * pitch + j]
