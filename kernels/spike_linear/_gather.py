"""Event lists against weight panels: per row and panel, the listed rows are added in registers.

A panel stays in the second-level cache while all rows of spikes pass over it. Kernels fill a
rectangle of rows and panels of the result, so that threads share no output; its rows hold all
outputs of all panels, so that vectors are always whole. (Arrays are not handed to functions that
Numba compiles apart: it would count references for every row.)
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from neurosim.kernels._jit import compiled
from neurosim.kernels._lanes import add, store, zero_sums
from neurosim.kernels.spike_linear._sums import sum_rows


@functools.cache
def gather(bits: int, width: int, far: int) -> Callable[..., None]:
    """The kernel for binary spikes and this type of weights; `far` as for `sum_rows`."""
    floats = int(bits >= 16)

    @compiled
    def gather_binary(
        pointer: Any,
        channels: Any,
        panels: Any,
        out: Any,
        columns: int,
        first_panel: int,
        last_panel: int,
        first_row: int,
        last_row: int,
    ) -> None:
        """Fill rows and panels of out (R, columns), flat, from event lists."""
        for number in range(first_panel, last_panel):
            panel = panels[number]
            for row in range(first_row, last_row):
                none = zero_sums(floats, width)
                start, stop = pointer[row], pointer[row + 1]
                total = sum_rows(none, panel, channels, start, stop, bits, width, far, 1)
                store(out, row * columns + number * width, total)

    return gather_binary


@functools.cache
def gather_counts(bits: int, width: int, far: int) -> Callable[..., None]:
    """The kernel for signed counts: float sums in the order that `spike_linear` documents."""
    floats = int(bits >= 16)

    @compiled
    def gather_classes(
        pointer: Any,
        channels: Any,
        levels: int,
        sides: int,
        panels: Any,
        out: Any,
        columns: int,
        first_panel: int,
        last_panel: int,
        first_row: int,
        last_row: int,
    ) -> None:
        """As gather_binary; the lists of a row are counts levels, -levels, levels - 1, ...

        With one side there are no lists of negative counts.
        """
        for number in range(first_panel, last_panel):
            panel = panels[number]
            for row in range(first_row, last_row):
                total = zero_sums(floats, width)
                running = zero_sums(floats, width)
                at = row * levels * sides
                for _ in range(levels):
                    start, stop = pointer[at], pointer[at + 1]
                    running = sum_rows(running, panel, channels, start, stop, bits, width, far, 1)
                    if sides == 2:
                        start, stop = stop, pointer[at + 2]
                        running = sum_rows(
                            running, panel, channels, start, stop, bits, width, far, -1
                        )
                    total = add(total, running)
                    at += sides
                store(out, row * columns + number * width, total)

    return gather_classes
