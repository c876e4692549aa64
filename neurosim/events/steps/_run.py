"""The loop over time steps: deliver, drive, update, meet the other threads."""

from __future__ import annotations

from typing import Any

from neurosim.events.steps import _tables as T
from neurosim.events.steps._meeting import meet
from neurosim.events.steps._memory import (
    add_int64,
    call,
    float_at,
    int32_at,
    int64_at,
    put_float,
    put_int32,
    put_int64,
    size_of,
)
from neurosim.events.steps._update import flush
from neurosim.kernels._jit import compiled

FLUSH_STEPS = 64


@compiled
def _deliver(unit: Any, part: int, n: int, book: int, now: int) -> None:
    """Everything that arrives at step n at this part of the neurons."""
    populations, deliveries = int64_at(book, T.POP_COUNT), int64_at(book, T.DELIVERY_COUNT)
    bounds = int64_at(book, T.BOUNDS) + 16 * part * populations
    starts, ring = int64_at(book, T.STARTS), int64_at(book, T.RING)
    totals = int64_at(book, T.TOTALS) + 8 * part * (deliveries + int64_at(book, T.DRIVE_COUNT))
    log, room = int64_at(book, T.LOG_NEURONS), int64_at(book, T.LOG_ROOM)
    for d in range(deliveries):
        row = int64_at(book, T.DELIVERIES) + 8 * T.DELIVERY_COLUMNS * d
        origin, target = int64_at(row, T.ORIGIN), int64_at(row, T.TARGET)
        low, high = int64_at(bounds, 2 * target), int64_at(bounds, 2 * target + 1)
        m = n - int64_at(row, T.LAG)
        if low == high or m < 0:
            continue
        kernel = int64_at(row, T.DELIVER)
        for other in range(int64_at(book, T.PARTS)):
            entry = starts + 8 * ((other * ring + m % ring) * (populations + 1) + origin)
            begin, end = int64_at(entry, 0), int64_at(entry, 1)
            if begin == end:
                continue
            spikes, number = log + 4 * (other * room + begin), end - begin
            events = call(kernel, unit, m, book, row, now, low, high, spikes, number, 0)
            add_int64(totals, d, events)
            put_int64(now + 8 * int64_at(book, T.INPUT_COUNT), int64_at(row, T.INPUT), n)


@compiled
def _drive(unit: Any, part: int, n: int, book: int, now: int) -> None:
    """The Poisson drives of step n."""
    populations, deliveries = int64_at(book, T.POP_COUNT), int64_at(book, T.DELIVERY_COUNT)
    drives = int64_at(book, T.DRIVE_COUNT)
    bounds = int64_at(book, T.BOUNDS) + 16 * part * populations
    totals = int64_at(book, T.TOTALS) + 8 * part * (deliveries + drives)
    for d in range(drives):
        row = int64_at(book, T.DRIVES) + 8 * T.DRIVE_COLUMNS * d
        target = int64_at(row, T.DRIVEN)
        low, high = int64_at(bounds, 2 * target), int64_at(bounds, 2 * target + 1)
        scratch = int64_at(book, T.SCRATCH) + 64 * part
        kernel = int64_at(row, T.DRAW)
        events = call(kernel, unit, n, book, row, now, low, high, scratch, 0, 0)
        add_int64(totals, deliveries + d, events)
        put_int64(now + 8 * int64_at(book, T.INPUT_COUNT), int64_at(row, T.DRIVE_INPUT), n)


