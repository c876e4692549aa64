"""The calendar: a ring of buckets with the deliveries to come, as linked lists in one pool.

A delivery is one segment at one time. One that lies beyond the ring's horizon waits in the last
bucket and moves on from there. Compiled helpers; the arrays belong to a simulation.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from neurosim.kernels._jit import compiled

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
_BLOCK = 16  # sorted by insertion
FREE, LIVE = 0, 1  # entries of `pool`: head of the free list, deliveries waiting


def bucket_count(longest_delay: float, width: float) -> int:
    """Buckets of a ring that holds delays of `longest_delay` (s), at most 65536."""
    return int(min(max(longest_delay / width + 3.0, 4.0), 65536.0))


def new_ring(buckets: int) -> tuple[Integers, Integers, Floats, Integers, Integers]:
    """Empty (heads, links, times, segments, pool)."""
    links, pool = np.arange(1, 65, dtype=np.int64), np.zeros(2, np.int64)
    links[-1] = -1
    heads = np.full(buckets, -1, np.int64)
    return heads, links, np.zeros(64), np.zeros(64, np.int64), pool


@compiled
def with_room(
    links: Integers, times: Floats, segments: Integers, pool: Integers, wanted: int
) -> tuple[Integers, Floats, Integers]:
    """The pool's arrays with room for `wanted` more deliveries."""
    size = links.size
    if size - pool[LIVE] >= wanted:
        return links, times, segments
    larger = max(2 * size, size + wanted)
    new_links, new_times = np.empty(larger, np.int64), np.zeros(larger)
    new_segments = np.zeros(larger, np.int64)
    new_links[:size], new_times[:size], new_segments[:size] = links, times, segments
    for k in range(size, larger):
        new_links[k] = k + 1
    new_links[larger - 1] = pool[FREE]
    pool[FREE] = size
    return new_links, new_times, new_segments


@compiled
def push(
    heads: Integers,
    links: Integers,
    times: Floats,
    segments: Integers,
    pool: Integers,
    bucket: int,
    width: float,
    time: float,
    segment: int,
) -> None:
    """Put a delivery into the ring, at the earliest into `bucket`; there must be room."""
    ahead = min(max(time / width - bucket, 0.0), heads.size - 1.0)
    slot = (bucket + int(ahead)) % heads.size
    entry = pool[FREE]
    pool[FREE] = links[entry]
    pool[LIVE] += 1
    times[entry], segments[entry] = time, segment
    links[entry] = heads[slot]
    heads[slot] = entry


@compiled
def collect(
    heads: Integers,
    links: Integers,
    times: Floats,
    segments: Integers,
    pool: Integers,
    bucket: int,
    width: float,
) -> tuple[Floats, Integers]:
    """Take the deliveries of `bucket`, sorted by time, then segment, out of the ring."""
    slot = bucket % heads.size
    entry = heads[slot]
    heads[slot] = -1
    count = 0
    waiting = entry
    while waiting >= 0:
        count += 1
        waiting = links[waiting]
    found_times, found_segments = np.empty(count), np.empty(count, np.int64)
    while entry >= 0:
        following = links[entry]
        links[entry] = pool[FREE]
        pool[FREE] = entry
        pool[LIVE] -= 1
        if times[entry] / width >= bucket + 1.0:
            time, segment = times[entry], segments[entry]
            push(heads, links, times, segments, pool, bucket + 1, width, time, segment)
        else:
            count -= 1  # the last one in is the first of the list
            found_times[count], found_segments[count] = times[entry], segments[entry]
        entry = following
    return in_order(found_times[count:], found_segments[count:])


@compiled
def in_order(times: Floats, numbers: Integers) -> tuple[Floats, Integers]:
    """Times (K,) and numbers (K,) sorted by time, then number; both arrays are overwritten.

    Blocks are sorted by insertion, then merged; blocks already in order cost one comparison.
    """
    count = times.size
    for low in range(0, count, _BLOCK):
        for k in range(low + 1, min(low + _BLOCK, count)):
            time, number = times[k], numbers[k]
            at = k
            while at > low and (
                times[at - 1] > time or (times[at - 1] == time and numbers[at - 1] > number)
            ):
                times[at], numbers[at] = times[at - 1], numbers[at - 1]
                at -= 1
            times[at], numbers[at] = time, number
    if count <= _BLOCK:
        return times, numbers
    left_times, left_numbers = np.empty(count), np.empty(count, np.int64)
    size = _BLOCK
    while size < count:
        for low in range(0, count - size, 2 * size):
            middle, high = low + size, min(low + 2 * size, count)
            one, two = times[middle - 1], times[middle]
            if one < two or (one == two and numbers[middle - 1] <= numbers[middle]):
                continue
            left_times[:size] = times[low:middle]
            left_numbers[:size] = numbers[low:middle]
            i, j, at = 0, middle, low
            while i < size and j < high:
                one, two = left_times[i], times[j]
                if one < two or (one == two and left_numbers[i] <= numbers[j]):
                    times[at], numbers[at] = one, left_numbers[i]
                    i += 1
                else:
                    times[at], numbers[at] = two, numbers[j]
                    j += 1
                at += 1
            while i < size:
                times[at], numbers[at] = left_times[i], left_numbers[i]
                i += 1
                at += 1
        size *= 2
    return times, numbers
