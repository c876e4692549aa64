"""Poisson counts per neuron and step, 16 lanes at a time: a function of (key, step, neuron).

A 32-bit hash per lane (Wellons' `triple32`, 2018) with two 32-bit keys drawn from the 64-bit key of
the drive and the step; inversion of the distribution function by comparison
with its values times 2^32, so probabilities are exact to 2.3e-10.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from neurosim.devices.counter_random import stream_key
from neurosim.events.steps import _tables as T
from neurosim.events.steps._memory import (
    counts_at,
    int32_at,
    int64_at,
    put,
    uint32s_at,
)
from neurosim.events.steps._vectors import above, choose, exclusive
from neurosim.kernels._jit import inlined
from neurosim.kernels._lanes import add, multiply, shift_right, splat, subtract

_REPEATS = 1 << 20  # draws of a step before those of the next one


@inlined
def _scrambled(x: Any, key: Any) -> Any:
    x = exclusive(x, shift_right(x, 17))
    x = add(multiply(x, splat(x, 0xED5AD4BB)), key)
    x = exclusive(x, shift_right(x, 11))
    x = multiply(x, splat(x, 0xAC4C1B51))
    x = exclusive(x, shift_right(x, 15))
    x = multiply(x, splat(x, 0x31848BAB))
    return exclusive(x, shift_right(x, 14))


def add_drive(
    unit: Any,
    n: int,
    book: int,
    row: int,
    now: int,
    low: int,
    high: int,
    scratch: int,
    spare: int,
    more_spare: int,
) -> int:
    """Add this step's counts of a drive to those that arrive; returns their total.

    `row`: of the table of drives; `scratch`: 64 bytes. Bounds rise and are stored 16 times each; a
    number above bound k is a count above k, nothing is above the last. Higher counts than the usual
    ones are rare enough for a branch.
    """
    pops = int64_at(book, T.POPS) + 8 * T.POPULATION_COLUMNS * int64_at(row, T.DRIVEN)
    first, size = int64_at(pops, T.FIRST), int64_at(pops, T.SIZE)
    counts = int64_at(book, T.COUNTS) + 4 * int64_at(now, int64_at(row, T.DRIVE_INPUT))
    bounds = int64_at(book, T.DRIVE_BOUNDS) + 64 * int64_at(row, T.FIRST_BOUND)
    usual = int64_at(row, T.USUAL)
    ramp = uint32s_at(int64_at(book, T.RAMP), 0)
    high = min(high, size)
    total = splat(counts_at(counts, 0), 0)
    for repeat in range(int64_at(row, T.REPEATS)):
        draw = np.uint64(n) * np.uint64(_REPEATS) + np.uint64(repeat)
        key = stream_key(np.uint64(int64_at(row, T.KEY)), draw)
        upper, lower = np.int64(key >> np.uint64(32)), np.int64(key & np.uint64(0xFFFFFFFF))
        for i in range(low, high, 16):
            x = add(ramp, splat(ramp, first + i))
            x = _scrambled(exclusive(x, splat(x, upper)), splat(x, lower))
            before = counts_at(counts, i)
            number, one = before, splat(before, 1)
            for b in range(0, 16 * usual, 64):
                number = choose(above(x, uint32s_at(bounds, b)), add(number, one), number)
                number = choose(above(x, uint32s_at(bounds, b + 16)), add(number, one), number)
                number = choose(above(x, uint32s_at(bounds, b + 32)), add(number, one), number)
                number = choose(above(x, uint32s_at(bounds, b + 48)), add(number, one), number)
            b = 16 * usual
            more = above(x, uint32s_at(bounds, b))
            while more != np.uint64(0):
                number = choose(more, add(number, one), number)
                b += 16
                more = above(x, uint32s_at(bounds, b))
            if i + 16 > size:
                number = choose(np.uint64((1 << (size - i)) - 1), number, before)
            put(counts, i, number)
            total = add(total, subtract(number, before))
    put(scratch, 0, total)
    events = 0
    for lane in range(16):
        events += int32_at(scratch, lane)
    return events
