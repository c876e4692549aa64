"""Sums of listed rows of integers before they are widened: cheap to add to each other.

A partial sum is a uint16 vector with a lane for every output of a panel. For 8 bits, the first half
is the sum modulo 2^16 of the elements and the second half the sum of their high bytes; for 4 bits,
each quarter is the sum of a field. They may be added up to `LONGEST` rows in all.
"""

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
    part,
    shift_left,
    shift_right,
    splat,
    subtract,
    widen,
    zeros,
)
from neurosim.kernels.spike_linear._sums import AHEAD, BLOCK, BYTES, NIBBLES, fetch_row

LONGEST = {8: BYTES, 4: BLOCK}
"""Rows whose fields fit 16 bits."""


def partial_rows(
    panel: Any, channels: Any, start: int, stop: int, bits: int, width: int, far: int
) -> Any:
    """Partial sum of the rows channels[start:stop]; arguments as of `sum_rows`."""
    raise NotImplementedError("for Numba")


@overload(partial_rows, prefer_literal=True, jit_options={"forceinline": True})  # type: ignore[untyped-decorator]
def _partial_rows(
    panel: Any, channels: Any, start: Any, stop: Any, bits: Any, width: Any, far: Any
) -> Callable[..., Any] | None:
    if not isinstance(bits, types.IntegerLiteral):
        return None
    lanes, ahead = width.literal_value * bits.literal_value // 16, far.literal_value
    double = 2 * lanes

    def of_bytes(
        panel: Any, channels: Any, start: Any, stop: Any, bits: Any, width: Any, far: Any
    ) -> Any:
        low, high = zeros(panel, lanes), zeros(panel, lanes)
        for event in range(start, stop):
            if ahead and event + AHEAD < channels.shape[0]:
                fetch_row(panel, np.int64(channels[event + AHEAD]) * lanes, lanes)
            x = load(panel, np.int64(channels[event]) * lanes, lanes)
            low, high = add(low, x), add(high, shift_right(x, 8))
        return interleave(low, high, lanes)

    def of_nibbles(
        panel: Any, channels: Any, start: Any, stop: Any, bits: Any, width: Any, far: Any
    ) -> Any:
        zero = zeros(panel, lanes)
        a, b, c, d = zero, zero, zero, zero
        for first in range(start, stop, NIBBLES):
            last = min(first + NIBBLES, stop)
            even, odd = zero, zero
            for event in range(first, last):
                if ahead and event + AHEAD < channels.shape[0]:
                    fetch_row(panel, np.int64(channels[event + AHEAD]) * lanes, lanes)
                x = load(panel, np.int64(channels[event]) * lanes, lanes)
                even = add(even, both(x, 0x0F0F))
                odd = add(odd, both(shift_right(x, 4), 0x0F0F))
            a, c = add(a, both(even, 0xFF)), add(c, shift_right(even, 8))
            b, d = add(b, both(odd, 0xFF)), add(d, shift_right(odd, 8))
        return interleave(interleave(a, b, lanes), interleave(c, d, lanes), double)

    return of_bytes if bits.literal_value == 8 else of_nibbles


def finish(partial: Any, rows: int, bits: int) -> Any:
    """int32 sums from the partial sum of `rows` rows."""
    raise NotImplementedError("for Numba")


@overload(finish, prefer_literal=True, jit_options={"forceinline": True})  # type: ignore[untyped-decorator]
def _finish(partial: Any, rows: Any, bits: Any) -> Callable[..., Any] | None:
    if not isinstance(bits, types.IntegerLiteral):
        return None

    def of_bytes(partial: Any, rows: Any, bits: Any) -> Any:
        low, high = part(partial, 0, 2), part(partial, 1, 2)
        low = subtract(low, shift_left(high, 8))
        total = as_signed(widen(interleave(low, high, 32)))
        return subtract(total, splat(total, 128 * rows))

    def of_nibbles(partial: Any, rows: Any, bits: Any) -> Any:
        total = as_signed(widen(partial))
        return subtract(total, splat(total, 8 * rows))

    return of_bytes if bits.literal_value == 8 else of_nibbles
