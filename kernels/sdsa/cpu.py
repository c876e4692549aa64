"""Sums of spike-driven self-attention with Numba: counters in registers, state rows added.

Column sums: 64 channels of a word are 64 int16 counters; a masked add per token, moved to int32
before they can overflow. Products: the rows of the state of the channels that fire are added, a
count n adds its row n times.
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
_zero_wide, _add_wide, _store_wide = (
    _simd.zero(_Wide),
    _simd.binary(_Wide, "add"),
    _simd.store(_Wide),
)


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
    out = np.zeros((groups, tokens, values), np.int32)
    state = np.empty((channels // heads, values // heads), np.int32)
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
                for c in range(channels):
                    for _ in range(q[g, t, h * channels + c]):
                        row = state[c]
                        for i in range(values):
                            total[i] += row[i]
