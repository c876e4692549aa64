"""The compiled loop of the engine "calendar".

Two calendars share the buckets: deliveries (`exact.ring`), and neurons by the bucket of their next
own event (threshold crossing, phase change, spike of a drive) as doubly linked lists. A neuron
whose event moves to an earlier bucket is relinked; one whose event moves to a later bucket stays
until its bucket comes, and goes on from there. A bucket is shorter than the shortest delay, so
within it neurons do not see each other: an own event is done when a delivery touches the neuron, or
when the bucket ends. Spikes of a bucket are sorted by time, then neuron.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.events.calendar.layout import (
    CROSSING,
    CURRENT_KIND,
    KIND,
    LIF_KIND,
    SOURCE,
    SWITCH_KIND,
)
from neurosim.events.calendar.lif import (
    current_fire,
    current_predict,
    current_receive,
    lif_fire,
    lif_predict,
    lif_receive,
)
from neurosim.events.calendar.switch import switch_predict, switch_receive, switch_step
from neurosim.events.exact.layout import BUCKET, CURSOR, DRIVEN, EVENTS, FIRED, STARTED
from neurosim.events.exact.trains import RECEPTOR, WEIGHT, draw_next
from neurosim.events.exact.windows import due, enlarged, keep, send, sort_fired, source_spikes
from neurosim.kernels._jit import compiled

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]
AFTER, BEFORE, QUEUED = 0, 1, 2  # columns of `links` (N, 3): neighbours in the list, its bucket


@compiled
def predict(cells: Floats, devices: Floats, n: Any) -> None:
    """Set CROSSING from the state."""
    kind = cells[n, KIND]
    if kind == LIF_KIND:
        lif_predict(cells, n)
    elif kind == CURRENT_KIND:
        current_predict(cells, n)
    elif kind == SWITCH_KIND:
        switch_predict(cells, devices, n)


@compiled
def _receive(
    cells: Floats, devices: Floats, n: Any, time: float, receptor: Any, weight: float
) -> None:
    kind = cells[n, KIND]
    if kind == LIF_KIND:
        lif_receive(cells, n, time, weight)
    elif kind == CURRENT_KIND:
        current_receive(cells, n, time, receptor, weight)
    else:
        switch_receive(cells, devices, n, time, weight)


@compiled
def _step(
    n: Any,
    cells: Floats,
    devices: Floats,
    keys: Keys,
    first: Integers,
    trains: Floats,
    drive_keys: Keys,
    number: Integers,
    earliest: Floats,
    numbers: Integers,
    fired_times: Floats,
    fired_neurons: Integers,
) -> None:
    """The neuron's next own event; there must be room for a spike."""
    time = cells[n, CROSSING]
    fires = False
    if earliest[n] < time:
        time = earliest[n]
        e = draw_next(n, first, trains, drive_keys, number, earliest)
        numbers[DRIVEN] += 1
        _receive(cells, devices, n, time, int(trains[e, RECEPTOR]), trains[e, WEIGHT])
        predict(cells, devices, n)
    elif cells[n, KIND] == LIF_KIND:
        lif_fire(cells, n)
        fires = True
    elif cells[n, KIND] == CURRENT_KIND:
        current_fire(cells, n)
        fires = True
    else:
        fires = switch_step(cells, devices, keys, n)
    if fires:
        fired_times[numbers[FIRED]], fired_neurons[numbers[FIRED]] = time, n
        numbers[FIRED] += 1


@compiled
def _unlink(n: Any, heads: Integers, links: Integers) -> None:
    after, before = links[n, AFTER], links[n, BEFORE]
    if before >= 0:
        links[before, AFTER] = after
    else:
        heads[links[n, QUEUED] % heads.size] = after
    if after >= 0:
        links[after, BEFORE] = before
    links[n, QUEUED] = -1


@compiled
def enqueue(
    n: Any, time: float, bucket: int, width: float, heads: Integers, links: Integers
) -> None:
    """See that neuron n is looked at in the bucket of `time` or before it; not before `bucket`."""
    if time == math.inf:
        return
    ahead = min(max(time / width - bucket, 0.0), heads.size - 1.0)
    wanted = bucket + int(ahead)
    if 0 <= links[n, QUEUED] <= wanted:
        return
    if links[n, QUEUED] >= 0:
        _unlink(n, heads, links)
    slot = wanted % heads.size
    head = heads[slot]
    links[n, AFTER], links[n, BEFORE], links[n, QUEUED] = head, -1, wanted
    if head >= 0:
        links[head, BEFORE] = n
    heads[slot] = n


