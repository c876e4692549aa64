"""Column sums of spike-driven self-attention with Numba: 64 channels of a word, 64 counters.

Counters are int16 in two AVX-512 registers; a token is one masked add. They move to int32 before
they could overflow, or, where only reaching an edge matters, that is kept instead.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.kernels import _simd, _simd_masks
from neurosim.kernels._jit import compiled
from neurosim.kernels.packed._words import Words, new_words
from neurosim.kernels.sdsa import _sliced
from neurosim.kernels.spike_attention.cpu import linear

__all__ = ["column_sums", "gated", "linear"]

Sums = npt.NDArray[np.int32]

_TOKENS = 32767  # that an int16 counts
_Counters, _Wide = _simd.Vector("int16", 64), _simd.Vector("int32", 64)
_zero, _splat, _add = _simd.zero(_Counters), _simd.splat(_Counters), _simd.binary(_Counters, "add")
_select, _widen = _simd_masks.select(_Counters), _simd.widen(_Counters, _Wide)
_at_least, _at_least_wide = (
    _simd_masks.compare(_Counters, ">="), _simd_masks.compare(_Wide, ">=")
)  # fmt: skip
_zero_wide, _splat_wide, _add_wide, _store_wide, _select_wide = (
    _simd.zero(_Wide),
    _simd.splat(_Wide),
    _simd.binary(_Wide, "add"),
    _simd.store(_Wide),
    _simd_masks.select(_Wide),
)


def column_sums(k: Words, v: Words | None, columns: int, causal: bool) -> Sums:
    """See reference.py."""
    groups, tokens, width = k.shape
    sums = np.empty((groups, tokens if causal else 1, 64 * width), np.int32)
    if causal:
        _running_sums(k, k if v is None else v, sums.reshape(-1))
    else:
        _column_sums(k, k if v is None else v, sums.reshape(-1))
    return sums[..., :columns]


def gated(q: Words, k: Words, v: Words | None, columns: int, edge: int, causal: bool) -> Words:
    """See reference.py."""
    out = new_words(q.shape)
    second = k if v is None else v
    if not 0 < edge <= q.shape[1]:
        out[:] = q if edge <= 0 else 0
        return out
    done = 0
    if q.shape[2] == 1:
        planes = np.empty(((edge - 1).bit_length(), _sliced.LANES), np.uint64)
        tile = np.empty((_sliced.LANES, _sliced.LANES), np.uint64)
        done = _sliced.gated(q, k, second, edge, causal, out, planes, tile)
    if done < len(q):
        kernel = _gated
        if causal:
            kernel = _gated_so_far if edge <= _TOKENS else _gated_so_far_wide
        kernel(q[done:], k[done:], second[done:], edge, out[done:])
    return out


@compiled
def _column_sums(k: Any, v: Any, sums: Any) -> None:
    groups, tokens, width = k.shape
    one, none = _splat(1), _zero()
    for g in range(groups):
        for w in range(width):
            total = _zero_wide()
            for first in range(0, tokens, _TOKENS):
                counters = _zero()
                for t in range(first, min(first + _TOKENS, tokens)):
                    counters = _add(counters, _select(k[g, t, w] & v[g, t, w], one, none))
                total = _add_wide(total, _widen(counters))
            _store_wide(sums, (g * width + w) * 64, total)


@compiled
def _running_sums(k: Any, v: Any, sums: Any) -> None:
    groups, tokens, width = k.shape
    one, none = _splat_wide(1), _zero_wide()
    for g in range(groups):
        for w in range(width):
            total = _zero_wide()
            for t in range(tokens):
                total = _add_wide(total, _select_wide(k[g, t, w] & v[g, t, w], one, none))
                _store_wide(sums, ((g * tokens + t) * width + w) * 64, total)


@compiled
def _gated(q: Any, k: Any, v: Any, edge: int, out: Any) -> None:
    groups, tokens, width = k.shape
    one, none, limit = _splat(1), _zero(), _splat_wide(edge)
    for g in range(groups):
        for w in range(width):
            total = _zero_wide()
            for first in range(0, tokens, _TOKENS):
                counters = _zero()
                for t in range(first, min(first + _TOKENS, tokens)):
                    counters = _add(counters, _select(k[g, t, w] & v[g, t, w], one, none))
                total = _add_wide(total, _widen(counters))
            mask = _at_least_wide(total, limit)
            for t in range(tokens):
                out[g, t, w] = q[g, t, w] & mask


@compiled
def _gated_so_far(q: Any, k: Any, v: Any, edge: int, out: Any) -> None:
    """A counter may wrap once its channel has reached the edge: sums never fall."""
    groups, tokens, width = k.shape
    one, none, limit = _splat(1), _zero(), _splat(edge)
    for g in range(groups):
        for w in range(width):
            counters, reached = none, np.uint64(0)
            for t in range(tokens):
                counters = _add(counters, _select(k[g, t, w] & v[g, t, w], one, none))
                reached |= _at_least(counters, limit)
                out[g, t, w] = q[g, t, w] & reached


@compiled
def _gated_so_far_wide(q: Any, k: Any, v: Any, edge: int, out: Any) -> None:
    groups, tokens, width = k.shape
    one, none, limit = _splat_wide(1), _zero_wide(), _splat_wide(edge)
    for g in range(groups):
        for w in range(width):
            counters = none
            for t in range(tokens):
                counters = _add_wide(counters, _select_wide(k[g, t, w] & v[g, t, w], one, none))
                out[g, t, w] = q[g, t, w] & _at_least_wide(counters, limit)
