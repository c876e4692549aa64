"""Causal attention of binary spikes without decay, heads of up to 64 channels, with Numba.

The case of most networks, without what the general kernel spends on planes, blocks and states that
were handed in. Two streams go side by side: whether another bit follows is a branch that no
processor can predict, and two streams miss it once. Bits that are known to come, by the counts of
64 tokens, are taken without looking; those that are not there read row 64 of the state, which is
zero, and write to one of 16 rows behind it, so that no store waits for another.

Counts are int16: at most 32,767 tokens. Rows are summed in uint16 while as many as a word has
cannot overflow it (the first 1,022 tokens), later as many as cannot, and then in int32.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from neurosim.kernels import _simd, _simd_masks
from neurosim.kernels._aligned import aligned
from neurosim.kernels._jit import compiled, inlined
from neurosim.kernels.packed._words import Words
from neurosim.kernels.spike_attention import _memory, _rows
from neurosim.kernels.spike_attention._types import Counts

_LANES, _MOST_PARTIAL = _rows.LANES, _rows.MOST_PARTIAL
_MOST_TOKENS = 2**15 - 1
_LOOK = 64  # tokens whose bits are counted ahead
_SPARE = 16  # rows for bits that are not there
_ROWS = _LANES + 1 + _SPARE
_MARGIN = 0.7  # standard deviations of a count of bits that are taken without looking; measured
_OFFSET = 2**15
_ONE, _DONE = np.uint64(1), np.uint64(0)
_ALL = ~_DONE
_zero, _load, _store, _splat = (
    f(_rows.Narrow) for f in (_simd.zero, _memory.load, _memory.store, _simd.splat)
)
_zero_wide, _load_wide, _store_wide, _splat_wide = (
    f(_rows.Wide) for f in (_simd.zero, _memory.load, _memory.store, _simd.splat)
)
_add, _add_wide, _and_wide = (
    _simd.binary(_rows.Narrow, "add"),
    _simd.binary(_rows.Wide, "add"),
    _simd.binary(_rows.Wide, "and_"),
)
_select, _at_least = _simd_masks.select(_rows.Narrow), _simd_masks.compare(_rows.Narrow, ">=")
_at_least_wide, _sign_extended = (
    _simd_masks.compare(_rows.Wide, ">="),
    _simd.widen(_rows.Narrow, _rows.Wide),
)
_address, _word, _put = _memory.address, _memory.load_word, _memory.store_word
_zeros, _count_bits = _memory.trailing_zeros, _simd_masks.count_bits
_copy_widened = _rows.copy_widened


def supports(planes: int, words: int, blocks: int, tokens: int, levels: int) -> bool:
    """Whether q, k and v of so many planes, and q and v of so many words a row, are this case."""
    return planes == 3 and words == blocks == 1 and 0 < tokens <= _MOST_TOKENS and levels <= 1


def attend(
    q: Words, k: Words, v: Words, channels: int, state: Counts, thresholds: Counts, edges: int,
    sums: Counts, words: Words,
) -> None:  # fmt: skip
    """Fill sums (G, L, H, 64), or words (G, L, H) where there are thresholds (edges, 64).

    Also `state` (G, H, D, 64) unless it is empty. Operands are words (G, L, H); thresholds beyond
    the columns are more than any sum.
    """
    groups, tokens, heads = q.shape
    scratch = aligned((2 * _ROWS * _LANES,), np.int16)
    narrow = aligned((max(edges, 1), _LANES), np.int16)
    limits = thresholds.reshape(-1, _LANES)
    if limits.size:
        narrow[:] = np.clip(limits, 0, _MOST_PARTIAL) - _OFFSET
    never = limits > _MOST_PARTIAL
    possible = ~np.packbits(never, axis=1, bitorder="little").view(np.uint64).reshape(-1)
    _attend(
        q.reshape(-1), k.reshape(-1), v.reshape(-1), groups * heads, tokens, heads, channels,
        thresholds.reshape(-1), narrow.reshape(-1), possible, edges, state.reshape(-1),
        sums.reshape(-1), words.reshape(-1), scratch,
    )  # fmt: skip


@inlined
def _sure(x: Any, row: Any, step: Any, tokens: Any) -> Any:
    """How many bits to take from a word without looking."""
    bits = 0
    for t in range(tokens):
        bits += _count_bits(_word(x, row + t * step))
    mean = bits / tokens
    return int(mean + _MARGIN * np.sqrt(mean) + 0.5)


@inlined
def _bump(memory: Any, word: Any, added: Any, spare: Any) -> Any:
    """Add to the row of the lowest bit; to a spare row if there is none. The word without it."""
    at = _zeros(word)
    at = (at + (at >> 6) * spare) * _LANES
    _store(memory, at, _add(_load(memory, at), added))
    return word & (word - _ONE)


@inlined
def _row(memory: Any, word: Any) -> Any:
    """The row of the lowest bit; zeros if there is none."""
    return _load(memory, _zeros(word) * _LANES)


@inlined
def _long_sum(memory: Any, word: Any, taken: Any) -> Any:
    """Sum of the rows of a word in int32, `taken` of them at a time in uint16."""
    total = _zero_wide()
    while word != _DONE:
        part = _zero()
        for _ in range(taken):
            part = _add(part, _row(memory, word))
            word &= word - _ONE
        total = _add_wide(total, _and_wide(_sign_extended(part), _splat_wide(_MOST_PARTIAL)))
    return total


@compiled
def _attend(
    q_: Any, k_: Any, v_: Any, streams: int, tokens: int, heads: int, channels: int,
    thresholds_: Any, narrow_: Any, possible_: Any, edges: int, state_: Any, sums_: Any,
    words_: Any, scratch_: Any,
) -> None:  # fmt: skip
    q, k, v = _address(q_), _address(k_), _address(v_)
    thresholds, narrow, possible = _address(thresholds_), _address(narrow_), _address(possible_)
    state, sums, words = _address(state_), _address(sums_), _address(words_)
    spiking = words_.size > 0
    one, none, start = _splat(np.int64(1)), _zero(), _splat(np.int64(-_OFFSET if spiking else 0))
    here = _address(scratch_)
    there = here + 2 * _ROWS * _LANES
    for s in range(0, streams, 2):
        other = min(s + 1, streams - 1)  # of an odd number, the last one is done twice over
        first = s // heads * tokens * heads + s % heads
        second = other // heads * tokens * heads + other % heads
        edge_a, edge_b = s % max(edges, 1), other % max(edges, 1)
        scratch_[:] = 0
        sure_k, sure_q, taken = 0, 0, 64
        for t in range(tokens):
            a, b = first + t * heads, second + t * heads
            if t % _LOOK == 0:
                ahead = min(_LOOK, tokens - t)
                sure_k = max(_sure(k, a, heads, ahead), _sure(k, b, heads, ahead))
                sure_q = max(_sure(q, a, heads, ahead), _sure(q, b, heads, ahead))
                taken = _MOST_PARTIAL // (t + ahead)
            added_a = _select(_word(v, a), one, none)
            added_b = _select(_word(v, b), one, none)
            word_a, word_b = _word(k, a), _word(k, b)
            for i in range(sure_k):
                spare = 1 + i % _SPARE
                word_a = _bump(here, word_a, added_a, spare)
                word_b = _bump(there, word_b, added_b, spare)
            while (word_a | word_b) != _DONE:
                word_a = _bump(here, word_a, added_a, 1)
                word_b = _bump(there, word_b, added_b, 1)
            word_a, word_b = _word(q, a), _word(q, b)
            if taken < 64 and max(_count_bits(word_a), _count_bits(word_b)) > taken:
                long_a, long_b = _long_sum(here, word_a, taken), _long_sum(there, word_b, taken)
                if spiking:
                    limit_a = _load_wide(thresholds, edge_a * _LANES)
                    limit_b = _load_wide(thresholds, edge_b * _LANES)
                    _put(words, a, _at_least_wide(long_a, limit_a))
                    _put(words, b, _at_least_wide(long_b, limit_b))
                else:
                    _store_wide(sums, a * _LANES, long_a)
                    _store_wide(sums, b * _LANES, long_b)
                continue
            sum_a, sum_b = start, start
            for _ in range(sure_q):
                sum_a, sum_b = _add(sum_a, _row(here, word_a)), _add(sum_b, _row(there, word_b))
                word_a &= word_a - _ONE
                word_b &= word_b - _ONE
            while (word_a | word_b) != _DONE:
                sum_a, sum_b = _add(sum_a, _row(here, word_a)), _add(sum_b, _row(there, word_b))
                word_a &= word_a - _ONE
                word_b &= word_b - _ONE
            if spiking:
                fired_a = _at_least(sum_a, _load(narrow, edge_a * _LANES))
                fired_b = _at_least(sum_b, _load(narrow, edge_b * _LANES))
                _put(words, a, fired_a & _word(possible, edge_a))
                _put(words, b, fired_b & _word(possible, edge_b))
            else:
                low = _splat_wide(_MOST_PARTIAL)
                _store_wide(sums, a * _LANES, _and_wide(_sign_extended(sum_a), low))
                _store_wide(sums, b * _LANES, _and_wide(_sign_extended(sum_b), low))
        if state_.size:
            _copy_widened(here, channels, state, s * channels * _LANES)
            _copy_widened(there, channels, state, other * channels * _LANES)
