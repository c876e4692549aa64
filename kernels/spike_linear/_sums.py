"""Sums of listed weight rows, in registers: the inner loop of every list-driven kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from neurosim.kernels._lanes import (
    add,
    as_signed,
    both,
    interleave,
    load,
    load_half,
    prefetch,
    shift_left,
    shift_right,
    splat,
    subtract,
    widen,
    zeros,
)

BYTES = 255  # rows whose bytes fit a 16-bit sum exactly
NIBBLES = 17  # rows whose 4-bit fields fit an 8-bit sum
BLOCK = 256 * NIBBLES  # rows whose 4-bit fields fit a 16-bit sum
AHEAD = 12  # rows fetched before they are needed, where weights come from memory


def sum_rows(
    onto: Any,
    panel: Any,
    channels: Any,
    start: int,
    stop: int,
    bits: int,
    width: int,
    far: int,
    sign: int,
) -> Any:
    """onto + or - the rows channels[start:stop] of a panel, a vector of `width` outputs.

    Args:
        onto: float32 vector (32 and 16 bits), to which rows are added one by one, or int32.
        panel: one panel of a PackedWeight, flat.
        channels: inputs, any integer type.
        bits, width: of the PackedWeight; literals.
        far: 1 where the panel comes from memory and rows should be fetched ahead; a literal.
        sign: 1 to add, -1 to subtract; a literal.
    """
    raise NotImplementedError("for Numba")


@overload(sum_rows, prefer_literal=True, jit_options={"forceinline": True})  # type: ignore[untyped-decorator]
def _sum_rows(
    onto: Any,
    panel: Any,
    channels: Any,
    start: Any,
    stop: Any,
    bits: Any,
    width: Any,
    far: Any,
    sign: Any,
) -> Callable[..., Any] | None:
    if not isinstance(bits, types.IntegerLiteral):
        return None  # only the literal call has an implementation
    number = bits.literal_value
    kind = {32: _floats, 16: _floats, 8: _bytes, 4: _nibbles}[number]
    return kind(number, width.literal_value, far.literal_value, sign.literal_value)


def load_floats(panel: Any, at: Any, bits: int, width: int) -> Any:
    """`width` float32 of a panel of 32 or 16 bits, from element `at`."""
    raise NotImplementedError("for Numba")


@overload(load_floats, prefer_literal=True, jit_options={"forceinline": True})  # type: ignore[untyped-decorator]
def _load_floats(panel: Any, at: Any, bits: Any, width: Any) -> Callable[..., Any] | None:
    if not isinstance(bits, types.IntegerLiteral):
        return None

    def single(panel: Any, at: Any, bits: Any, width: Any) -> Any:
        return load(panel, at, width)

    def half(panel: Any, at: Any, bits: Any, width: Any) -> Any:
        return load_half(panel, at, width)

    return single if bits.literal_value == 32 else half


def fetch_row(panel: Any, at: Any, elements: int) -> None:
    """Prefetch `elements` from `at`."""
    raise NotImplementedError("for Numba")


@overload(fetch_row, prefer_literal=True, jit_options={"forceinline": True})  # type: ignore[untyped-decorator]
def _fetch_row(panel: Any, at: Any, elements: Any) -> Callable[..., Any]:
    line = 64 // (panel.dtype.bitwidth // 8)

    def fetch(panel: Any, at: Any, elements: Any) -> None:
        for element in range(0, elements, line):
            prefetch(panel, at + element)

    return fetch


# The constants are ints of an enclosing function: literals for Numba wherever they are used.


def _floats(size: int, outputs: int, ahead: int, direction: int) -> Callable[..., Any]:
    def implementation(
        onto: Any,
        panel: Any,
        channels: Any,
        start: Any,
        stop: Any,
        bits: Any,
        width: Any,
        far: Any,
        sign: Any,
    ) -> Any:
        total = onto
        for event in range(start, stop):
            if ahead and event + AHEAD < channels.shape[0]:
                fetch_row(panel, np.int64(channels[event + AHEAD]) * outputs, outputs)
            x = load_floats(panel, np.int64(channels[event]) * outputs, size, outputs)
            total = add(total, x) if direction > 0 else subtract(total, x)
        return total

    return implementation


def _bytes(size: int, outputs: int, ahead: int, direction: int) -> Callable[..., Any]:
    lanes = outputs // 2

    def implementation(
        onto: Any,
        panel: Any,
        channels: Any,
        start: Any,
        stop: Any,
        bits: Any,
        width: Any,
        far: Any,
        sign: Any,
    ) -> Any:
        """x = 256 high + low in a lane: sum low = sum x - 256 sum high, both kept modulo 2^16."""
        total = subtract(onto, onto)
        for first in range(start, stop, BYTES):
            last = min(first + BYTES, stop)
            low, high = zeros(panel, lanes), zeros(panel, lanes)
            for event in range(first, last):
                if ahead and event + AHEAD < channels.shape[0]:
                    fetch_row(panel, np.int64(channels[event + AHEAD]) * lanes, lanes)
                x = load(panel, np.int64(channels[event]) * lanes, lanes)
                low, high = add(low, x), add(high, shift_right(x, 8))
            low = subtract(low, shift_left(high, 8))
            total = add(total, as_signed(widen(interleave(low, high, 32))))
        total = subtract(total, splat(total, 128 * (stop - start)))
        return add(onto, total) if direction > 0 else subtract(onto, total)

    return implementation


def _nibbles(size: int, outputs: int, ahead: int, direction: int) -> Callable[..., Any]:
    lanes, double = outputs // 4, outputs // 2

    def implementation(
        onto: Any,
        panel: Any,
        channels: Any,
        start: Any,
        stop: Any,
        bits: Any,
        width: Any,
        far: Any,
        sign: Any,
    ) -> Any:
        """Fields 0, 2 and 1, 3 of a lane are summed in its two bytes, then all in 16 bits."""
        total = subtract(onto, onto)
        zero = zeros(panel, lanes)
        for block in range(start, stop, BLOCK):
            a, b, c, d = zero, zero, zero, zero
            end = min(block + BLOCK, stop)
            for first in range(block, end, NIBBLES):
                last = min(first + NIBBLES, end)
                even, odd = zero, zero
                for event in range(first, last):
                    if ahead and event + AHEAD < channels.shape[0]:
                        fetch_row(panel, np.int64(channels[event + AHEAD]) * lanes, lanes)
                    x = load(panel, np.int64(channels[event]) * lanes, lanes)
                    even = add(even, both(x, 0x0F0F))
                    odd = add(odd, both(shift_right(x, 4), 0x0F0F))
                a, c = add(a, both(even, 0xFF)), add(c, shift_right(even, 8))
                b, d = add(b, both(odd, 0xFF)), add(d, shift_right(odd, 8))
            ab, cd = interleave(a, b, lanes), interleave(c, d, lanes)
            total = add(total, as_signed(widen(interleave(ab, cd, double))))
        total = subtract(total, splat(total, 8 * (stop - start)))
        return add(onto, total) if direction > 0 else subtract(onto, total)

    return implementation
