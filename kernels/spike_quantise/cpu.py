"""Spike counts in Numba: a pass for the maximum, a pass for the counts, no temporaries."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from neurosim.kernels._jit import compiled, inlined
from neurosim.kernels._lanes import load, store
from neurosim.kernels.spike_quantise._vectors import larger, largest, magnitudes, rounded

_LANES = 16
_KINDS = (np.dtype(np.float32), np.dtype(np.float64))


def supports(values: Any, scale: Any) -> str | None:
    """What is compiled: whole rows of float32 or float64 with one scale each."""
    if not isinstance(values, np.ndarray):
        return None if "float32" in str(values.dtype) else f"expected float32, got {values.dtype}"
    if values.dtype not in _KINDS:
        return f"expected float32 or float64 in native order, got {values.dtype}"
    if not isinstance(scale, str) and scale.ndim and scale.shape[-1] != 1:
        return "the scales differ along the last axis"
    return None


def spike_quantise(x: Any, top: int, scale: Any) -> tuple[Any, Any, bool]:
    """See reference.py."""
    values = np.ascontiguousarray(x)
    counts = np.empty(values.shape, np.int8)
    limit = values.dtype.type(top)
    if isinstance(scale, str):
        size = values.size if scale == "tensor" else values.shape[-1]
        rows = 1 if scale == "tensor" else math.prod(values.shape[:-1])
        scales = np.empty(rows, values.dtype)
        out = counts.reshape(rows, size)
        finite = quantise_rows(values.reshape(rows, size), limit, out, scales)
        shape = () if scale == "tensor" else (*values.shape[:-1], 1)
        return counts, scales.reshape(shape), finite
    rows = math.prod(values.shape[:-1])
    each = np.ascontiguousarray(np.broadcast_to(scale, (*values.shape[:-1], 1))).reshape(rows)
    shape = (rows, values.shape[-1])
    return counts, scale, quantise_by(values.reshape(shape), limit, counts.reshape(shape), each)


@compiled
def quantise_rows(x: Any, top: Any, counts: Any, scales: Any) -> bool:
    """Counts (R, N) int8 and scales (R,) of x (R, N), both given; whether all is finite.

    C-contiguous, `top` of the type of x; nothing is checked: for loops that decode.
    """
    rows, size = x.shape
    values, out = x.reshape(-1), counts.reshape(-1)
    finite = True
    for row in range(rows):
        biggest = _biggest(values, row * size, size, top - top)
        finite &= biggest - biggest == 0
        scales[row] = biggest / top  # stored before it is looked at, to be rounded
        if scales[row] == 0:
            scales[row] = 1
        _counts(values, row * size, size, scales[row], top, out)
    return finite


@compiled
def quantise_by(x: Any, top: Any, counts: Any, scales: Any) -> bool:
    """The same with scales (R,) that are read."""
    rows, size = x.shape
    values, out = x.reshape(-1), counts.reshape(-1)
    finite = True
    for row in range(rows):
        biggest = _biggest(values, row * size, size, top - top)
        finite &= biggest - biggest == 0
        _counts(values, row * size, size, scales[row], top, out)
    return finite


@inlined
def _biggest(values: Any, first: int, size: int, zero: Any) -> Any:
    """max |values|; NaN or infinity if there is one."""
    if size >= _LANES:
        top = magnitudes(load(values, first, _LANES))
        for i in range(_LANES, size - _LANES + 1, _LANES):
            top = larger(magnitudes(load(values, first + i, _LANES)), top)
        last = load(values, first + size - _LANES, _LANES)  # again what the loop has left over
        return largest(larger(magnitudes(last), top))
    biggest = zero
    for i in range(first, first + size):
        if not biggest >= abs(values[i]):
            biggest = abs(values[i])
        if values[i] != values[i]:
            return values[i]
    return biggest


@inlined
def _counts(values: Any, first: int, size: int, scale: Any, top: Any, out: Any) -> None:
    if size >= _LANES:
        for i in range(0, size - _LANES + 1, _LANES):
            x = load(values, first + i, _LANES)
            store(out, first + i, rounded(x, scale, top))
        last = first + size - _LANES
        store(out, last, rounded(load(values, last, _LANES), scale, top))
        return
    for i in range(first, first + size):
        a = min(abs(values[i] / scale), top)
        whole = math.floor(a)
        n = int(whole) + (1 if a - whole >= 0.5 else 0)
        out[i] = -n if values[i] < 0 else n
