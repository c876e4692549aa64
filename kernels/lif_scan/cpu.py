"""Spiking neurons with Numba: the 64 membranes of a word stay in registers over all steps.

What is None (an output, the first state, the levels of binary neurons) is left out of the compiled
code, so that the inner loop holds nothing that a call does not need.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.kernels._jit import compiled, inlined
from neurosim.kernels._threads import pool
from neurosim.kernels.lif_scan import _vectors as v64
from neurosim.kernels.lif_scan._backward import backward, backward_into
from neurosim.kernels.lif_scan._fire import fired, flat, padded, read, write
from neurosim.kernels.lif_scan._types import LifWorkspace, Neuron

__all__ = ["backward", "backward_into", "fill", "scan"]

Floats = npt.NDArray[np.float32]

_zero, _load, _splat = v64.zero, v64.load, v64.splat
_add, _subtract, _times = v64.add, v64.subtract, v64.times
_at_least, _above, _below, _select = v64.at_least, v64.above, v64.below, v64.select
_to_bytes, _store_bytes = v64.to_bytes, v64.store_bytes_part


def scan(
    x: Floats,
    decay: Floats,
    gain: Floats,
    threshold: Floats,
    neuron: Neuron,
    state: Floats | None,
    pack: bool,
    save: bool,
    keep: bool = True,
    token_major: bool = False,
    workspace: LifWorkspace | None = None,
    threads: int = 1,
) -> tuple[npt.NDArray[Any], Floats | None, Floats | None]:
    """See reference.py."""
    steps, rows, columns = x.shape
    take = (workspace or LifWorkspace()).array
    last = take("state", (rows, columns), np.float32) if keep else None
    membrane = take("membrane", x.shape, np.float32) if save else None
    words = counts = None
    if pack:
        words = take("words", (neuron.planes, steps * rows, -(-columns // 64)), np.uint64)
    else:
        counts = take("counts", x.shape, np.int8)
    fill(
        x, decay, gain, threshold, neuron, state, last=last, words=words, counts=counts,
        membrane=membrane, token_major=token_major, threads=threads,
    )  # fmt: skip
    spikes: Any = words if pack else counts
    return spikes, last, membrane


def fill(
    x: Floats,
    decay: Floats,
    gain: Floats,
    threshold: Floats,
    neuron: Neuron,
    state: Floats | None,
    *,
    last: Floats | None = None,
    words: npt.NDArray[np.uint64] | None = None,
    counts: npt.NDArray[np.int8] | None = None,
    numbers: Floats | None = None,
    membrane: Floats | None = None,
    token_major: bool = False,
    threads: int = 1,
) -> None:
    """Fill whichever outputs are given: int8 counts, float32 numbers, membranes (T, R, N)."""
    steps, rows, columns = x.shape
    edge, levels = padded(threshold, 1), neuron.levels
    arguments = (
        x.reshape(-1), steps, rows, columns, padded(decay), padded(gain), edge, levels,
        neuron.reset == "hard", neuron.signed, neuron.rounding == "half_even",
        levels is not None and bool((edge == 1).all()), flat(state), flat(last), flat(words),
        token_major, flat(counts), flat(numbers), flat(membrane),
    )  # fmt: skip
    if threads == 1 or rows < threads:
        _scan(*arguments, 0, rows)
    else:
        ends = [rows * piece // threads for piece in range(threads + 1)]
        pieces = zip(ends, ends[1:], strict=False)
        list(pool(threads).map(lambda piece: _scan(*arguments, *piece), pieces))


@inlined
def _block(
    x: Any, steps: Any, rows: Any, columns: Any, r: Any, w: Any, partial: bool,
    decay: Any, gain: Any, threshold: Any,
    levels: Any, hard: Any, signed: Any, even: Any, unit: Any,
    state: Any, last: Any, words: Any, token_major: Any, counts: Any, numbers: Any, membrane: Any,
) -> None:  # fmt: skip
    """All steps of the neurons of word w of row r; `partial` where the row ends in it."""
    c = 64 * w
    mask = ~np.uint64(0) >> np.uint64(c + 64 - columns) if partial else ~np.uint64(0)
    beta, scale, edge = _load(decay, c), _load(gain, c), _load(threshold, c)
    here, stride = r * columns + c, rows * columns
    width = (columns + 63) // 64
    word = (r * steps if token_major else r) * width + w
    word_stride = width if token_major else rows * width
    plane = steps * rows * width
    v = read(state, here, mask, partial) if state is not None else _zero()
    for t in range(steps):
        at = here + t * stride
        u = _add(_times(beta, v), _times(scale, read(x, at, mask, partial)))
        if membrane is not None:
            write(membrane, at, u, mask, partial)
        to = word + t * word_stride
        if levels is None:
            m = _at_least(u, edge)
            v = _select(m, _zero() if hard else _subtract(u, edge), u)
            if words is not None:
                words[to] = m
            if counts is not None or numbers is not None:
                n = _select(m, _splat(np.float32(1)), _zero())
                if counts is not None:
                    _store_bytes(counts, at, _to_bytes(n), mask)
                if numbers is not None:
                    write(numbers, at, n, mask, partial)
        else:
            n = fired(u, edge, levels, signed, even, unit)
            v = _subtract(u, _times(edge, n))
            if words is not None:
                for d in range(levels):
                    words[to + d * plane] = _above(n, _splat(np.float32(d)))
                if signed:
                    for d in range(levels):
                        words[to + (levels + d) * plane] = _below(n, _splat(np.float32(-d)))
            if counts is not None:
                _store_bytes(counts, at, _to_bytes(n), mask)
            if numbers is not None:
                write(numbers, at, n, mask, partial)
    if last is not None:
        write(last, here, v, mask, partial)


@compiled
def _scan(
    x: Any, steps: int, rows: int, columns: int, decay: Any, gain: Any, threshold: Any,
    levels: int | None, hard: bool, signed: bool, even: bool, unit: bool,
    state: Any, last: Any, words: Any, token_major: bool, counts: Any, numbers: Any, membrane: Any,
    first: int, end: int,
) -> None:  # fmt: skip
    """Rows first..end; rows are independent."""
    for r in range(first, end):
        for w in range(columns // 64):
            _block(
                x, steps, rows, columns, r, w, False, decay, gain, threshold, levels, hard, signed,
                even, unit, state, last, words, token_major, counts, numbers, membrane,
            )  # fmt: skip
        if columns % 64:
            _block(
                x, steps, rows, columns, r, columns // 64, True, decay, gain, threshold, levels,
                hard, signed, even, unit, state, last, words, token_major, counts, numbers,
                membrane,
            )  # fmt: skip
