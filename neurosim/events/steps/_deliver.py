"""Bring the spikes of one step to their targets: rows of synapses, whole crossbar rows.

Synapses with one weight count events as integers, so that neither the order nor the way of delivery
can change the sum; own weights are added in ascending order of the source. A part of the targets,
low .. high, is served; targets ascend within a row. Kernels of `_kernels`: `book`, `row` (of the
table of deliveries), `now`: see `_tables`; `spikes`: where the neurons to deliver are, `number` of
them, which fired at step m; `spare` is not used.
"""

from __future__ import annotations

from typing import Any

from neurosim.events.steps import _tables as T
from neurosim.events.steps._memory import (
    add_float,
    add_int32,
    float_at,
    floats_at,
    int32_at,
    int64_at,
    lanes_of,
    put,
    size_of,
    uint16_at,
)
from neurosim.kernels._jit import compiled, inlined
from neurosim.kernels._lanes import add


@inlined
def _target(narrow: int, targets: int, j: int) -> int:
    number: int = uint16_at(targets, j) if narrow else int32_at(targets, j)
    return number


@compiled
def first_from(narrow: int, targets: int, begin: int, end: int, wanted: int) -> int:
    """The first synapse of a row whose target is `wanted` or above."""
    while begin < end:
        middle = (begin + end) >> 1
        if _target(narrow, targets, middle) < wanted:
            begin = middle + 1
        else:
            end = middle
    return begin


def deliver_rows(
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
    """Deliver through rows of targets; returns the events."""
    place, weights = int64_at(now, int64_at(row, T.INPUT)), int64_at(row, T.WEIGHTS)
    counts = int64_at(book, T.COUNTS) + 4 * place
    sums = int64_at(book, T.SUMS) + size_of(unit) * place
    narrow, targets = int64_at(row, T.NARROW), int64_at(row, T.TARGETS)
    offsets = int64_at(row, T.OFFSETS)
    pops = int64_at(book, T.POPS) + 8 * T.POPULATION_COLUMNS * int64_at(row, T.ORIGIN)
    first = int64_at(pops, T.FIRST)
    whole = low == 0 and high >= int64_at(row, T.COLUMNS)
    events = 0
    for k in range(number):
        source = int32_at(spikes, k) - first
        a, b = int64_at(offsets, source), int64_at(offsets, source + 1)
        if not whole:
            a = first_from(narrow, targets, a, b, low)
            b = first_from(narrow, targets, a, b, high)
        events += b - a
        if weights:
            if narrow:
                for j in range(a, b):
                    add_float(sums, uint16_at(targets, j), float_at(unit, weights, j))
            else:
                for j in range(a, b):
                    add_float(sums, int32_at(targets, j), float_at(unit, weights, j))
        elif narrow:
            for j in range(a, b):
                add_int32(counts, uint16_at(targets, j), 1)
        else:
            for j in range(a, b):
                add_int32(counts, int32_at(targets, j), 1)
    return events


def deliver_delayed(
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
    """Deliver synapses with own delays into the ring of their input; returns the events."""
    inputs = int64_at(book, T.INPUTS) + 8 * T.INPUT_COLUMNS * int64_at(row, T.INPUT)
    base, slots = int64_at(inputs, T.BASE), int64_at(inputs, T.SLOTS)
    width, narrow = int64_at(inputs, T.WIDTH), int64_at(row, T.NARROW)
    delays, targets = int64_at(row, T.DELAYS), int64_at(row, T.TARGETS)
    weights, offsets = int64_at(row, T.WEIGHTS), int64_at(row, T.OFFSETS)
    counts, sums = int64_at(book, T.COUNTS), int64_at(book, T.SUMS)
    pops = int64_at(book, T.POPS) + 8 * T.POPULATION_COLUMNS * int64_at(row, T.ORIGIN)
    first = int64_at(pops, T.FIRST)
    events = 0
    for k in range(number):
        source = int32_at(spikes, k) - first
        a, b = int64_at(offsets, source), int64_at(offsets, source + 1)
        a = first_from(narrow, targets, a, b, low)
        b = first_from(narrow, targets, a, b, high)
        events += b - a
        for j in range(a, b):
            spot = base + (m + uint16_at(delays, j)) % slots * width + _target(narrow, targets, j)
            if weights:
                add_float(sums, spot, float_at(unit, weights, j))
            else:
                add_int32(counts, spot, 1)
    return events


def deliver_matrix(
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
    """Add whole crossbar rows; returns the events."""
    columns, place = int64_at(row, T.COLUMNS), int64_at(now, int64_at(row, T.INPUT))
    sums = int64_at(book, T.SUMS) + size_of(unit) * place
    pops = int64_at(book, T.POPS) + 8 * T.POPULATION_COLUMNS * int64_at(row, T.ORIGIN)
    first, lanes = int64_at(pops, T.FIRST), lanes_of(unit)
    high = min(high, columns)
    blocks = low + (high - low) // lanes * lanes
    for k in range(number):
        weights = int64_at(row, T.WEIGHTS)
        weights += size_of(unit) * columns * (int32_at(spikes, k) - first)
        for j in range(low, blocks, lanes):
            put(sums, j, add(floats_at(unit, sums, j), floats_at(unit, weights, j)))
        for j in range(blocks, high):
            add_float(sums, j, float_at(unit, weights, j))
    return number * max(high - low, 0)
