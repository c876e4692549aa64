"""The compiled loop of the engine "frames".

State of a neuron: A = (V - V_rest) e^((t - t0) / tau), which only events change. All neurons of a
class share the moving threshold Theta(t) = (V_th - V_rest) e^((t - t0) / tau), so that a delivery
is one addition and one comparison. Where V_rest >= V_th, a neuron fires on its own at t0 + tau
ln(A / (V_th - V_rest)): looked for when an input comes and when a window ends. t0 moves on before
the numbers get large.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.events.exact.layout import BUCKET, CURSOR, DRIVEN, EVENTS, FIRED, STARTED
from neurosim.events.exact.trains import WEIGHT, draw_next
from neurosim.events.exact.windows import due, enlarged, keep, send, sort_fired, source_spikes
from neurosim.kernels._jit import compiled, inlined

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
FRAME_LIMIT = 30.0  # time constants until t0 moves
_NOTHING = 1e-250  # V; below it a membrane is at rest: no denormal numbers


@inlined
def _fire(
    k: Any,
    time: float,
    t0: float,
    rate: float,
    A: Any,
    ready: Any,
    cells: Any,
    numbers: Any,
    fired_times: Any,
    fired_neurons: Any,
) -> None:
    """Note a spike, for which there must be room, and reset the neuron."""
    fired_times[numbers[FIRED]], fired_neurons[numbers[FIRED]] = time, k
    numbers[FIRED] += 1
    ready[k] = time + cells[k, 1]
    A[k] = cells[k, 0] * math.exp((ready[k] - t0) * rate)


@compiled
def _settle(
    k: Any,
    time: float,
    t0: float,
    rate: float,
    gap: float,
    A: Floats,
    ready: Floats,
    cells: Floats,
    first: Integers,
    trains: Floats,
    keys: npt.NDArray[np.uint64],
    number: Integers,
    earliest: Floats,
    numbers: Integers,
    fired_times: Floats,
    fired_neurons: Integers,
) -> bool:
    """Everything that happens to neuron k up to `time` without a delivery: drive and own firing.

    False where it stopped for lack of room for spikes: make room and call again.
    """
    room = fired_times.size
    while True:
        now = min(earliest[k], time)
        scale = math.exp((now - t0) * rate)
        while gap < 0.0 and A[k] >= gap * scale and now >= ready[k]:
            if numbers[FIRED] >= room:
                return False
            crossing = t0 + math.log(A[k] / gap) / rate
            crossing = min(max(crossing, ready[k]), now)
            _fire(k, crossing, t0, rate, A, ready, cells, numbers, fired_times, fired_neurons)
        if earliest[k] > time:
            return True
        if numbers[FIRED] >= room:
            return False
        weight = trains[draw_next(k, first, trains, keys, number, earliest), WEIGHT]
        numbers[DRIVEN] += 1
        if now >= ready[k]:
            A[k] += weight * scale
            if A[k] >= gap * scale:
                _fire(k, now, t0, rate, A, ready, cells, numbers, fired_times, fired_neurons)


@compiled
def _quiet(
    j: int, stop: int, targets: Any, weight: float, limit: float, now: float, A: Any, ready: Any
) -> int:
    """Deliver one weight to targets j : stop until one of them needs a closer look."""
    while j < stop:
        k = targets[j]
        before = A[k]
        after = before + (weight if ready[k] <= now else 0.0)
        if max(before, after) >= limit:
            return j
        A[k] = after
        j += 1
    return j


@compiled
def _quiet_own(
    j: int,
    stop: int,
    targets: Any,
    weights: Any,
    base: int,
    step: int,
    scale: float,
    limit: float,
    now: float,
    A: Any,
    ready: Any,
    earliest: Any,
) -> int:
    """The same with own weights and drives."""
    while j < stop:
        k = targets[j]
        before = A[k]
        weight = weights[base + step * j] * scale
        after = before + (weight if ready[k] <= now else 0.0)
        if max(before, after) >= limit or earliest[k] <= now:
            return j
        A[k] = after
        j += 1
    return j


@compiled
def _find(
    j: int, stop: int, targets: Any, limit: float, now: float, A: Floats, earliest: Floats
) -> int:
    """The first of the targets j : stop at or above `limit`, or with a drive's spike by `now`."""
    while j < stop:
        k = targets[j]
        if A[k] >= limit or earliest[k] <= now:
            return j
        j += 1
    return j


