"""Four rows at once: every weight row that any of them needs is read and added once.

The rows are the steps of one token. Inputs are listed by their pattern, in which of the four rows
they spike; the sum of each list is added to the rows of its pattern. Work is that of the union,
1 - (1 - p)^4 for independent spikes instead of 4 p, and less where neurons fire repeatedly.

Three forms: lists by pattern keep their sums in registers, unwidened where integer weights are in
the cache and rows are short; for float weights that come from memory, inputs in ascending order add
to 16 sums in the first-level cache, because memory then streams.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from neurosim.kernels._jit import compiled
from neurosim.kernels._lanes import add, load, store, zero_sums
from neurosim.kernels._simd import lowest_bit
from neurosim.kernels._simd_masks import count_bits
from neurosim.kernels.packed._words import Index, Words, index_type
from neurosim.kernels.spike_linear._partial import finish, partial_rows
from neurosim.kernels.spike_linear._sums import fetch_row, load_floats, sum_rows

_AHEAD = 16  # rows fetched before they are needed


class Unions(NamedTuple):
    """Channels that spike in any of four rows, ascending, and in which.

    Those of group g are `channels[pointer[g] : pointer[g + 1]]`; bit i of a code is row 4 g + i.
    """

    pointer: npt.NDArray[np.int64]  # (G + 1,)
    channels: Index
    codes: npt.NDArray[np.uint8]


def unions(words: Words, columns: int) -> Unions:
    """List the words of one plane, (R, W)."""
    pointer = np.empty(words.shape[0] // 4 + 1, np.int64)
    _count_unions(words, pointer)
    channels: Index = np.empty(pointer[-1], index_type(columns))
    codes = np.empty(pointer[-1], np.uint8)
    _list_unions(words, channels, codes)
    return Unions(pointer, channels, codes)


@compiled
def _count_unions(words: Any, pointer: Any) -> None:
    pointer[0] = 0
    for group in range(words.shape[0] // 4):
        a, b = words[4 * group], words[4 * group + 1]
        c, d = words[4 * group + 2], words[4 * group + 3]
        found = np.int64(0)
        for w in range(words.shape[1]):
            found += count_bits(a[w] | b[w] | c[w] | d[w])
        pointer[group + 1] = pointer[group] + found


@compiled
def _list_unions(words: Any, channels: Any, codes: Any) -> None:
    one = np.uint64(1)
    found = 0
    for group in range(words.shape[0] // 4):
        for w in range(words.shape[1]):
            a, b = words[4 * group, w], words[4 * group + 1, w]
            c, d = words[4 * group + 2, w], words[4 * group + 3, w]
            any_row = a | b | c | d
            while any_row != np.uint64(0):
                lane = np.uint64(lowest_bit(any_row))
                any_row &= any_row - one
                ab = (a >> lane & one) | (b >> lane & one) << one
                cd = (c >> lane & one) | (d >> lane & one) << one
                channels[found] = 64 * w + lane
                codes[found] = ab | cd << np.uint64(2)
                found += 1


@functools.cache
def pattern(bits: int, width: int, far: int) -> Callable[..., None]:
    """The kernel for this type of weights; `far` as for `sum_rows`."""
    floats = int(bits >= 16)

    @compiled
    def by_pattern(
        pointer: Any,
        channels: Any,
        panels: Any,
        out: Any,
        columns: int,
        first_panel: int,
        last_panel: int,
        first_group: int,
        last_group: int,
    ) -> None:
        """Fill rows 4 g .. 4 g + 3 and panels of out (R, columns), flat; lists as of Patterns."""
        for number in range(first_panel, last_panel):
            panel = panels[number]
            for group in range(first_group, last_group):
                a, b = zero_sums(floats, width), zero_sums(floats, width)
                c, d = zero_sums(floats, width), zero_sums(floats, width)
                none = zero_sums(floats, width)
                for which in range(1, 16):
                    at = 15 * group + which - 1
                    start, stop = pointer[at], pointer[at + 1]
                    if start < stop:
                        x = sum_rows(none, panel, channels, start, stop, bits, width, far, 1)
                        if which & 1:
                            a = add(a, x)
                        if which & 2:
                            b = add(b, x)
                        if which & 4:
                            c = add(c, x)
                        if which & 8:
                            d = add(d, x)
                at = 4 * group * columns + number * width
                store(out, at, a)
                store(out, at + columns, b)
                store(out, at + 2 * columns, c)
                store(out, at + 3 * columns, d)

    return by_pattern


@functools.cache
def pattern_short(bits: int, width: int, far: int) -> Callable[..., None]:
    """The kernel for integer weights and rows of at most LONGEST spikes: sums widen once a row."""

    @compiled
    def by_pattern_short(
        pointer: Any,
        channels: Any,
        panels: Any,
        out: Any,
        columns: int,
        first_panel: int,
        last_panel: int,
        first_group: int,
        last_group: int,
    ) -> None:
        """As by_pattern."""
        for number in range(first_panel, last_panel):
            panel = panels[number]
            for group in range(first_group, last_group):
                a = partial_rows(panel, channels, 0, 0, bits, width, far)
                b, c, d = a, a, a
                count_a, count_b, count_c, count_d = 0, 0, 0, 0
                for which in range(1, 16):
                    at = 15 * group + which - 1
                    start, stop = pointer[at], pointer[at + 1]
                    if start < stop:
                        x = partial_rows(panel, channels, start, stop, bits, width, far)
                        if which & 1:
                            a = add(a, x)
                            count_a += stop - start
                        if which & 2:
                            b = add(b, x)
                            count_b += stop - start
                        if which & 4:
                            c = add(c, x)
                            count_c += stop - start
                        if which & 8:
                            d = add(d, x)
                            count_d += stop - start
                at = 4 * group * columns + number * width
                store(out, at, finish(a, count_a, bits))
                store(out, at + columns, finish(b, count_b, bits))
                store(out, at + 2 * columns, finish(c, count_c, bits))
                store(out, at + 3 * columns, finish(d, count_d, bits))

    return by_pattern_short


@functools.cache
def streamed(bits: int, width: int) -> Callable[..., None]:
    """The kernel for float weights that come from memory."""

    @compiled
    def by_channel(
        pointer: Any,
        channels: Any,
        codes: Any,
        bins: Any,
        panels: Any,
        out: Any,
        columns: int,
        first_panel: int,
        last_panel: int,
        first_group: int,
        last_group: int,
    ) -> None:
        """As by_pattern, with the lists of Unions and scratch bins (16 x width) float32."""
        for number in range(first_panel, last_panel):
            panel = panels[number]
            for group in range(first_group, last_group):
                for which in range(1, 16):
                    store(bins, which * width, zero_sums(1, width))
                for event in range(pointer[group], pointer[group + 1]):
                    if event + _AHEAD < channels.shape[0]:
                        fetch_row(panel, np.int64(channels[event + _AHEAD]) * width, width)
                    at = np.int64(codes[event]) * width
                    x = load_floats(panel, np.int64(channels[event]) * width, bits, width)
                    store(bins, at, add(load(bins, at, width), x))
                for step in range(4):
                    total = zero_sums(1, width)
                    for which in range(1, 16):
                        if which >> step & 1:
                            total = add(total, load(bins, which * width, width))
                    store(out, (4 * group + step) * columns + number * width, total)

    return by_channel
