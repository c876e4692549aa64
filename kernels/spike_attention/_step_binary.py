"""One token of binary attention without decay, on int16 states: the call itself kept short.

The kernel takes a microsecond or two, so the checks before it are those that Python answers without
making objects, and the others are compiled. What it cannot take, and what overflows, is left
to `_step_cpu`, with all checks and error texts.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from neurosim.kernels import _simd, _simd_masks
from neurosim.kernels._dispatch import announce
from neurosim.kernels._entry import (
    ARRAY,
    available,
    axes_of,
    elements_of,
    entry,
    is_contiguous,
    is_plain,
    size_of,
)
from neurosim.kernels._jit import compiled, inlined
from neurosim.kernels.packed import PackedSpikes
from neurosim.kernels.spike_attention import _memory, _rows
from neurosim.kernels.spike_attention._types import Counts

_LANES = _rows.LANES
_INT16, _INT32 = np.dtype(np.int16), np.dtype(np.int32)
_ONE, _DONE = np.uint64(1), np.uint64(0)
_Narrow, _Wide = _rows.Narrow, _rows.Wide
_zero, _splat, _select = _simd.zero(_Narrow), _simd.splat(_Narrow), _simd_masks.select(_Narrow)
_load, _store = _memory.load(_Narrow), _memory.store(_Narrow)
_add, _subtract, _and, _or, _xor = (
    _simd.binary(_Narrow, name) for name in ("add", "sub", "and_", "or_", "xor")
)
_below, _widen = _simd_masks.compare(_Narrow, "<"), _simd.widen(_Narrow, _Wide)
_zero_wide, _add_wide, _store_wide = (
    _simd.zero(_Wide), _simd.binary(_Wide, "add"), _memory.store(_Wide)
)  # fmt: skip
_word, _lowest_bit = _memory.load_word, _simd.lowest_bit


def quick_step(state: Any, q: Any, k: Any, v: Any) -> Counts | None:
    """Sums of `spike_attention_step`, the state updated; None, with nothing done, for all else."""
    if (
        type(q) is type(k) is type(v) is PackedSpikes
        and type(state) is np.ndarray
        and state.dtype is _INT16
        and q.shape == k.shape == v.shape
    ):
        shape = q.shape
        if len(shape) == 2 and shape[1] == _LANES:
            out = np.empty(shape, _INT32)
            if _quick()(q.words, k.words, v.words, state, out):
                return out
    return None


@functools.cache
def _quick() -> Callable[..., bool]:
    if not available():
        return lambda *_: False
    announce("spike_attention", "cpu")
    return entry(_step, ARRAY, ARRAY, ARRAY, ARRAY, ARRAY)


@inlined
def _changed(memory: Any, word: Any, added: Any) -> Any:
    """Add to the rows of the set bits; lanes that went from positive to negative come out so."""
    wrong, ones = _zero(), _splat(np.int64(-1))
    while word != _DONE:
        at = _lowest_bit(word) * _LANES
        old = _load(memory, at)
        new = _add(old, added)
        wrong = _or(wrong, _and(_xor(old, ones), new))
        _store(memory, at, new)
        word &= word - _ONE
    return wrong


@inlined
def _is_words(array: Any, streams: Any) -> bool:
    """Whether words are (1, streams, 1), and so as they are read."""
    if axes_of(array) != 3 or not is_contiguous(array):
        return False
    return not (size_of(array, 0) != 1 or size_of(array, 1) != streams or size_of(array, 2) != 1)


@compiled
def _step(q_: Any, k_: Any, v_: Any, state_: Any, out_: Any) -> bool:
    """Words (1, streams, 1), state (streams, 64, 64): whether they are so, and all fits.

    If not, nothing has changed.
    """
    if axes_of(state_) != 3 or not is_plain(state_):
        return False
    streams = size_of(state_, 0)
    if not (_is_words(q_, streams) and _is_words(k_, streams) and _is_words(v_, streams)):
        return False
    if size_of(state_, 1) != _LANES or size_of(state_, 2) != _LANES or size_of(out_, 0) != streams:
        return False
    q, k, v = elements_of(q_), elements_of(k_), elements_of(v_)
    state, out = elements_of(state_), elements_of(out_)
    wrong, one, none = _zero(), _splat(np.int64(1)), _zero()
    for s in range(streams):
        memory = state + 2 * s * _LANES * _LANES
        added = _select(_word(v, s), one, none)
        wrong = _or(wrong, _changed(memory, _word(k, s), added))
        total, word = _zero_wide(), _word(q, s)
        while word != _DONE:
            total = _add_wide(total, _widen(_load(memory, _lowest_bit(word) * _LANES)))
            word &= word - _ONE
        _store_wide(out, s * _LANES, total)
    if _below(wrong, none) == _DONE:
        return True
    for s in range(streams):
        taken = _subtract(none, _select(_word(v, s), one, none))
        _changed(state + 2 * s * _LANES * _LANES, _word(k, s), taken)
    return False