@compiled
def _add(
    low: int,
    stop: int,
    targets: Any,
    weights: Floats,
    base: int,
    step: int,
    scale: float,
    now: float,
    A: Floats,
    ready: Floats,
) -> None:
    """Deliver to targets low : stop without comparing."""
    for j in range(low, stop):
        k = targets[j]
        weight = weights[base + step * j] * scale
        A[k] += weight if ready[k] <= now else 0.0


@compiled
def deliver(
    until: float,
    t0: float,
    items: Any,
    wires: Any,
    classes: Any,
    cells: Floats,
    drives: Any,
    A: Floats,
    ready: Floats,
    numbers: Integers,
    fired: Any,
) -> Any:
    """Deliver the window's items due up to `until`, from `numbers` CURSOR on; returns `fired`."""
    first_drive, trains, keys, number, earliest = drives
    _, _, group, events, begin, targets, weights, step = wires
    rates, gaps, _ = classes
    times, segments = items
    fired_times, fired_neurons = fired
    driven = trains.shape[0] > 0
    at = numbers[CURSOR]
    while at < times.size and times[at] <= until:
        now = times[at]
        high = at + 1
        while high < times.size and times[high] == now:
            high += 1
        alone = high == at + 1
        for i in range(at, high):  # alone: deliver; else: what happens before
            m = segments[i]
            numbers[EVENTS] += events[m]
            rate, gap = rates[group[m]], gaps[group[m]]
            watched = gap < 0.0 or driven
            scale = math.exp((now - t0) * rate)
            limit = gap * scale
            j, stop = begin[m], begin[m + 1]
            base = m if step == 0 else 0
            while alone or watched:
                if not alone:
                    above = limit if gap < 0.0 else math.inf
                    j = _find(j, stop, targets, above, now, A, earliest)
                elif step == 0 and not driven:
                    j = _quiet(j, stop, targets, weights[m] * scale, limit, now, A, ready)
                else:
                    j = _quiet_own(
                        j, stop, targets, weights, base, step, scale, limit, now, A, ready,
                        earliest,
                    )  # fmt: skip
                if j >= stop:
                    break
                k = np.int64(targets[j])
                while watched and not _settle(
                    k, now, t0, rate, gap, A, ready, cells, first_drive, trains, keys, number,
                    earliest, numbers, fired_times, fired_neurons,
                ):  # fmt: skip
                    fired_times, fired_neurons = enlarged(fired_times, fired_neurons)
                if alone and ready[k] <= now:
                    A[k] += weights[base + step * j] * scale
                    if A[k] >= limit:
                        if numbers[FIRED] == fired_times.size:
                            fired_times, fired_neurons = enlarged(fired_times, fired_neurons)
                        _fire(
                            k, now, t0, rate, A, ready, cells, numbers, fired_times, fired_neurons
                        )
                j += 1
        if not alone:  # several spikes at once: all are added before anything is compared
            for i in range(at, high):
                m = segments[i]
                scale = math.exp((now - t0) * rates[group[m]])
                base = m if step == 0 else 0
                _add(begin[m], begin[m + 1], targets, weights, base, step, scale, now, A, ready)
            for i in range(at, high):
                m = segments[i]
                rate = rates[group[m]]
                limit = gaps[group[m]] * math.exp((now - t0) * rate)
                j, stop = begin[m], begin[m + 1]
                while True:
                    j = _find(j, stop, targets, limit, -math.inf, A, earliest)
                    if j >= stop:
                        break
                    k = np.int64(targets[j])
                    if ready[k] <= now:
                        if numbers[FIRED] == fired_times.size:
                            fired_times, fired_neurons = enlarged(fired_times, fired_neurons)
                        _fire(
                            k, now, t0, rate, A, ready, cells, numbers, fired_times, fired_neurons
                        )
                    j += 1
        at = high
    numbers[CURSOR] = at
    return fired_times, fired_neurons


