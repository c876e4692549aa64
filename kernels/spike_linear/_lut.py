"""The method of the four Russians: sums of every four weight rows are tabulated, then looked up.

For a block of outputs and the 64 inputs of one word, the 16 sums of each of its 16 groups of four
rows fill a table of 32 KB, which the first-level cache holds. Every row of spikes then adds 16
table entries, whichever and however many of its bits are set (Arlazarov, Dinic, Kronrod and
Faradzev 1970). Partial sums stay in a scratch block of their own between words: the rows of the
result lie a power of two apart and would evict each other.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from neurosim.kernels._jit import compiled
from neurosim.kernels._lanes import (
    add,
    add_constant,
    as_signed,
    both,
    interleave,
    load,
    load_like,
    multiply,
    shift_left,
    shift_right,
    splat,
    store,
    subtract,
    widen,
    zeros,
)
from neurosim.kernels._simd import lowest_bit
from neurosim.kernels._simd_masks import count_bits
from neurosim.kernels.spike_linear._sums import load_floats

ROWS = 1024  # rows of spikes that share one table
GROUPS = 16  # of four inputs in a word
_BYTE_WORDS = 4  # words whose sums of bytes fit 16 bits: 256 x 128 = 2^15
_NIBBLE_WORDS = 64  # words whose sums of 4-bit fields fit 16 bits: 4096 x 15 < 2^16


def lanes_of(bits: int, width: int) -> int:
    """Elements of a table entry: float32 (32 and 16 bits), int16 (8) or uint16 (4)."""
    return {32: 32, 16: 32, 8: 64, 4: width // 2}[bits]


def table_row(panel: Any, at: int, bits: int, lanes: int) -> Any:
    """What one weight row, from element `at` of a panel, adds to table entries."""
    raise NotImplementedError("for Numba")


@overload(table_row, prefer_literal=True, jit_options={"forceinline": True})  # type: ignore[untyped-decorator]
def _table_row(panel: Any, at: Any, bits: Any, lanes: Any) -> Callable[..., Any] | None:
    if not isinstance(bits, types.IntegerLiteral):
        return None
    size, count = bits.literal_value, lanes.literal_value
    half = count // 2

    def floats(panel: Any, at: Any, bits: Any, lanes: Any) -> Any:
        return load_floats(panel, at, size, count)

    def integers(panel: Any, at: Any, bits: Any, lanes: Any) -> Any:
        x = load(panel, at, half)
        low, high = add_constant(both(x, 0xFF), -128), add_constant(shift_right(x, 8), -128)
        return as_signed(interleave(low, high, half))

    def nibbles(panel: Any, at: Any, bits: Any, lanes: Any) -> Any:
        """Fields 0, 2 in the bytes of the first half, 1, 3 in those of the second."""
        x = load(panel, at, half)
        return interleave(both(x, 0x0F0F), both(shift_right(x, 4), 0x0F0F), half)

    return {32: floats, 16: floats, 8: integers, 4: nibbles}[size]


def sums_of(total: Any) -> Any:
    """Table entries as the result has them: float32, or int16 widened to int32."""
    raise NotImplementedError("for Numba")


@overload(sums_of, jit_options={"forceinline": True})  # type: ignore[untyped-decorator]
def _sums_of(total: Any) -> Callable[..., Any]:
    def same(total: Any) -> Any:
        return total

    def wide(total: Any) -> Any:
        return widen(total)

    return same if total.element == "float32" else wide


def fill_table(
    table: Any, panel: Any, at: int, inputs: int, elements: int, bits: int, lanes: int
) -> None:
    """Tabulate 16 groups of 4 inputs; rows of `elements` from `at`, `inputs` of them left."""
    raise NotImplementedError("for Numba")


@overload(fill_table, prefer_literal=True, jit_options={"forceinline": True})  # type: ignore[untyped-decorator]
def _fill_table(
    table: Any, panel: Any, at: Any, inputs: Any, elements: Any, bits: Any, lanes: Any
) -> Callable[..., Any] | None:
    if not isinstance(bits, types.IntegerLiteral):
        return None
    size, count = bits.literal_value, lanes.literal_value

    def fill(
        table: Any, panel: Any, at: Any, inputs: Any, elements: Any, bits: Any, lanes: Any
    ) -> None:
        for group in range(GROUPS):
            base = group * 16 * count
            store(table, base, zeros(table, count))
            for subset in range(1, 16):
                member = 4 * group + lowest_bit(np.uint64(subset))
                if member < inputs:  # no word has a bit beyond the last input
                    x = table_row(panel, at + member * elements, size, count)
                    rest = load(table, base + (subset & (subset - 1)) * count, count)
                    store(table, base + subset * count, add(rest, x))

    return fill


@functools.cache
def lut(bits: int, width: int) -> Callable[..., None]:
    """The kernel for one plane of spikes and this type of weights, but for 4 bits."""
    lanes = lanes_of(bits, width)
    elements = width // 2 if bits == 8 else width  # of a weight row
    blocks = width // lanes  # of a panel
    step = elements // blocks
    period = _BYTE_WORDS if bits == 8 else 1 << 30

    @compiled
    def look_up(
        words: Any,
        factor: int,
        fresh: bool,
        inputs: int,
        panels: Any,
        table: Any,
        sums: Any,
        out: Any,
        columns: int,
        first_panel: int,
        last_panel: int,
        first_row: int,
        last_row: int,
    ) -> None:
        """out = (fresh) or += factor times one plane's sums, for rows and panels of out.

        Scratch: table (16 x 16 x lanes), sums (ROWS x lanes) of its type.
        """
        for start in range(first_row, last_row, ROWS):
            stop = min(start + ROWS, last_row)
            for part in range(first_panel * blocks, last_panel * blocks):
                panel = panels[part // blocks]
                offset = part % blocks * step
                for word in range(words.shape[1]):
                    at = 64 * word * elements + offset
                    fill_table(table, panel, at, inputs - 64 * word, elements, bits, lanes)
                    begin = word % period == 0
                    end = (word + 1) % period == 0 or word + 1 == words.shape[1]
                    first = fresh and word < period
                    for row in range(start, stop):
                        place = (row - start) * lanes
                        total = zeros(sums, lanes) if begin else load(sums, place, lanes)
                        code = words[row, word]
                        for group in range(GROUPS):
                            entry = (group * 16 + np.int64(code & np.uint64(15))) * lanes
                            total = add(total, load(table, entry, lanes))
                            code >>= np.uint64(4)
                        if end:
                            result = sums_of(total)
                            if factor != 1:
                                result = multiply(result, splat(result, factor))
                            target = row * columns + part * lanes
                            if not first:
                                result = add(result, load_like(result, out, target))
                            store(out, target, result)
                        else:
                            store(sums, place, total)

    return look_up


@functools.cache
def lut_nibbles(width: int) -> Callable[..., None]:
    """The kernel for one plane of spikes and 4-bit weights, with entries of 8-bit sums."""
    lanes = lanes_of(4, width)
    elements = width // 4
    double = 2 * lanes

    @compiled
    def look_up_nibbles(
        words: Any,
        factor: int,
        fresh: bool,
        inputs: int,
        panels: Any,
        table: Any,
        sums: Any,
        out: Any,
        columns: int,
        first_panel: int,
        last_panel: int,
        first_row: int,
        last_row: int,
    ) -> None:
        """As look_up; sums (ROWS x 2 lanes): of both bytes modulo 2^16, then of the high ones."""
        for start in range(first_row, last_row, ROWS):
            stop = min(start + ROWS, last_row)
            for number in range(first_panel, last_panel):
                panel = panels[number]
                for word in range(words.shape[1]):
                    at = 64 * word * elements
                    fill_table(table, panel, at, inputs - 64 * word, elements, 4, lanes)
                    begin = word % _NIBBLE_WORDS == 0
                    end = (word + 1) % _NIBBLE_WORDS == 0 or word + 1 == words.shape[1]
                    first = fresh and word < _NIBBLE_WORDS
                    for row in range(start, stop):
                        place = (row - start) * double
                        if begin:
                            both_bytes, high = zeros(sums, lanes), zeros(sums, lanes)
                        else:
                            both_bytes = load(sums, place, lanes)
                            high = load(sums, place + lanes, lanes)
                        code = words[row, word]
                        for quarter in range(0, GROUPS, 4):  # 4 entries are 16 x 15 at most
                            entry = (quarter * 16 + np.int64(code & np.uint64(15))) * lanes
                            part = load(table, entry, lanes)
                            for group in range(quarter + 1, quarter + 4):
                                code >>= np.uint64(4)
                                entry = (group * 16 + np.int64(code & np.uint64(15))) * lanes
                                part = add(part, load(table, entry, lanes))
                            code >>= np.uint64(4)
                            both_bytes = add(both_bytes, part)
                            high = add(high, shift_right(part, 8))
                        if end:
                            active = np.int64(0)
                            for w in range(word - word % _NIBBLE_WORDS, word + 1):
                                active += count_bits(words[row, w])
                            low = subtract(both_bytes, shift_left(high, 8))
                            result = as_signed(widen(interleave(low, high, lanes)))
                            result = subtract(result, splat(result, 8 * active))
                            if factor != 1:
                                result = multiply(result, splat(result, factor))
                            target = row * columns + number * double
                            if not first:
                                result = add(result, load_like(result, out, target))
                            store(out, target, result)
                        else:
                            store(sums, place, both_bytes)
                            store(sums, place + lanes, high)

    return look_up_nibbles
