"""Poisson counts per neuron and step, 16 lanes at a time: a function of (key, step, neuron).

A 32-bit hash per lane (two rounds of Wellons' `lowbias32`, 2018) between two 32-bit keys drawn
from the 64-bit key of the drive and the step; inversion of the distribution function by comparison
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
from neurosim.events.steps._vectors import at_least, choose, exclusive
from neurosim.kernels._jit import compiled, inlined
from neurosim.kernels._lanes import add, multiply, shift_right, splat, subtract

_REPEATS = 1 << 20  # draws of a step before those of the next one


@inlined
def _scrambled(x: Any) -> Any:
    x = exclusive(x, shift_right(x, 16))
    x = multiply(x, splat(x, 0x7FEB352D))
    x = exclusive(x, shift_right(x, 15))
    x = multiply(x, splat(x, 0x846CA68B))
    return exclusive(x, shift_right(x, 16))


@compiled
def add_drive(n: int, book: int, row: int, now: int, low: int, high: int, scratch: int) -> int:
    """Add this step's counts of a drive to those that arrive; returns their total.

    `row`: of the table of drives; `scratch`: 64 bytes. Bounds are stored 16 times each; a number at
    or above bound k is a count above k.
    """
    pops = int64_at(book, T.POPS) + 8 * T.POPULATION_COLUMNS * int64_at(row, T.DRIVEN)
    first, size = int64_at(pops, T.FIRST), int64_at(pops, T.SIZE)
    counts = int64_at(book, T.COUNTS) + 4 * int64_at(now, int64_at(row, T.DRIVE_INPUT))
    bounds = int64_at(book, T.DRIVE_BOUNDS) + 64 * int64_at(row, T.FIRST_BOUND)
    bound_count = int64_at(row, T.BOUND_COUNT)
    ramp = uint32s_at(int64_at(book, T.RAMP), 0)
    high = min(high, size)
    total = splat(counts_at(counts, 0), 0)
    for repeat in range(int64_at(row, T.REPEATS)):
        draw = np.uint64(n) * np.uint64(_REPEATS) + np.uint64(repeat)
        key = stream_key(np.uint64(int64_at(row, T.KEY)), draw)
        upper, lower = np.int64(key >> np.uint64(32)), np.int64(key & np.uint64(0xFFFFFFFF))
        for i in range(low, high, 16):
            x = add(ramp, splat(ramp, first + i))
            x = _scrambled(exclusive(x, splat(x, upper)))
            x = _scrambled(add(x, splat(x, lower)))
            before = counts_at(counts, i)
            number, one = before, splat(before, 1)
            for b in range(bound_count):
                bound = uint32s_at(bounds, 16 * b)
                number = choose(at_least(x, bound), add(number, one), number)
            if i + 16 > size:
                number = choose(np.uint64((1 << (size - i)) - 1), number, before)
            put(counts, i, number)
            total = add(total, subtract(number, before))
    put(scratch, 0, total)
    events = 0
    for lane in range(16):
        events += int32_at(scratch, lane)
    return events