@compiled
def sweep(
    now: float,
    t0: float,
    classes: Any,
    cells: Floats,
    drives: Any,
    A: Floats,
    ready: Floats,
    numbers: Integers,
    fired: Any,
) -> Any:
    """What all neurons do on their own up to `now`; returns `fired`."""
    first_drive, trains, keys, number, earliest = drives
    rates, gaps, ranges = classes
    fired_times, fired_neurons = fired
    driven = trains.shape[0] > 0
    for r in range(ranges.shape[0]):
        rate, gap = rates[ranges[r, 0]], gaps[ranges[r, 0]]
        if gap >= 0.0 and not driven:
            continue
        limit = gap * math.exp((now - t0) * rate) if gap < 0.0 else math.inf
        k, stop = ranges[r, 1], ranges[r, 2]
        while True:
            while k < stop and not (A[k] >= limit or earliest[k] <= now):
                k += 1
            if k >= stop:
                break
            while not _settle(
                k, now, t0, rate, gap, A, ready, cells, first_drive, trains, keys, number,
                earliest, numbers, fired_times, fired_neurons,
            ):  # fmt: skip
                fired_times, fired_neurons = enlarged(fired_times, fired_neurons)
            k += 1
    return fired_times, fired_neurons


@compiled
def _move_frame(opening: float, classes: Any, A: Floats, origin: Floats) -> None:
    """t0 becomes `opening`."""
    rates, _, ranges = classes
    for r in range(ranges.shape[0]):
        factor = math.exp(-(opening - origin[0]) * rates[ranges[r, 0]])
        for k in range(ranges[r, 1], ranges[r, 2]):
            moved = A[k] * factor
            A[k] = moved if abs(moved) > _NOTHING else 0.0
    origin[0] = opening


@compiled
def _fire_at_once(
    classes: Any, cells: Floats, A: Floats, ready: Floats, numbers: Integers, fired: Any
) -> Any:
    """Neurons that start at or above their threshold fire at t = 0; returns `fired`."""
    rates, gaps, ranges = classes
    times, neurons = fired
    for r in range(ranges.shape[0]):
        for k in range(ranges[r, 1], ranges[r, 2]):
            if A[k] >= gaps[ranges[r, 0]]:
                if numbers[FIRED] == times.size:
                    times, neurons = enlarged(times, neurons)
                rate = rates[ranges[r, 0]]
                _fire(k, 0.0, 0.0, rate, A, ready, cells, numbers, times, neurons)
    return times, neurons


@compiled
def run(
    until: float,
    width: float,
    wires: Any,
    is_source: npt.NDArray[np.bool_],
    sources: Any,
    drives: Any,
    classes: Any,
    cells: Floats,
    A: Floats,
    ready: Floats,
    origin: Floats,
    numbers: Integers,
    ring: Any,
    items: Any,
    fired: Any,
    kept: Any,
) -> Any:
    """Simulate up to and including `until`; returns (ring, items, fired, kept).

    wires: first, delay, group, events, begin, targets, weights, step. classes: 1/tau (C,), V_th -
    V_rest (C,), ranges (R, 3) of class, first, last + 1. cells (N, 2): V_reset - V_rest, refractory
    period. drives: first, trains, keys, number, earliest. `items`: the window's deliveries.
    """
    first, delay = wires[0], wires[1]
    while numbers[BUCKET] * width <= until:
        bucket = numbers[BUCKET]
        end = (bucket + 1) * width
        if numbers[STARTED] == 0:
            if (end - origin[0]) * classes[0].max() > FRAME_LIMIT:
                _move_frame(bucket * width, classes, A, origin)
            if bucket == 0:
                fired = _fire_at_once(classes, cells, A, ready, numbers, fired)
            fired = source_spikes(bucket, width, sources, fired, numbers)
            ring = send(fired, numbers, True, is_source, first, delay, ring, bucket, width)
            items = due(ring, bucket, width)
            numbers[CURSOR] = 0
            numbers[STARTED] = 1
        whole = until >= end
        limit = math.inf if whole else until
        fired = deliver(
            limit, origin[0], items, wires, classes, cells, drives, A, ready, numbers, fired
        )
        fired = sweep(min(until, end), origin[0], classes, cells, drives, A, ready, numbers, fired)
        if not whole:
            break
        sort_fired(fired, numbers)
        ring = send(fired, numbers, False, is_source, first, delay, ring, bucket + 1, width)
        kept = keep(fired, numbers, kept)
        numbers[STARTED] = 0
        numbers[BUCKET] += 1
    return ring, items, fired, kept
