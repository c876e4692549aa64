"""Attention without decay on packed spikes with Numba.

A state of 64 columns is kept in int16 while none of its counts can pass 32,767: two AVX-512
registers a row. Rows are summed in uint16 for as many rows as cannot overflow (65,535 over the
bound on a count), then moved to int32. Later tokens, and signed counts, use a state in int32.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from neurosim.kernels import _simd_masks
from neurosim.kernels._aligned import aligned
from neurosim.kernels._jit import compiled, inlined
from neurosim.kernels.packed._words import Words, new_words
from neurosim.kernels.spike_attention import _memory, _rows
from neurosim.kernels.spike_attention._linear_binary import attend, supports
from neurosim.kernels.spike_attention._types import Counts, Planes, State

_LANES, _MOST_PARTIAL = _rows.LANES, _rows.MOST_PARTIAL
_MOST_NARROW, _NEVER = 2**15 - 1, 2**31 - 1
_RENEWED = 64  # tokens between two looks at how many rows may be summed and how many come
_NOTHING, _NO_WORDS = np.empty(0, np.int32), np.empty(0, np.uint64)

_value, _update, _read = _rows.value, _rows.update, _rows.read
_value_wide, _update_wide, _read_wide = _rows.value_wide, _rows.update_wide, _rows.read_wide
_expected_bits, _copy_widened, _copy_wide = (
    _rows.expected_bits,
    _rows.copy_widened,
    _rows.copy_wide,
)
_load_wide, _store_wide = _memory.load(_rows.Wide), _memory.store(_rows.Wide)
_at_least = _simd_masks.compare(_rows.Wide, ">=")
_address, _store_word = _memory.address, _memory.store_word


def linear(
    q: Planes,
    k: Planes,
    v: Planes,
    state: State | None,
    fresh: bool,
    causal: bool,
    thresholds: Counts | None,
) -> Any:
    """See reference.py."""
    _, groups, tokens, heads, blocks = v.words.shape
    narrow, start, step = 0, 0, k.levels * v.levels
    if not (q.signed or k.signed or v.signed):
        if state is not None and not fresh and state.size:
            start = int(state.max()) if state.min() >= 0 else _MOST_PARTIAL
        narrow = min(tokens, max(0, (_MOST_NARROW - start) // step))
    wide_columns, size = blocks * _LANES, q.columns * _LANES
    if thresholds is None:
        sums, words = np.empty((groups, tokens, heads, wide_columns), np.int32), _NO_WORDS
        padded, levels, edges = _NOTHING, 0, 1
    else:
        levels, edges, _ = thresholds.shape
        sums, words = _NOTHING, new_words((levels, groups, tokens, heads, blocks))
        padded = thresholds
        if v.columns != wide_columns:
            padded = np.full((levels, edges, wide_columns), _NEVER, np.int32)
            padded[..., : v.columns] = thresholds
    tiles = _NOTHING if state is None else _tiled(state, blocks, fresh)
    planes = q.words.shape[0] + k.words.shape[0] + v.words.shape[0]
    if causal and fresh and supports(planes, q.words.shape[4], blocks, tokens, levels):
        a, b, c = (x.words.reshape(groups, tokens, heads) for x in (q, k, v))
        attend(a, b, c, q.columns, tiles, padded, edges, sums, words)
    else:
        _linear(
            q.words.reshape(-1),
            k.words.reshape(-1),
            v.words.reshape(-1),
            q.codes,
            k.codes,
            v.codes,
            (groups, tokens, heads, q.words.shape[4], blocks, q.columns),
            causal,
            (narrow, start, step),
            tiles.reshape(-1),
            fresh,
            padded.reshape(-1),
            (levels, edges),
            sums.reshape(-1),
            words.reshape(-1),
            aligned(((max(q.columns, 64) + 1) * _LANES if narrow else 0,), np.int16),
            aligned((size if narrow < tokens or not narrow else 0,), np.int32),
        )
    if state is not None and not np.shares_memory(tiles, state):
        state[:] = tiles.swapaxes(2, 3).reshape(*state.shape[:3], wide_columns)[..., : v.columns]
    return sums[..., : v.columns] if thresholds is None else words


def _tiled(state: State, blocks: int, fresh: bool) -> State:
    """State (G, H, D, V) by blocks of 64 columns, (G, H, blocks, D, 64); itself where it can be."""
    groups, heads, channels, columns = state.shape
    if columns == _LANES:
        return state.reshape(groups, heads, 1, channels, _LANES)
    padded = np.zeros((groups, heads, channels, blocks * _LANES), np.int32)
    if not fresh:
        padded[..., :columns] = state
    tiles = padded.reshape(groups, heads, channels, blocks, _LANES).swapaxes(2, 3)
    return np.ascontiguousarray(tiles)


@inlined
def _emit(total: Any, thresholds: Any, sums: Any, words: Any, row: Any, where: Any) -> None:
    """One column block of row `row` of the sums, or of the words of every level."""
    levels, edge, edge_step, rows, blocks, block = where
    for level in range(levels):
        above = _at_least(total, _load_wide(thresholds, edge + level * edge_step))
        _store_word(words, (level * rows + row) * blocks + block, above)
    if levels == 0:
        _store_wide(sums, (row * blocks + block) * _LANES, total)


@compiled
def _linear(
    q_words: Words,
    k_words: Words,
    v_words: Words,
    q_codes: Any,
    k_codes: Any,
    v_codes: Any,
    sizes: tuple[int, int, int, int, int, int],
    causal: bool,
    limits: tuple[int, int, int],
    state: Counts,
    fresh: bool,
    thresholds: Counts,
    edge_sizes: tuple[int, int],
    sums: Counts,
    words: Words,
    narrow_memory: Any,
    wide_memory: Counts,
) -> None:
    groups, tokens, heads, width, blocks, channels = sizes
    narrow, start, step = limits
    levels, edges = edge_sizes
    rows, tile = groups * tokens * heads, channels * _LANES
    q = (_address(q_words), _address(q_codes), q_codes.shape[0], rows * width, width)
    k = (_address(k_words), _address(k_codes), k_codes.shape[0], rows * width, width)
    v = (_address(v_words), _address(v_codes), v_codes.shape[0], rows * blocks, blocks)
    memory, memory_wide, state_at = (
        _address(narrow_memory),
        _address(wide_memory),
        _address(state),
    )
    edge_at, sums_at, words_at = _address(thresholds), _address(sums), _address(words)
    for stream in range(groups * heads):
        first = stream // heads * tokens * heads + stream % heads
        for block in range(blocks):
            kept = (stream * blocks + block) * tile
            edge = ((stream % edges) * blocks + block) * _LANES
            where = (levels, edge, edges * blocks * _LANES, rows, blocks, block)
            if fresh:
                narrow_memory[:] = 0
                wide_memory[:] = 0
            elif narrow > 0:
                narrow_memory[tile:] = 0
                for i in range(tile):  # a slice of int32 would be copied first
                    narrow_memory[i] = state[kept + i]
            else:
                _copy_wide(state_at, kept, channels, memory_wide, 0)
            taken, sure_k, sure_q = 1, 0, 0
            for t in range(narrow):
                row = first + t * heads
                if t % _RENEWED == 0:
                    ahead = min(_RENEWED, narrow - t)
                    taken = _MOST_PARTIAL // (start + step * (t + ahead))
                    sure_k = _expected_bits(k, row, heads, ahead)
                    sure_q = min(taken, _expected_bits(q, row, heads, ahead))
                _update(memory, k, row, _value(v, row * blocks + block), sure_k)
                if causal:
                    total = _read(memory, q, row, taken, sure_q)
                    _emit(total, edge_at, sums_at, words_at, row, where)
            if narrow > 0 and narrow < tokens:
                _copy_widened(memory, channels, memory_wide, 0)
            for t in range(narrow, tokens):
                row = first + t * heads
                _update_wide(memory_wide, k, row, _value_wide(v, row * blocks + block))
                if causal:
                    _emit(_read_wide(memory_wide, q, row), edge_at, sums_at, words_at, row, where)
            if not causal:
                taken = _MOST_PARTIAL // max(1, start + step * tokens)
                sure_q = min(taken, _expected_bits(q, first, heads, min(_RENEWED, tokens)))
                for t in range(tokens):
                    row = first + t * heads
                    if narrow == tokens:
                        total = _read(memory, q, row, taken, sure_q)
                    else:
                        total = _read_wide(memory_wide, q, row)
                    _emit(total, edge_at, sums_at, words_at, row, where)
            if state.size and narrow == tokens and narrow > 0:
                _copy_widened(memory, channels, state_at, kept)
            elif state.size:
                _copy_wide(memory_wide, 0, channels, state_at, kept)
