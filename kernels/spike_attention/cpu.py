"""Spike attention with Numba: all of it by name, and here one token of the form with decay.

Per head, the rows of S are taken once: decayed, then given one row of a table of the multiples of
v, itself built by additions. The read-out lists each query channel |q_i| times and adds the listed
rows in registers. Nothing branches on single spikes, which no processor could predict. The state
is used where it lies; `_decaying_cpu` copies it into padded rows, which pays for many tokens.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from neurosim.kernels import _simd
from neurosim.kernels._jit import compiled, inlined
from neurosim.kernels.spike_attention._decaying_cpu import scan
from neurosim.kernels.spike_attention._linear_cpu import linear
from neurosim.kernels.spike_attention._step_binary import quick_step
from neurosim.kernels.spike_attention._step_cpu import linear_step
from neurosim.kernels.spike_attention._types import Shifts, Spikes, State, Sums

__all__ = ["linear", "linear_step", "quick_step", "scan", "step"]

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


@compiled
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
    heads, channels = q.shape
    multiples = np.empty(257 * channels, np.int32)
    plus, minus = np.empty(128 * (channels + 1), np.int32), np.empty(128 * (channels + 1), np.int32)
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
