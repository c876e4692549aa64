"""One token of attention without decay with Numba, on states in int16 or int32.

Nothing bounds a state that was handed in, so overflow is looked for: a sum has overflowed where
its sign differs from both signs it was made of. Then the token is subtracted again, and the plain
kernel, which sums in int64, has the last word.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.kernels import _simd, _simd_masks
from neurosim.kernels._jit import compiled, inlined
from neurosim.kernels.packed import cpu as packed
from neurosim.kernels.spike_attention import _memory, _rows
from neurosim.kernels.spike_attention._types import Counts, Memory, Planes, Spikes

_LANES = _rows.LANES
_MOST_ROWS = 2**16  # of int16 that int32 can sum
_ONE, _DONE = np.uint64(1), np.uint64(0)
_Narrow, _Wide = _rows.Narrow, _rows.Wide
_zero, _load, _store = _simd.zero(_Narrow), _memory.load(_Narrow), _memory.store(_Narrow)
_add, _subtract, _and, _or, _xor = (
    _simd.binary(_Narrow, name) for name in ("add", "sub", "and_", "or_", "xor")
)
_zero_wide, _load_wide, _store_wide = (
    _simd.zero(_Wide), _memory.load(_Wide), _memory.store(_Wide)
)  # fmt: skip
_add_wide, _subtract_wide, _and_wide, _or_wide, _xor_wide = (
    _simd.binary(_Wide, name) for name in ("add", "sub", "and_", "or_", "xor")
)
_below, _below_wide = _simd_masks.compare(_Narrow, "<"), _simd_masks.compare(_Wide, "<")
_widen = _simd.widen(_Narrow, _Wide)
_address, _word, _lowest_bit = _memory.address, _memory.load_word, _simd.lowest_bit
_value, _value_wide, _scaled, _scaled_wide, _code_of = (
    _rows.value, _rows.value_wide, _rows.scaled, _rows.scaled_wide, _rows.code_of
)  # fmt: skip


def linear_step(q: Planes, k: Planes, v: Planes, state: Memory) -> tuple[Counts, bool]:
    """See reference.py."""
    _, groups, _, heads, width = q.words.shape
    streams, blocks = groups * heads, v.words.shape[4]
    sums = np.empty((streams, v.columns), np.int32)
    narrow = state.dtype == np.int16
    if v.columns % _LANES == 0 and not (narrow and q.columns * q.levels > _MOST_ROWS):
        step = _step_narrow if narrow else _step_wide
        sizes = streams, width, blocks, q.columns
        if step(q.words, k.words, v.words, q.codes, k.codes, v.codes, sizes, state, sums):
            return sums, True
    flat = state.reshape(streams, q.columns, v.columns)
    total = np.empty(v.columns, np.int64)
    return sums, _step_plain(_counts(q), _counts(k), _counts(v), flat, sums, total)


def _counts(x: Planes) -> Spikes:
    planes, groups, _, heads, width = x.words.shape
    flat = x.words.reshape(planes, groups * heads, width)
    counts: Spikes = packed.unpack(flat, x.levels, x.signed, x.code, x.columns, np.int8)
    return counts


@compiled
def _step_plain(
    q: Spikes, k: Spikes, v: Spikes, state: Any, sums: Counts, total: npt.NDArray[np.int64]
) -> bool:
    """Any number of columns: looks before it writes; `total` is scratch for a row of them."""
    streams, channels, columns = state.shape
    limit = np.int64(2) ** (8 * state.itemsize - 1)
    for s in range(streams):
        total[:] = 0
        for i in range(channels):
            if k[s, i] == 0 and q[s, i] == 0:
                continue
            for j in range(columns):
                new = np.int64(state[s, i, j]) + np.int64(k[s, i]) * np.int64(v[s, j])
                total[j] += np.int64(q[s, i]) * new
                if not -limit <= new < limit:
                    return False
        for j in range(columns):
            if not -(2**31) <= total[j] < 2**31:
                return False
            sums[s, j] = total[j]
    for s in range(streams):
        for i in range(channels):
            if k[s, i] != 0:
                for j in range(columns):
                    state[s, i, j] += np.int64(k[s, i]) * np.int64(v[s, j])
    return True


@inlined
def _change(memory: Any, k: Any, row: Any, counts: Any, pitch: Any, undo: Any) -> Any:
    """Add the counts to the rows of the set bits; lanes that overflowed come out negative."""
    wrong = _zero()
    for p in range(k[2]):
        added = _scaled(counts, _code_of(k, p))
        if undo:
            added = _subtract(_zero(), added)
        for w in range(k[4]):
            word = _word(k[0], p * k[3] + row * k[4] + w)
            while word != _DONE:
                at = (64 * w + _lowest_bit(word)) * pitch
                old = _load(memory, at)
                new = _add(old, added)
                wrong = _or(wrong, _and(_xor(new, old), _xor(new, added)))
                _store(memory, at, new)
                word &= word - _ONE
    return wrong


@inlined
def _change_wide(memory: Any, k: Any, row: Any, counts: Any, pitch: Any, undo: Any) -> Any:
    wrong = _zero_wide()
    for p in range(k[2]):
        added = _scaled_wide(counts, _code_of(k, p))
        if undo:
            added = _subtract_wide(_zero_wide(), added)
        for w in range(k[4]):
            word = _word(k[0], p * k[3] + row * k[4] + w)
            while word != _DONE:
                at = (64 * w + _lowest_bit(word)) * pitch
                old = _load_wide(memory, at)
                new = _add_wide(old, added)
                wrong = _or_wide(wrong, _and_wide(_xor_wide(new, old), _xor_wide(new, added)))
                _store_wide(memory, at, new)
                word &= word - _ONE
    return wrong


@compiled
def _step_narrow(
    q_words: Any, k_words: Any, v_words: Any, q_codes: Any, k_codes: Any, v_codes: Any,
    sizes: tuple[int, int, int, int], state: Any, sums: Any,
) -> bool:  # fmt: skip
    streams, width, blocks, channels = sizes
    q = (_address(q_words), _address(q_codes), q_codes.shape[0], streams * width, width)
    k = (_address(k_words), _address(k_codes), k_codes.shape[0], streams * width, width)
    v = (_address(v_words), _address(v_codes), v_codes.shape[0], streams * blocks, blocks)
    pitch = blocks * _LANES
    states, out = _address(state), _address(sums)
    wrong = _zero()
    for s in range(streams):
        for block in range(blocks):
            memory = states + 2 * (s * channels * pitch + block * _LANES)
            counts = _value(v, s * blocks + block)
            wrong = _or(wrong, _change(memory, k, s, counts, pitch, False))
            total = _zero_wide()
            for p in range(q[2]):
                part = _zero_wide()
                for w in range(width):
                    word = _word(q[0], p * q[3] + s * width + w)
                    while word != _DONE:
                        row = _load(memory, (64 * w + _lowest_bit(word)) * pitch)
                        part = _add_wide(part, _widen(row))
                        word &= word - _ONE
                total = _add_wide(total, _scaled_wide(part, _code_of(q, p)))
            _store_wide(out, s * pitch + block * _LANES, total)
    if _below(wrong, _zero()) == _DONE:
        return True
    for s in range(streams):
        for block in range(blocks):
            memory = states + 2 * (s * channels * pitch + block * _LANES)
            _change(memory, k, s, _value(v, s * blocks + block), pitch, True)
    return False


@compiled
def _step_wide(
    q_words: Any, k_words: Any, v_words: Any, q_codes: Any, k_codes: Any, v_codes: Any,
    sizes: tuple[int, int, int, int], state: Any, sums: Any,
) -> bool:  # fmt: skip
    streams, width, blocks, channels = sizes
    q = (_address(q_words), _address(q_codes), q_codes.shape[0], streams * width, width)
    k = (_address(k_words), _address(k_codes), k_codes.shape[0], streams * width, width)
    v = (_address(v_words), _address(v_codes), v_codes.shape[0], streams * blocks, blocks)
    pitch = blocks * _LANES
    states, out = _address(state), _address(sums)
    wrong = _zero_wide()
    for s in range(streams):
        for block in range(blocks):
            memory = states + 4 * (s * channels * pitch + block * _LANES)
            counts = _value_wide(v, s * blocks + block)
            wrong = _or_wide(wrong, _change_wide(memory, k, s, counts, pitch, False))
            total = _zero_wide()
            for p in range(q[2]):
                code = _code_of(q, p)
                for w in range(width):
                    word = _word(q[0], p * q[3] + s * width + w)
                    while word != _DONE:
                        row = _load_wide(memory, (64 * w + _lowest_bit(word)) * pitch)
                        for _ in range(np.int64(1) << (code if code >= 0 else ~code)):
                            if code >= 0:
                                new = _add_wide(total, row)
                                wrong = _or_wide(
                                    wrong, _and_wide(_xor_wide(new, total), _xor_wide(new, row))
                                )
                            else:
                                new = _subtract_wide(total, row)
                                wrong = _or_wide(
                                    wrong, _and_wide(_xor_wide(new, total), _xor_wide(total, row))
                                )
                            total = new
                        word &= word - _ONE
            _store_wide(out, s * pitch + block * _LANES, total)
    if _below_wide(wrong, _zero_wide()) == _DONE:
        return True
    for s in range(streams):
        for block in range(blocks):
            memory = states + 4 * (s * channels * pitch + block * _LANES)
            _change_wide(memory, k, s, _value_wide(v, s * blocks + block), pitch, True)
    return False