@compiled
def deliver(
    until: float,
    width: float,
    items: Any,
    wires: Any,
    cells: Floats,
    devices: Floats,
    keys: Keys,
    drives: Any,
    heads: Integers,
    links: Integers,
    touched: npt.NDArray[np.bool_],
    numbers: Integers,
    fired: Any,
) -> Any:
    """Deliver the bucket's items due up to `until`, from `numbers` CURSOR on; returns `fired`."""
    first, trains, drive_keys, number, earliest = drives
    _, _, group, events, begin, targets, weights, step = wires
    times, segments = items
    fired_times, fired_neurons = fired
    at = numbers[CURSOR]
    while at < times.size and times[at] <= until:
        now = times[at]
        high = at + 1
        while high < times.size and times[high] == now:
            high += 1
        for i in range(at, high):
            m = segments[i]
            numbers[EVENTS] += events[m]
            base = m if step == 0 else 0
            for j in range(begin[m], begin[m + 1]):
                n = np.int64(targets[j])
                while not touched[n] and min(cells[n, CROSSING], earliest[n]) <= now:
                    if numbers[FIRED] == fired_times.size:
                        fired_times, fired_neurons = enlarged(fired_times, fired_neurons)
                    _step(
                        n, cells, devices, keys, first, trains, drive_keys, number, earliest,
                        numbers, fired_times, fired_neurons,
                    )  # fmt: skip
                touched[n] = True
                _receive(cells, devices, n, now, group[m], weights[base + step * j])
        for i in range(at, high):
            m = segments[i]
            for j in range(begin[m], begin[m + 1]):
                n = np.int64(targets[j])
                if touched[n]:
                    touched[n] = False
                    predict(cells, devices, n)
                    own = min(cells[n, CROSSING], earliest[n])
                    enqueue(n, own, numbers[BUCKET], width, heads, links)
        at = high
    numbers[CURSOR] = at
    return fired_times, fired_neurons


@compiled
def own_events(
    until: float,
    whole: bool,
    width: float,
    cells: Floats,
    devices: Floats,
    keys: Keys,
    drives: Any,
    heads: Integers,
    links: Integers,
    numbers: Integers,
    fired: Any,
) -> Any:
    """Own events of the bucket, or of its part up to `until`; returns `fired`."""
    first, trains, drive_keys, number, earliest = drives
    fired_times, fired_neurons = fired
    bucket = numbers[BUCKET]
    slot = bucket % heads.size
    n = heads[slot]
    while n >= 0:
        while True:
            own = min(cells[n, CROSSING], earliest[n])
            if not (own / width < bucket + 1 and (whole or own <= until)):
                break
            if numbers[FIRED] == fired_times.size:
                fired_times, fired_neurons = enlarged(fired_times, fired_neurons)
            _step(
                n, cells, devices, keys, first, trains, drive_keys, number, earliest, numbers,
                fired_times, fired_neurons,
            )  # fmt: skip
        if whole:
            _unlink(n, heads, links)
            enqueue(n, own, bucket + 1, width, heads, links)
            n = heads[slot]
        else:
            n = links[n, AFTER]
    return fired_times, fired_neurons


@compiled
def start(
    width: float, cells: Floats, devices: Floats, earliest: Floats, heads: Integers, links: Integers
) -> None:
    """Predict and queue every neuron's first own event."""
    for n in range(cells.shape[0]):
        if cells[n, KIND] != SOURCE:
            predict(cells, devices, n)
            enqueue(n, min(cells[n, CROSSING], earliest[n]), 0, width, heads, links)


@compiled
def run(
    until: float,
    width: float,
    wires: Any,
    is_source: npt.NDArray[np.bool_],
    sources: Any,
    drives: Any,
    cells: Floats,
    devices: Floats,
    keys: Keys,
    heads: Integers,
    links: Integers,
    touched: npt.NDArray[np.bool_],
    numbers: Integers,
    ring: Any,
    items: Any,
    fired: Any,
    kept: Any,
) -> Any:
    """Simulate up to and including `until`; returns (ring, items, fired, kept).

    wires, drives: as in `frames.kernel`; the group of a segment is the receptor. cells, devices:
    see `layout`; keys (M,): of the devices' draws. heads (R,), links (N, 3): the neurons' calendar.
    """
    first, delay = wires[0], wires[1]
    while numbers[BUCKET] * width <= until:
        bucket = numbers[BUCKET]
        if numbers[STARTED] == 0:
            fired = source_spikes(bucket, width, sources, fired, numbers)
            ring = send(fired, numbers, True, is_source, first, delay, ring, bucket, width)
            items = due(ring, bucket, width)
            numbers[CURSOR] = 0
            numbers[STARTED] = 1
        whole = until >= (bucket + 1) * width
        limit = math.inf if whole else until
        fired = deliver(
            limit, width, items, wires, cells, devices, keys, drives, heads, links, touched,
            numbers, fired,
        )  # fmt: skip
        fired = own_events(
            until, whole, width, cells, devices, keys, drives, heads, links, numbers, fired
        )
        if not whole:
            break
        sort_fired(fired, numbers)
        ring = send(fired, numbers, False, is_source, first, delay, ring, bucket + 1, width)
        kept = keep(fired, numbers, kept)
        numbers[STARTED] = 0
        numbers[BUCKET] += 1
    return ring, items, fired, kept
