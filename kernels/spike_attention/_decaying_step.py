"""One token of attention with decay with Numba, and the short way to it.

Per head, the rows of S are taken once: decayed, then given one row of a table of the multiples of
v, itself built by additions. The read-out lists each query channel |q_i| times and adds the listed
rows in registers. Nothing branches on single spikes, which no processor could predict. The state
is used where it lies; `_decaying_cpu` copies it into padded rows, which pays for many tokens.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import carray, types

from neurosim.kernels import _simd
from neurosim.kernels._dispatch import announce
from neurosim.kernels._entry import (
    ARRAY,
    available,
    axes_of,
    elements_of,
    entry,
    is_contiguous,
    is_plain,
    pointer_to,
    size_of,
)
from neurosim.kernels._jit import compiled, inlined
from neurosim.kernels._scratch import KEPT, kept, on_stack
from neurosim.kernels.spike_attention import _memory
from neurosim.kernels.spike_attention._types import Counts, Shifts, Spikes, State, Sums

_LANES = 8
_Narrow, _Wide = _simd.Vector("int32", _LANES), _simd.Vector("int64", _LANES)
_load, _store, _splat = _simd.load(_Narrow), _simd.store(_Narrow), _simd.splat(_Narrow)
_add, _subtract = _simd.binary(_Narrow, "add"), _simd.binary(_Narrow, "sub")
_and, _shift_right = _simd.binary(_Narrow, "and_"), _simd.binary(_Narrow, "ashr")
_widen, _zero_wide, _store_wide = (
    _simd.widen(_Narrow, _Wide),
    _simd.zero(_Wide),
    _simd.store(_Wide),
)
_add_wide, _subtract_wide = _simd.binary(_Wide, "add"), _simd.binary(_Wide, "sub")

_INT8, _INT32, _INT64 = np.dtype(np.int8), np.dtype(np.int32), np.dtype(np.int64)
_LARGEST, _MOST_BITS, _CAP = 2**31 - 1, 30, 2**31
_Look = _simd.Vector("int32", 16)
_load_look, _nothing_seen, _or, _xor, _signs = (
    _memory.load(_Look), _simd.zero(_Look), _simd.binary(_Look, "or_"),
    _simd.binary(_Look, "xor"), _simd.shift(_Look, "ashr", 31),
)  # fmt: skip
_store_look = _memory.store(_Look)
_lanes = on_stack(np.int32, 16)
_bytes_at, _shifts_at, _state_at, _sums_at = (
    pointer_to(kind) for kind in (types.int8, types.int64, types.int32, types.int64)
)


def quick_decaying_step(
    state: Any, q: Any, k: Any, v: Any, decay_shift: Any, fraction_bits: Any
) -> Sums | None:
    """`spike_attention_step` of int8 counts; None, with nothing done, where it must look closer.

    That is for other arrays, for options out of range, and where a quick bound on the state (up to
    twice too large) does not exclude overflow.
    """
    if (
        type(q) is type(k) is type(v) is type(state) is type(decay_shift) is np.ndarray
        and q.dtype is k.dtype is v.dtype is _INT8
        and state.dtype is _INT32
        and decay_shift.dtype is _INT64
        and type(fraction_bits) is int
        and 0 <= fraction_bits <= _MOST_BITS
    ):
        out: Sums = np.empty(q.shape, np.int64)
        if _quick()(state, q, k, v, decay_shift, fraction_bits, KEPT.memory, out):
            return out
    return None


@functools.cache
def _quick() -> Callable[..., bool]:
    if not available():
        return lambda *_: False
    announce("spike_attention", "cpu")
    return entry(_step_if_it_fits, *(5 * (ARRAY,)), types.intp, ARRAY, ARRAY)


@inlined
def _cannot(state: Any, q: Any, k: Any, v: Any, shifts: Any) -> bool:
    """Whether shapes and memory are not those of one token."""
    if axes_of(q) != 2 or axes_of(k) != 2 or axes_of(v) != 2 or axes_of(shifts) != 1:
        return True
    heads, channels = size_of(q, 0), size_of(q, 1)
    if size_of(k, 0) != heads or size_of(v, 0) != heads or size_of(shifts, 0) != heads:
        return True
    if size_of(k, 1) != channels or size_of(v, 1) != channels or axes_of(state) != 3:
        return True
    if size_of(state, 0) != heads or size_of(state, 1) != channels or size_of(state, 2) != channels:
        return True
    if not (is_contiguous(q) and is_contiguous(k) and is_contiguous(v) and is_contiguous(shifts)):
        return True
    return not is_plain(state)


@compiled
def _room(channels: int) -> int:
    """For 257 multiples of v, and two lists of 128 (D + 1) row offsets."""
    return 513 * channels + 256


@inlined
def _largest_count(counts: Any) -> Any:
    most = np.int64(0)
    for i in range(counts.shape[0]):
        most = max(most, _magnitude(counts[i]))
    return most


@compiled
def _step_if_it_fits(
    state_: Any, q_: Any, k_: Any, v_: Any, shifts_: Any, fraction_bits: int, scratch_: Any,
    out_: Any,
) -> bool:  # fmt: skip
    """One token; False, with nothing changed, unless its arrays are right and |S| stays in int32.

    False too where the scratch is too small: the long way makes it larger, for the next time.
    The bound is that of `_bound`, from all bits that any |S| has instead of the largest |S|.
    """
    if _cannot(state_, q_, k_, v_, shifts_):
        return False
    heads, channels = size_of(q_, 0), size_of(q_, 1)
    if size_of(scratch_, 0) < _room(channels):
        return False
    state = carray(_state_at(elements_of(state_)), (heads, channels, channels))
    q = carray(_bytes_at(elements_of(q_)), (heads, channels))
    k = carray(_bytes_at(elements_of(k_)), (heads, channels))
    v = carray(_bytes_at(elements_of(v_)), (heads, channels))
    shifts = carray(_shifts_at(elements_of(shifts_)), (heads,))
    out = carray(_sums_at(elements_of(out_)), (heads, channels))
    scratch = carray(_state_at(elements_of(scratch_)), (_room(channels),))
    lanes = _lanes()
    size = channels * channels
    for head in range(heads):
        shift = shifts[head]
        if not 0 <= shift <= _MOST_BITS:
            return False
        at, seen = elements_of(state_) + 4 * head * size, _nothing_seen()
        for i in range(0, size - size % 16, 16):
            row = _load_look(at, i)
            seen = _or(seen, _xor(row, _signs(row)))
        _store_look(_memory.address(lanes), 0, seen)
        bits = np.int64(0)
        for i in range(16):
            bits |= lanes[i]
        for i in range(size - size % 16, size):
            element = state[head, i // channels, i % channels]
            bits |= element ^ (element >> 31)
        start = bits + 1  # of a negative S, the bits of |S| - 1
        growth = (_largest_count(k[head]) * _largest_count(v[head])) << fraction_bits
        growth = min(growth, _CAP)  # so that the shift below stays inside int64
        bound = start + growth
        if shift > 0:
            bound = min(bound, max(start, ((growth + 1) << shift) - 1))
        if bound > _LARGEST:
            return False
    _step(state, q, k, v, shifts, fraction_bits, scratch, out)
    return True


def step(
    state: State,
    q: Spikes,
    k: Spikes,
    v: Spikes,
    decay_shift: Shifts,
    fraction_bits: int,
    out: Sums,
) -> None:
    """One token; updates `state` and fills `out`."""
    _step(state, q, k, v, decay_shift, fraction_bits, kept(_room(q.shape[1])), out)


@compiled
def _step(
    state: State,
    q: Spikes,
    k: Spikes,
    v: Spikes,
    decay_shift: Shifts,
    fraction_bits: int,
    scratch: Counts,
    out: Sums,
) -> None:
    """`scratch` is of `_room(D)` elements."""
    heads, channels = q.shape
    multiples, lists = scratch[: 257 * channels], 257 * channels
    middle = lists + 128 * (channels + 1)
    plus, minus = scratch[lists:middle], scratch[middle:]
    for head in range(heads):
        memory = state[head].reshape(-1)
        _update(memory, k[head], v[head], decay_shift[head], fraction_bits, multiples)
        _read(memory, q[head], plus, minus, out[head])


@inlined
def _magnitude(count: Any) -> Any:
    return abs(np.int64(count))  # widened first: -(-128) is no int8


@inlined
def _update(memory: Any, k: Any, v: Any, shift: Any, fraction_bits: int, multiples: Any) -> None:
    """S -= S >> shift (unless 0); S += (k v^T) << fraction_bits; memory is S (D * D,).

    `multiples` is scratch of 257 rows of D: row 128 + n receives n v, for |n| <= max |k|.
    """
    channels = k.shape[0]
    whole = channels - channels % _LANES
    most = 0
    for i in range(channels):
        most = max(most, _magnitude(k[i]))
    value, middle = multiples[:channels], 128 * channels  # row 0 only holds -128 v, written last
    for j in range(channels):
        value[j] = np.int64(v[j]) << fraction_bits
        multiples[middle + j] = 0
    for n in range(most):
        more, less = middle + n * channels, middle - n * channels
        for j in range(0, whole, _LANES):
            one = _load(value, j)
            _store(multiples, more + channels + j, _add(_load(multiples, more + j), one))
            _store(multiples, less - channels + j, _subtract(_load(multiples, less + j), one))
        for j in range(whole, channels):
            one_more, one_less = multiples[more + j] + value[j], multiples[less + j] - value[j]
            multiples[more + channels + j], multiples[less - channels + j] = one_more, one_less
    keep = _splat(np.int64(0) if shift == 0 else np.int64(-1))
    shifts = _splat(shift)
    for i in range(channels):
        row, added = i * channels, (128 + np.int64(k[i])) * channels
        for j in range(0, whole, _LANES):
            old = _load(memory, row + j)
            decayed = _subtract(old, _and(_shift_right(old, shifts), keep))
            _store(memory, row + j, _add(decayed, _load(multiples, added + j)))
        for j in range(whole, channels):
            lost = memory[row + j] >> shift if shift > 0 else 0
            memory[row + j] = memory[row + j] - lost + multiples[added + j]


@inlined
def _read(memory: Any, q: Any, plus: Any, minus: Any, out: Any) -> None:
    """out = q S; memory is S (D * D,); `plus`, `minus` scratch for 128 (D + 1) row offsets."""
    channels = q.shape[0]
    most = 0
    for i in range(channels):
        most = max(most, _magnitude(q[i]))
    added, subtracted = 0, 0
    for i in range(channels):  # write `most` copies, keep |q_i|
        offset = _splat(np.int64(i) * channels)
        for copies in range(0, most, _LANES):
            _store(plus, added + copies, offset)
            _store(minus, subtracted + copies, offset)
        added += (_magnitude(q[i]) + q[i]) >> 1
        subtracted += (_magnitude(q[i]) - q[i]) >> 1
    whole = channels - channels % _LANES
    for j in range(0, whole, _LANES):
        total = _zero_wide()
        for event in range(added):
            total = _add_wide(total, _widen(_load(memory, plus[event] + j)))
        for event in range(subtracted):
            total = _subtract_wide(total, _widen(_load(memory, minus[event] + j)))
        _store_wide(out, j, total)
    for j in range(whole, channels):
        out[j] = 0
        for event in range(added):
            out[j] += memory[plus[event] + j]
        for event in range(subtracted):
            out[j] -= memory[minus[event] + j]
