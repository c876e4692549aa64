"""Beginning and end of a window: spikes of sources, deliveries to come, spikes that are final.

`fired`: times and neurons of a window's spikes, the first `numbers[FIRED]` entries of two arrays;
`kept`: those of the windows before, `numbers[KEPT]` entries.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.events.exact.layout import FIRED, KEPT, LISTED
from neurosim.events.exact.ring import collect, in_order, push, with_room
from neurosim.events.exact.trains import interval
from neurosim.kernels._jit import compiled

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Pair = tuple[Floats, Integers]
Ring = tuple[Integers, Integers, Floats, Integers, Integers]


@compiled
def enlarged(times: Floats, neurons: Integers) -> Pair:
    """The same spikes in arrays of twice the size."""
    count = times.size
    new_times, new_neurons = np.empty(2 * count + 64), np.empty(2 * count + 64, np.int64)
    new_times[:count], new_neurons[:count] = times, neurons
    return new_times, new_neurons


@compiled
def source_spikes(bucket: int, width: float, sources: Any, fired: Pair, numbers: Integers) -> Pair:
    """Append the sources' spikes in `bucket` to `fired`; returns it.

    sources: the arrays of `trains.Sources`, in their order.
    """
    times, neurons, poisson, rates, keys, following, number = sources
    out_times, out_neurons = fired
    listed = numbers[LISTED]
    while listed < times.size and times[listed] / width < bucket + 1:
        if numbers[FIRED] == out_times.size:
            out_times, out_neurons = enlarged(out_times, out_neurons)
        out_times[numbers[FIRED]], out_neurons[numbers[FIRED]] = times[listed], neurons[listed]
        numbers[FIRED] += 1
        listed += 1
    numbers[LISTED] = listed
    for p in range(poisson.size):
        while following[p] / width < bucket + 1:
            if numbers[FIRED] == out_times.size:
                out_times, out_neurons = enlarged(out_times, out_neurons)
            out_times[numbers[FIRED]], out_neurons[numbers[FIRED]] = following[p], poisson[p]
            numbers[FIRED] += 1
            number[p] += 1
            following[p] += interval(keys[p], number[p], rates[p])
    return out_times, out_neurons


@compiled
def send(
    fired: Pair,
    numbers: Integers,
    given: bool,
    is_source: npt.NDArray[np.bool_],
    first: Integers,
    delay: Floats,
    ring: Ring,
    bucket: int,
    width: float,
) -> Ring:
    """Put the segments of a window's `given` or computed spikes into the ring, from `bucket` on."""
    heads, links, times, segments, pool = ring
    fired_times, fired_neurons = fired
    wanted = 0
    for k in range(numbers[FIRED]):
        neuron = fired_neurons[k]
        if is_source[neuron] == given:
            wanted += first[neuron + 1] - first[neuron]
    links, times, segments = with_room(links, times, segments, pool, wanted)
    for k in range(numbers[FIRED]):
        neuron = fired_neurons[k]
        if is_source[neuron] == given:
            for m in range(first[neuron], first[neuron + 1]):
                arrival = fired_times[k] + delay[m]
                push(heads, links, times, segments, pool, bucket, width, arrival, m)
    return heads, links, times, segments, pool


@compiled
def due(ring: Ring, bucket: int, width: float) -> Pair:
    """The deliveries of a bucket in order."""
    heads, links, times, segments, pool = ring
    found: Pair = collect(heads, links, times, segments, pool, bucket, width)
    return found


@compiled
def sort_fired(fired: Pair, numbers: Integers) -> None:
    """Sort a window's spikes by time, then neuron."""
    in_order(fired[0][: numbers[FIRED]], fired[1][: numbers[FIRED]])


@compiled
def keep(fired: Pair, numbers: Integers, kept: Pair) -> Pair:
    """Move a window's sorted spikes to those of earlier windows."""
    count, already = numbers[FIRED], numbers[KEPT]
    kept_times, kept_neurons = kept
    while already + count > kept_times.size:
        kept_times, kept_neurons = enlarged(kept_times, kept_neurons)
    kept_times[already : already + count] = fired[0][:count]
    kept_neurons[already : already + count] = fired[1][:count]
    numbers[KEPT] += count
    numbers[FIRED] = 0
    return kept_times, kept_neurons
