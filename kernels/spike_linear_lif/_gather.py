"""Fused linear and neuron from event lists: sums and membranes of a panel stay in registers.

For a panel of columns, token by token and step by step: add the weight rows of the step's spikes,
integrate, fire, reset, and store the spikes as words. Sums never go to memory.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from neurosim.kernels._jit import compiled
from neurosim.kernels._lanes import add, load, multiply, store, zero_sums
from neurosim.kernels.spike_linear._sums import sum_rows
from neurosim.kernels.spike_linear_lif._fire import as_floats, halve
from neurosim.kernels.spike_linear_lif._scan import fire, fire_integer


@functools.cache
def gather(bits: int, width: int, far: int, integer: int, single: int) -> Callable[..., None]:
    """The kernel for weights of this type; `far` as for `sum_rows`.

    `integer` is 1 for int32 membranes, `single` for binary spikes, one list to a row; else 0.
    """
    floats = int(bits >= 16)

    @compiled
    def gather_lif(
        pointer: Any,
        channels: Any,
        counts: int,
        sides: int,
        panels: Any,
        after: int,
        decay: Any,
        gain: Any,
        threshold: Any,
        shift: int,
        levels: int,
        hard: bool,
        start_state: Any,
        apart: int,
        state: Any,
        words: Any,
        membrane: Any,
    ) -> None:
        """Fill words, state (R, N) and, where it is not empty, membrane (rows, N).

        Args:
            pointer, channels: lists of the inputs of every row: those of count `counts`, with two
                `sides` then those of -`counts`, those of `counts` - 1, and so on.
            panels: (N / width, I * width / fields), of a PackedWeight.
            after: rows from a step of a token to its next.
            decay, gain, threshold: (N,); integer membranes use `shift` and threshold.
            start_state: flat, (R, N) with `apart` N, or (N,) for all tokens with `apart` 0.
            words: (P, rows, N / 64).
        """
        tokens, columns = state.shape
        rows = words.shape[1]
        steps = rows // max(tokens, 1)
        plane, line = rows * words.shape[2], words.shape[2]
        flat = words.reshape(-1)
        for p in range(panels.shape[0]):
            panel = panels[p]
            c = p * width
            edge = load(threshold, c, width)
            for token in range(tokens):
                first = token // after * after * steps + token % after
                v = load(start_state, token * apart + c, width)
                for t in range(steps):
                    row = first + t * after
                    x = zero_sums(floats, width)
                    if single == 1:
                        start, stop = pointer[row], pointer[row + 1]
                        x = sum_rows(x, panel, channels, start, stop, bits, width, far, 1)
                    else:
                        running = x
                        for i in range(row * counts * sides, (row + 1) * counts * sides, sides):
                            start, stop = pointer[i], pointer[i + 1]
                            running = sum_rows(
                                running, panel, channels, start, stop, bits, width, far, 1
                            )
                            if sides == 2:
                                start, stop = pointer[i + 1], pointer[i + 2]
                                running = sum_rows(
                                    running, panel, channels, start, stop, bits, width, far, -1
                                )
                            x = add(x, running)
                    at = row * line + c // 64
                    if integer == 1:
                        u = add(halve(v, shift), x)
                        if membrane.size:
                            store(membrane, row * columns + c, u)
                        v = fire_integer(u, edge, hard, flat, at)
                    else:
                        leaked = multiply(load(decay, c, width), v)
                        u = add(leaked, multiply(load(gain, c, width), as_floats(x)))
                        if membrane.size:
                            store(membrane, row * columns + c, u)
                        v = fire(u, edge, levels, hard, flat, at, plane)
                store(state, token * columns + c, v)

    return gather_lif
