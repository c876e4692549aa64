"""One step of one population's neurons: propagate, add what arrives, compare, reset, note spikes.

Step n takes the state from t = (n - 1) dt to n dt. `until` is the step at which the refractory
period ends: up to and including it the voltage is held; from it on, delta input is taken. All work
on neurons low .. high of a population, whole vectors. Kernels of `_kernels`: `book`, `pop` (its row
of the table) and `now` (where this step's inputs are): see `_tables`; spikes go to the log, arrays
`neurons` and `steps`, from `position` on; the new length of the log is returned.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from neurosim.events.steps import _tables as T
from neurosim.events.steps._memory import (
    float_at,
    floats_at,
    floats_like,
    int32s_at,
    int64_at,
    lanes_of,
    put,
    put_float,
    put_int32,
    size_of,
)
from neurosim.events.steps._vectors import (
    above,
    as_floats,
    at_least,
    choose,
    exponential,
    numbers,
)
from neurosim.kernels._jit import compiled, inlined
from neurosim.kernels._lanes import add, divide, multiply, splat, subtract
from neurosim.kernels._simd import lowest_bit

NOTHING, COUNTED, SUMMED = 0, 1, 2
FLUSH_BELOW = 1e-30  # V, or leak conductances: far below a rounding of what it is added to


@compiled
def flush(unit: Any, state: int, begin: int, end: int) -> None:
    """Set what is almost 0 to 0: numbers near the smallest are a hundred times slower."""
    for i in range(begin, end):
        if abs(float_at(unit, state, i)) < FLUSH_BELOW:
            put_float(state, i, unit)


@inlined
def _taken(like: Any, mode: int, place: int, weight: Any, counts: int, sums: int) -> Any:
    """What arrives at a vector of neurons; leaves 0 behind."""
    total = numbers(like, 0.0)
    if mode == COUNTED:
        number = int32s_at(like, counts, place)
        total = multiply(weight, as_floats(like, number))
        put(counts, place, splat(number, 0))
    elif mode == SUMMED:
        total = floats_like(like, sums, place)
        put(sums, place, numbers(like, 0.0))
    return total


@compiled
def merge(
    unit: Any, book: int, now: int, begin: int, end: int, merged: int, low: int, high: int
) -> None:
    """Sum several inputs of a receptor, in their order, into `sums` from `merged` on."""
    inputs, counts, sums = (
        int64_at(book, T.INPUTS),
        int64_at(book, T.COUNTS),
        int64_at(book, T.SUMS),
    )
    params = int64_at(book, T.VALUES)
    for i in range(low, high, lanes_of(unit)):
        total = numbers(floats_at(unit, sums, merged + i), 0.0)
        for k in range(begin, end):
            if int64_at(now, k) < 0:
                continue
            row = k * T.INPUT_COLUMNS
            mode = SUMMED if int64_at(inputs, row + T.IS_SUM) else COUNTED
            weight = floats_at(unit, params, int64_at(inputs, row + T.WEIGHT))
            place = int64_at(now, k) + i
            total = add(total, _taken(total, mode, place, weight, counts, sums))
        put(sums, merged + i, total)


@compiled
def input_of(
    unit: Any, book: int, now: int, begin: int, end: int, merged: int, low: int, high: int
) -> tuple[int, int, int]:
    """How the inputs begin .. end of a receptor are read, where, and where their weight is."""
    if begin == end or (end == begin + 1 and int64_at(now, begin) < 0):
        return NOTHING, 0, 0
    if end > begin + 1:
        merge(unit, book, now, begin, end, merged, low, high)
        return SUMMED, merged, 0
    row = int64_at(book, T.INPUTS) + 8 * begin * T.INPUT_COLUMNS
    mode = SUMMED if int64_at(row, T.IS_SUM) else COUNTED
    return mode, int64_at(now, begin), int64_at(row, T.WEIGHT)


@inlined
def _note(mask: np.uint64, number: int, n: int, neurons: int, steps: int, position: int) -> int:
    """Write the neurons of a vector that fired, `number` the first one's, into the log."""
    while mask != np.uint64(0):
        put_int32(neurons, position, number + lowest_bit(mask))
        put_int32(steps, position, n)
        position += 1
        mask &= mask - np.uint64(1)
    return position


def update_delta(
    unit: Any,
    n: int,
    book: int,
    pop: int,
    now: int,
    low: int,
    high: int,
    neurons: int,
    steps: int,
    position: int,
) -> int:
    """LIF with delta synapses: V = V e^(-dt/tau) + constant, then + input."""
    state = int64_at(book, T.STATE) + size_of(unit) * int64_at(pop, T.VOLTAGE)
    ends = int64_at(book, T.UNTIL_STEPS) + 4 * int64_at(pop, T.UNTIL)
    params = int64_at(book, T.VALUES) + size_of(unit) * int64_at(pop, T.PARAMS)
    holds = int64_at(book, T.HOLD_STEPS) + 4 * int64_at(pop, T.HOLDS)
    span, stride, first = int64_at(pop, T.SPAN), int64_at(pop, T.STRIDE), int64_at(pop, T.FIRST)
    counts, sums = int64_at(book, T.COUNTS), int64_at(book, T.SUMS)
    mode, place, weighs = input_of(
        unit, book, now, int64_at(pop, T.INPUT_0), int64_at(pop, T.INPUT_1),
        int64_at(pop, T.MERGED_0), low, high,
    )  # fmt: skip
    weight = floats_at(unit, int64_at(book, T.VALUES), weighs)
    for i in range(low, high, lanes_of(unit)):
        a = i * stride
        v = floats_at(unit, state, i)
        end = int32s_at(v, ends, i)
        step = splat(end, n)
        moved = add(multiply(v, floats_at(unit, params, a)), floats_at(unit, params, a + span))
        v = choose(above(step, end), moved, v)
        arriving = _taken(v, mode, place + i, weight, counts, sums)
        v = choose(at_least(step, end), add(v, arriving), v)
        fired = at_least(v, floats_at(unit, params, a + 2 * span))
        if fired != np.uint64(0):
            v = choose(fired, floats_at(unit, params, a + 3 * span), v)
            held = add(step, int32s_at(v, holds, a))
            put(ends, i, choose(fired, held, end))
            position = _note(fired, first + i, n, neurons, steps, position)
        put(state, i, v)
    return position