@compiled
def _update(
    unit: Any, part: int, n: int, cursor: int, book: int, now: int, position: int
) -> tuple[int, int]:
    """All populations; returns the next given spike and the length of the log."""
    populations, ring = int64_at(book, T.POP_COUNT), int64_at(book, T.RING)
    bounds = int64_at(book, T.BOUNDS) + 16 * part * populations
    starts = int64_at(book, T.STARTS) + 8 * (part * ring + n % ring) * (populations + 1)
    room = int64_at(book, T.LOG_ROOM)
    neurons = int64_at(book, T.LOG_NEURONS) + 4 * part * room
    steps = int64_at(book, T.LOG_STEPS) + 4 * part * room
    given_steps, given_count = int64_at(book, T.GIVEN_STEPS), int64_at(book, T.GIVEN_COUNT)
    for p in range(populations):
        pop = int64_at(book, T.POPS) + 8 * T.POPULATION_COLUMNS * p
        low, high, kind = (
            int64_at(bounds, 2 * p), int64_at(bounds, 2 * p + 1), int64_at(pop, T.KIND)
        )  # fmt: skip
        put_int64(starts, p, position)
        if kind == T.SOURCE:
            behind = int64_at(pop, T.FIRST) + int64_at(pop, T.SIZE)
            while part == 0 and cursor < given_count and int32_at(given_steps, cursor) == n:
                neuron = int32_at(int64_at(book, T.GIVEN_NEURONS), cursor)
                if neuron >= behind:
                    break
                put_int32(neurons, position, neuron)
                put_int32(steps, position, n)
                position += 1
                cursor += 1
            continue
        kernel = int64_at(pop, T.UPDATE)
        position = call(kernel, unit, n, book, pop, now, low, high, neurons, steps, position)
        if n % FLUSH_STEPS == 0:
            state = int64_at(book, T.STATE) + size_of(unit) * int64_at(pop, T.VOLTAGE)
            padded = int64_at(pop, T.PADDED)
            for k in range(1 if kind == T.DELTA else 3):
                flush(unit, state, k * padded + low, k * padded + high)
    put_int64(starts, populations, position)
    return cursor, position


@compiled
def _sample(unit: Any, part: int, book: int, row: int) -> None:
    """Voltages of the traced neurons of this part into a row of the samples."""
    bounds = int64_at(book, T.BOUNDS) + 16 * part * int64_at(book, T.POP_COUNT)
    traced, count = int64_at(book, T.TRACED), int64_at(book, T.TRACED_COUNT)
    for k in range(count):
        p, neuron = int64_at(traced, 2 * k), int64_at(traced, 2 * k + 1)
        if int64_at(bounds, 2 * p) <= neuron < int64_at(bounds, 2 * p + 1):
            pop = int64_at(book, T.POPS) + 8 * T.POPULATION_COLUMNS * p
            place = int64_at(pop, T.VOLTAGE) + neuron
            value = float_at(unit, int64_at(book, T.STATE), place)
            put_float(int64_at(book, T.SAMPLES), row * count + k, value)


@compiled
def run(unit: Any, part: int, step: int, last: int, cursor: int, trace_row: int, book: int) -> int:
    """Simulate steps step + 1 .. last of one part of the neurons; returns the last one done.

    `unit`: 0 of the type of floats; `cursor`: the first given spike to come; `trace_row`: the first
    row of samples to write; `book`: its address. A part ends early, with all others, when the log
    of one might have no room for the next step (with threads: for a window).
    """
    inputs, input_count = int64_at(book, T.INPUTS), int64_at(book, T.INPUT_COUNT)
    now = int64_at(book, T.NOW) + 16 * part * input_count
    touched = now + 8 * input_count
    parts, window, room = (
        int64_at(book, T.PARTS),
        int64_at(book, T.WINDOW),
        int64_at(book, T.LOG_ROOM),
    )
    step_room, every = int64_at(book, T.STEP_ROOM), int64_at(book, T.TRACE_EVERY)
    lengths, full, meeting = (
        int64_at(book, T.LENGTHS),
        int64_at(book, T.FULL),
        int64_at(book, T.MEETING),
    )
    position = int64_at(lengths, part)
    meetings = 0
    for n in range(step + 1, last + 1):
        for k in range(input_count):
            row = inputs + 8 * T.INPUT_COLUMNS * k
            slot = n % int64_at(row, T.SLOTS)
            put_int64(now, k, int64_at(row, T.BASE) + slot * int64_at(row, T.WIDTH))
        _deliver(unit, part, n, book, now)
        _drive(unit, part, n, book, now)
        for k in range(input_count):
            alone = int64_at(inputs, T.INPUT_COLUMNS * k + T.SLOTS) == 1
            if alone and int64_at(touched, k) != n:
                put_int64(now, k, -1)  # nothing has arrived
        cursor, position = _update(unit, part, n, cursor, book, now, position)
        put_int64(lengths, part, position)
        if n % every == 0:
            _sample(unit, part, book, trace_row)
            trace_row += 1
        if parts == 1:
            if position + step_room > room:
                return n
        elif n % window == 0:
            if position + window * step_room > room:
                put_int64(full, part, n)
            meetings += 1
            meet(meeting, meetings * parts)
            for other in range(parts):
                if int64_at(full, other) == n:
                    return n
    return last
