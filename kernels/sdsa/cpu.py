"""Sums of spike-driven self-attention with Numba: counters in registers, state rows added.

Column sums: 64 channels of a word are 64 int16 counters; a masked add per token, moved to int32
before they can overflow. Products: the rows of the state of the channels that fire are added, a
count n adds its row n times; heads of 64, 128, ... channels in registers, others by plain loops.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.kernels import _simd, _simd_masks
from neurosim.kernels._jit import compiled
from neurosim.kernels.packed._words import Words, new_words

Spikes = npt.NDArray[np.int8]
Sums = npt.NDArray[np.int32]

_TOKENS = 32767  # that an int16 counts
_Counters, _Wide = _simd.Vector("int16", 64), _simd.Vector("int32", 64)
_zero, _splat, _add = _simd.zero(_Counters), _simd.splat(_Counters), _simd.binary(_Counters, "add")
_select, _widen = _simd_masks.select(_Counters), _simd.widen(_Counters, _Wide)
_zero_wide, _add_wide, _load_wide, _store_wide = (
    _simd.zero(_Wide),
    _simd.binary(_Wide, "add"),
    _simd.load(_Wide),
    _simd.store(_Wide),
)

_Bytes = _simd.Vector("int8", 64)
_load_bytes, _splat_bytes = _simd.load(_Bytes), _simd.splat(_Bytes)
_above, _widen_bytes = _simd_masks.compare(_Bytes, ">"), _simd.widen(_Bytes, _Wide)
_lowest_bit = _simd.lowest_bit


def column_sums(k: Words, v: Words | None, columns: int) -> Sums:
    """See reference.py."""
    groups, _, width = k.shape
    sums = np.empty((groups, 64 * width), np.int32)
    _column_sums(k, k if v is None else v, sums)
    return sums[:, :columns]


def masked(q: Words, mask: Words) -> Words:
    """See reference.py."""
    out = new_words(q.shape)
    np.bitwise_and(q, mask[:, None], out=out)
    return out


def products(q: Spikes, k: Spikes, v: Spikes, heads: int) -> Sums:
    """See reference.py."""
    groups, tokens, channels = q.shape
    values = v.shape[2]
    out = np.empty((groups, tokens, values), np.int32)
    state = np.empty((channels // heads, values // heads), np.int32)
    if state.shape[0] % 64 == 0 and state.shape[1] % 64 == 0:
        _products_by_64(q, k, v, heads, state, out)
    else:
        _products(q, k, v, heads, state, out)
    return out


@compiled
def _column_sums(k: Any, v: Any, sums: Sums) -> None:
    groups, tokens, width = k.shape
    one, none = _splat(1), _zero()
    for g in range(groups):
        for w in range(width):
            total = _zero_wide()
            for first in range(0, tokens, _TOKENS):
                counters = _zero()
                for t in range(first, min(first + _TOKENS, tokens)):
                    both = k[g, t, w] & v[g, t, w]
                    counters = _add(counters, _select(both, one, none))
                total = _add_wide(total, _widen(counters))
            _store_wide(sums, (g * width + w) * 64, total)


@compiled
def _products(q: Spikes, k: Spikes, v: Spikes, heads: int, state: Sums, out: Sums) -> None:
    groups, tokens, _ = q.shape
    channels, values = state.shape
    for g in range(groups):
        for h in range(heads):
            state[:] = 0
            for t in range(tokens):
                value = v[g, t, h * values : (h + 1) * values]
                for c in range(channels):
                    for _ in range(k[g, t, h * channels + c]):
                        row = state[c]
                        for i in range(values):
                            row[i] += value[i]
            for t in range(tokens):
                total = out[g, t, h * values : (h + 1) * values]
                total[:] = 0
                for c in range(channels):
                    for _ in range(q[g, t, h * channels + c]):
                        row = state[c]
                        for i in range(values):
                            total[i] += row[i]


@compiled
def _products_by_64(q: Any, k: Any, v: Any, heads: int, state: Sums, out: Sums) -> None:
    groups, tokens, _ = q.shape
    channels, values = state.shape
    none = np.uint64(0)
    for g in range(groups):
        for h in range(heads):
            state[:] = 0
            for t in range(tokens):
                row = (g * tokens + t) * heads + h
                for block in range(0, values, 64):
                    value = _widen_bytes(_load_bytes(v, row * values + block))
                    for first in range(0, channels, 64):
                        counts = _load_bytes(k, row * channels + first)
                        level = 0
                        mask = _above(counts, _splat_bytes(level))
                        while mask != none:  # channels with a count above the level
                            while mask != none:
                                at = (first + _lowest_bit(mask)) * values + block
                                _store_wide(state, at, _add_wide(_load_wide(state, at), value))
                                mask &= mask - np.uint64(1)
                            level += 1
                            mask = _above(counts, _splat_bytes(level))
            for t in range(tokens):
                row = (g * tokens + t) * heads + h
                for block in range(0, values, 64):
                    total = _zero_wide()
                    for first in range(0, channels, 64):
                        counts = _load_bytes(q, row * channels + first)
                        level = 0
                        mask = _above(counts, _splat_bytes(level))
                        while mask != none:
                            while mask != none:
                                at = (first + _lowest_bit(mask)) * values + block
                                total = _add_wide(total, _load_wide(state, at))
                                mask &= mask - np.uint64(1)
                            level += 1
                            mask = _above(counts, _splat_bytes(level))
                    _store_wide(out, row * values + block, total)