@inlined
def _update_synaptic(
    conductances: int | None,
    unit: Any,
    n: int,
    book: int,
    pop: int,
    now: int,
    low: int,
    high: int,
    neurons: int,
    steps: int,
    position: int,
) -> int:
    """LIF with exponential synapses.

    Currents, exact: V = V P + constant + (g_e P_e + g_i P_i). Conductances, exponential Euler as in
    Brian2, g held during the step: with a = 1 + g_e + g_i and U = (V_rest + g_e E_e + g_i E_i) / a,
    V = U + (V - U) e^(-a dt/tau).
    """
    padded = int64_at(pop, T.PADDED)
    state = int64_at(book, T.STATE) + size_of(unit) * int64_at(pop, T.VOLTAGE)
    excitatory, inhibitory = state + size_of(unit) * padded, state + 2 * size_of(unit) * padded
    ends = int64_at(book, T.UNTIL_STEPS) + 4 * int64_at(pop, T.UNTIL)
    params = int64_at(book, T.VALUES) + size_of(unit) * int64_at(pop, T.PARAMS)
    holds = int64_at(book, T.HOLD_STEPS) + 4 * int64_at(pop, T.HOLDS)
    span, stride, first = int64_at(pop, T.SPAN), int64_at(pop, T.STRIDE), int64_at(pop, T.FIRST)
    counts, sums = int64_at(book, T.COUNTS), int64_at(book, T.SUMS)
    middle = int64_at(pop, T.INPUT_1)
    mode_e, place_e, weighs_e = input_of(
        unit, book, now, int64_at(pop, T.INPUT_0), middle, int64_at(pop, T.MERGED_0), low, high
    )
    mode_i, place_i, weighs_i = input_of(
        unit, book, now, middle, int64_at(pop, T.INPUT_2), int64_at(pop, T.MERGED_1), low, high
    )
    weight_e = floats_at(unit, int64_at(book, T.VALUES), weighs_e)
    weight_i = floats_at(unit, int64_at(book, T.VALUES), weighs_i)
    for i in range(low, high, lanes_of(unit)):
        a = i * stride
        v = floats_at(unit, state, i)
        e, h = floats_at(unit, excitatory, i), floats_at(unit, inhibitory, i)
        end = int32s_at(v, ends, i)
        step = splat(end, n)
        rate, rest = floats_at(unit, params, a), floats_at(unit, params, a + span)
        of_e = multiply(e, floats_at(unit, params, a + 4 * span))
        of_i = multiply(h, floats_at(unit, params, a + 5 * span))
        if conductances is None:  # decided when compiled
            moved = add(add(multiply(v, rate), rest), add(of_e, of_i))
        else:
            total = add(add(numbers(v, 1.0), e), h)
            goal = divide(add(add(rest, of_e), of_i), total)
            moved = add(goal, multiply(subtract(v, goal), exponential(multiply(total, rate))))
        v = choose(above(step, end), moved, v)
        e = multiply(e, floats_at(unit, params, a + 6 * span))
        h = multiply(h, floats_at(unit, params, a + 7 * span))
        put(excitatory, i, add(e, _taken(v, mode_e, place_e + i, weight_e, counts, sums)))
        put(inhibitory, i, add(h, _taken(v, mode_i, place_i + i, weight_i, counts, sums)))
        fired = at_least(v, floats_at(unit, params, a + 2 * span))
        if fired != np.uint64(0):
            v = choose(fired, floats_at(unit, params, a + 3 * span), v)
            held = add(step, int32s_at(v, holds, a))
            put(ends, i, choose(fired, held, end))
            position = _note(fired, first + i, n, neurons, steps, position)
        put(state, i, v)
    return position


def update_current(
    unit: Any,
    n: int,
    book: int,
    pop: int,
    now: int,
    low: int,
    high: int,
    neurons: int,
    steps: int,
    position: int,
) -> int:
    """LIF with exponential currents."""
    return _update_synaptic(None, unit, n, book, pop, now, low, high, neurons, steps, position)


def update_conductance(
    unit: Any,
    n: int,
    book: int,
    pop: int,
    now: int,
    low: int,
    high: int,
    neurons: int,
    steps: int,
    position: int,
) -> int:
    """LIF with exponential conductances."""
    return _update_synaptic(1, unit, n, book, pop, now, low, high, neurons, steps, position)
