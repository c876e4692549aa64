"""Counting spikes of dense projections with a bit per synapse: carry-save adders on bit planes.

Row s of the bitmap has a set bit for every target of source s. The rows of the neurons that fired
are added column by column without unpacking them: eight rows go through a Harley-Seal tree of seven
carry-save adders (Mula, Kurz & Lemire 2018) into the planes of 1, 2 and 4; the carry of 8 ripples
on. Plane k then holds bit k of every target's count.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from neurosim.events.steps import _tables as T
from neurosim.events.steps._memory import (
    counts_at,
    int32_at,
    int64_at,
    put,
    put_int64,
    uint16_at,
    words_at,
)
from neurosim.events.steps._vectors import choose, common, either, exclusive
from neurosim.kernels._jit import compiled, inlined
from neurosim.kernels._lanes import add, splat


@inlined
def _carry(a: Any, b: Any, c: Any) -> Any:
    """The upper bit of a + b + c."""
    return either(common(a, b), common(exclusive(a, b), c))


@inlined
def _sum(a: Any, b: Any, c: Any) -> Any:
    """The lower bit of a + b + c."""
    return exclusive(exclusive(a, b), c)


@inlined
def _ripple(planes: int, at: int, words: int, first: int, used: int, carry: Any) -> None:
    """Add a vector of bits to the planes from `first` on."""
    for k in range(first, used):
        place = at + k * words
        plane = words_at(planes, place)
        put(planes, place, exclusive(plane, carry))
        carry = common(plane, carry)


@compiled
def count_rows(
    rows: int, words: int, low: int, high: int, spikes: int, number: int, first: int, planes: int
) -> int:
    """Add up the rows of `number` spikes, neurons `first` ...; returns how many planes are in use.

    `rows`, `spikes`, `planes`: addresses; `words`: 64-bit words of a row and of a plane, of which
    low .. high, multiples of 8, are served.
    """
    used = 0
    while number >> used:
        used += 1
    for k in range(used):
        for w in range(low, high):
            put_int64(planes, k * words + w, 0)
    k = 0
    while k + 8 <= number:
        r0 = rows + 8 * words * (int32_at(spikes, k) - first)
        r1 = rows + 8 * words * (int32_at(spikes, k + 1) - first)
        r2 = rows + 8 * words * (int32_at(spikes, k + 2) - first)
        r3 = rows + 8 * words * (int32_at(spikes, k + 3) - first)
        r4 = rows + 8 * words * (int32_at(spikes, k + 4) - first)
        r5 = rows + 8 * words * (int32_at(spikes, k + 5) - first)
        r6 = rows + 8 * words * (int32_at(spikes, k + 6) - first)
        r7 = rows + 8 * words * (int32_at(spikes, k + 7) - first)
        for w in range(low, high, 8):
            ones, twos = words_at(planes, w), words_at(planes, w + words)
            fours = words_at(planes, w + 2 * words)
            x, y = words_at(r0, w), words_at(r1, w)
            two_a = _carry(ones, x, y)
            ones = _sum(ones, x, y)
            x, y = words_at(r2, w), words_at(r3, w)
            two_b = _carry(ones, x, y)
            ones = _sum(ones, x, y)
            four_a = _carry(twos, two_a, two_b)
            twos = _sum(twos, two_a, two_b)
            x, y = words_at(r4, w), words_at(r5, w)
            two_a = _carry(ones, x, y)
            ones = _sum(ones, x, y)
            x, y = words_at(r6, w), words_at(r7, w)
            two_b = _carry(ones, x, y)
            ones = _sum(ones, x, y)
            four_b = _carry(twos, two_a, two_b)
            twos = _sum(twos, two_a, two_b)
            eight = _carry(fours, four_a, four_b)
            put(planes, w, ones)
            put(planes, w + words, twos)
            put(planes, w + 2 * words, _sum(fours, four_a, four_b))
            _ripple(planes, w, words, 3, used, eight)
        k += 8
    while k < number:
        row = rows + 8 * words * (int32_at(spikes, k) - first)
        for w in range(low, high, 8):
            _ripple(planes, w, words, 0, used, words_at(row, w))
        k += 1
    return used


@compiled
def add_planes(planes: int, words: int, used: int, low: int, high: int, counts: int) -> None:
    """Add the numbers in bit planes to `counts` of targets low .. high, multiples of 16."""
    for i in range(low, high, 16):
        number = counts_at(counts, i)
        for k in range(used):
            mask = np.uint64(uint16_at(planes, 4 * k * words + (i >> 4)))
            number = choose(mask, add(number, splat(number, 1 << k)), number)
        put(counts, i, number)


def deliver_bitmap(
    unit: Any,
    m: int,
    book: int,
    row: int,
    now: int,
    low: int,
    high: int,
    spikes: int,
    number: int,
    spare: int,
) -> int:
    """Deliver through a bitmap; returns the events, all with the part that has target 0.

    Arguments: see `_deliver`.
    """
    pops = int64_at(book, T.POPS) + 8 * T.POPULATION_COLUMNS * int64_at(row, T.ORIGIN)
    first, words = int64_at(pops, T.FIRST), int64_at(row, T.WORDS)
    planes = int64_at(book, T.BIT_PLANES) + 8 * int64_at(row, T.PLANES)
    counts = int64_at(book, T.COUNTS) + 4 * int64_at(now, int64_at(row, T.INPUT))
    last_word = ((high + 511) >> 9) << 3
    used = count_rows(
        int64_at(row, T.TARGETS), words, low >> 6, last_word, spikes, number, first, planes
    )
    add_planes(planes, words, used, low, high, counts)
    events, offsets = 0, int64_at(row, T.OFFSETS)
    if low == 0:
        for k in range(number):
            source = int32_at(spikes, k) - first
            events += int64_at(offsets, source + 1) - int64_at(offsets, source)
    return events
