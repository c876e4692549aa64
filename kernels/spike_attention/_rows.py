"""What one token does to a state of 64 columns, and reads from it, with Numba.

A state is memory of D rows of 64 counts, given by its address. An operand is a tuple of integers
(address of its words, address of its codes, planes, words of a plane, words of a row); the code of
a plane is s for weight 2^s and ~s for -2^s.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from neurosim.kernels import _simd, _simd_masks
from neurosim.kernels._jit import inlined
from neurosim.kernels.spike_attention import _memory

LANES = 64
MOST_PARTIAL = 2**16 - 1
_MOST_SURE = 10.0  # bits of a word in the mean; measured
_ONE, _DONE = np.uint64(1), np.uint64(0)

Narrow, Wide = _simd.Vector("int16", LANES), _simd.Vector("int32", LANES)
_zero, _load, _store, _splat = (
    f(Narrow) for f in (_simd.zero, _memory.load, _memory.store, _simd.splat)
)
_add, _subtract, _shift = (_simd.binary(Narrow, name) for name in ("add", "sub", "shl"))
_zero_wide, _load_wide, _store_wide, _splat_wide = (
    f(Wide) for f in (_simd.zero, _memory.load, _memory.store, _simd.splat)
)
_add_wide, _subtract_wide, _and_wide, _shift_wide = (
    _simd.binary(Wide, name) for name in ("add", "sub", "and_", "shl")
)
_select, _select_wide = _simd_masks.select(Narrow), _simd_masks.select(Wide)
_sign_extended = _simd.widen(Narrow, Wide)
_word, _lowest_bit = _memory.load_word, _simd.lowest_bit
_trailing_zeros, _count_bits = _memory.trailing_zeros, _simd_masks.count_bits


@inlined
def code_of(operand: Any, plane: Any) -> Any:
    """Code of a plane."""
    return np.int64(_word(operand[1], plane))


@inlined
def expected_bits(x: Any, first: Any, step: Any, tokens: Any) -> Any:
    """How many bits to take from a word without looking, from the words of some rows.

    Whether another bit follows is a branch that is missed once a word; taking a little more than
    the mean costs less while there are few. 0 where a row has several words, or many bits.
    """
    if x[4] != 1:
        return 0
    bits = 0
    for p in range(x[2]):
        for t in range(tokens):
            bits += _count_bits(_word(x[0], p * x[3] + first + t * step))
    mean = bits / max(tokens * x[2], 1)
    return int(mean + 0.7 * np.sqrt(mean) + 0.5) if mean <= _MOST_SURE else 0


@inlined
def weight(code: Any) -> Any:
    """What a set bit counts."""
    return np.int64(1) << code if code >= 0 else -(np.int64(1) << ~code)


@inlined
def value(v: Any, at: Any) -> Any:
    """Counts of the 64 channels whose words are the ones `at` of each plane of v."""
    counts, none = _zero(), _zero()
    for p in range(v[2]):
        bit = _splat(weight(code_of(v, p)))
        counts = _add(counts, _select(_word(v[0], at + p * v[3]), bit, none))
    return counts


@inlined
def value_wide(v: Any, at: Any) -> Any:
    """`value` in int32."""
    counts, none = _zero_wide(), _zero_wide()
    for p in range(v[2]):
        bit = _splat_wide(weight(code_of(v, p)))
        counts = _add_wide(counts, _select_wide(_word(v[0], at + p * v[3]), bit, none))
    return counts


@inlined
def scaled(counts: Any, code: Any) -> Any:
    """Counts times the weight of a plane."""
    if code >= 0:
        return _shift(counts, _splat(code))
    return _subtract(_zero(), _shift(counts, _splat(~code)))


@inlined
def scaled_wide(counts: Any, code: Any) -> Any:
    """`scaled` in int32."""
    if code >= 0:
        return _shift_wide(counts, _splat_wide(code))
    return _subtract_wide(_zero_wide(), _shift_wide(counts, _splat_wide(~code)))


@inlined
def update(memory: Any, k: Any, row: Any, counts: Any, sure: Any) -> None:
    """Add the counts to each row whose bit is set in row `row` of k, scaled by its plane.

    The first `sure` bits are taken without looking whether they are there; those that are not go to
    row 64, which stays zero. For operands of one word a row; 0 for others.
    """
    for p in range(k[2]):
        added = scaled(counts, code_of(k, p))
        for w in range(k[4]):
            word = _word(k[0], p * k[3] + row * k[4] + w)
            for _ in range(sure):
                at = _trailing_zeros(word) * LANES
                _store(memory, at, _add(_load(memory, at), added))
                word &= word - _ONE
            while word != _DONE:
                at = (64 * w + _lowest_bit(word)) * LANES
                _store(memory, at, _add(_load(memory, at), added))
                word &= word - _ONE
    if sure > 0:
        _store(memory, 64 * LANES, _zero())


@inlined
def update_wide(memory: Any, k: Any, row: Any, counts: Any) -> None:
    """`update` of a state in int32."""
    for p in range(k[2]):
        added = scaled_wide(counts, code_of(k, p))
        for w in range(k[4]):
            word = _word(k[0], p * k[3] + row * k[4] + w)
            while word != _DONE:
                at = (64 * w + _lowest_bit(word)) * LANES
                _store_wide(memory, at, _add_wide(_load_wide(memory, at), added))
                word &= word - _ONE


@inlined
def _widened(counts: Any) -> Any:
    return _and_wide(_sign_extended(counts), _splat_wide(MOST_PARTIAL))


@inlined
def copy_widened(memory: Any, rows: Any, to: Any, at: Any) -> None:
    """Write rows of an int16 state to an int32 one, from element `at`."""
    for i in range(rows):
        _store_wide(to, at + i * LANES, _sign_extended(_load(memory, i * LANES)))


@inlined
def copy_wide(source: Any, begin: Any, rows: Any, to: Any, at: Any) -> None:
    """Copy rows of an int32 state."""
    for i in range(rows):
        _store_wide(to, at + i * LANES, _load_wide(source, begin + i * LANES))


@inlined
def read(memory: Any, q: Any, row: Any, taken: Any, sure: Any) -> Any:
    """Sum of the rows whose bits are set in row `row` of q; uint16 holds `taken` of them.

    The first `sure` bits, at most `taken`, are taken as in `update`.
    """
    total = _zero_wide()
    for p in range(q[2]):
        shift = _splat_wide(code_of(q, p))
        part, left = _zero(), taken - sure
        for w in range(q[4]):
            word = _word(q[0], p * q[3] + row * q[4] + w)
            for _ in range(sure):
                part = _add(part, _load(memory, _trailing_zeros(word) * LANES))
                word &= word - _ONE
            while word != _DONE:
                if left == 0:
                    total = _add_wide(total, _shift_wide(_widened(part), shift))
                    part, left = _zero(), taken
                part = _add(part, _load(memory, (64 * w + _lowest_bit(word)) * LANES))
                word &= word - _ONE
                left -= 1
        total = _add_wide(total, _shift_wide(_widened(part), shift))
    return total


@inlined
def read_wide(memory: Any, q: Any, row: Any) -> Any:
    """`read` of a state in int32."""
    total = _zero_wide()
    for p in range(q[2]):
        part = _zero_wide()
        for w in range(q[4]):
            word = _word(q[0], p * q[3] + row * q[4] + w)
            while word != _DONE:
                part = _add_wide(part, _load_wide(memory, (64 * w + _lowest_bit(word)) * LANES))
                word &= word - _ONE
        total = _add_wide(total, scaled_wide(part, code_of(q, p)))
    return total
