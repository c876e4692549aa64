"""What a neuron does with a sum; and neurons driven by sums that wait in a scratch block."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from neurosim.kernels._jit import compiled, inlined
from neurosim.kernels._lanes import add, divide, load, multiply, store, subtract
from neurosim.kernels.spike_linear_lif._fire import (
    as_floats,
    at_least,
    choose,
    floor,
    halve,
    like,
    store_mask,
)


@inlined
def fire(u: Any, edge: Any, levels: int, hard: bool, words: Any, at: int, plane: int) -> Any:
    """Membranes after firing; spikes go to words[at], a plane of `plane` words after another.

    Float membranes; as `lif_scan`, operation by operation.
    """
    zero = subtract(edge, edge)
    if levels == 0:
        mask = at_least(u, edge)
        store_mask(words, at, mask)
        return choose(mask, zero if hard else subtract(u, edge), u)
    n = floor(add(divide(u, edge), like(u, np.float32(0.5))))
    n = choose(at_least(n, zero), n, zero)
    top = like(u, np.float32(levels))
    n = choose(at_least(n, top), top, n)
    for d in range(levels):
        store_mask(words, at + d * plane, at_least(n, like(u, np.float32(d + 1))))
    return subtract(u, multiply(edge, n))


@inlined
def fire_integer(u: Any, edge: Any, hard: bool, words: Any, at: int) -> Any:
    """The same for integer membranes and binary spikes."""
    mask = at_least(u, edge)
    store_mask(words, at, mask)
    return choose(mask, subtract(edge, edge) if hard else subtract(u, edge), u)


@functools.cache
def scan(width: int, integer: int) -> Callable[..., None]:
    """The kernel for one panel of sums; `integer` is 1 for int32 membranes, else 0."""

    @compiled
    def scan_panel(
        sums: Any,
        start: int,
        stop: int,
        c: int,
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
        """As `gather`, for tokens start to stop and the `width` columns from c.

        Args:
            sums: ((stop - start) T, width), flat: the steps of a token after one another.
        """
        tokens, columns = state.shape
        rows = words.shape[1]
        steps = rows // max(tokens, 1)
        plane, line = rows * words.shape[2], words.shape[2]
        flat = words.reshape(-1)
        edge = load(threshold, c, width)
        beta, scale = load(decay, c, width), load(gain, c, width)
        for token in range(start, stop):
            first = token // after * after * steps + token % after
            v = load(start_state, token * apart + c, width)
            for t in range(steps):
                row = first + t * after
                x = load(sums, ((token - start) * steps + t) * width, width)
                at = row * line + c // 64
                if integer == 1:
                    u = add(halve(v, shift), x)
                    if membrane.size:
                        store(membrane, row * columns + c, u)
                    v = fire_integer(u, edge, hard, flat, at)
                else:
                    u = add(multiply(beta, v), multiply(scale, as_floats(x)))
                    if membrane.size:
                        store(membrane, row * columns + c, u)
                    v = fire(u, edge, levels, hard, flat, at, plane)
            store(state, token * columns + c, v)

    return scan_panel
