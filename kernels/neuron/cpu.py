"""Batch normalisation fused with the integer neuron, Numba: one pass for statistics, one for
spikes.

Channels are the contiguous axis, so that every inner loop vectorises over them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from neurosim.kernels._jit import compiled, compiled_loosely
from neurosim.kernels._scratch import on_stack

Floats = npt.NDArray[np.float32]
_CHANNELS = 1024  # at a time: their sums are on the stack
_doubles, _singles, _counts = (
    on_stack(dtype, _CHANNELS) for dtype in (np.float64, np.float32, np.int64)
)


@compiled_loosely
def statistics(x: Floats, mean: Floats, variance: Floats) -> None:
    """Mean and variance of each channel of x (R, N), taken around the first row."""
    rows = x.shape[0]
    total, square, part, part_square = _doubles(), _doubles(), _singles(), _singles()
    for left in range(0, x.shape[1], _CHANNELS):
        channels = min(_CHANNELS, x.shape[1] - left)
        first = x[0, left : left + channels]
        total[:channels] = 0
        square[:channels] = 0
        for start in range(0, rows, 64):  # float32 within 64 rows, float64 across
            part[:channels] = 0
            part_square[:channels] = 0
            for r in range(start, min(start + 64, rows)):
                row = x[r, left : left + channels]
                for c in range(channels):
                    d = row[c] - first[c]
                    part[c] += d
                    part_square[c] += d * d
            for c in range(channels):
                total[c] += part[c]
                square[c] += part_square[c]
        for c in range(channels):
            m = total[c] / rows
            mean[left + c] = m + first[c]
            variance[left + c] = max(square[c] / rows - m * m, 0.0)


@compiled
def spikes(
    x: Floats, scale: Floats, offset: Floats, levels: int, signed: bool, out: Floats
) -> None:
    """out = round_to_levels(x scale + offset) for x (R, N)."""
    top = np.float32(levels)
    half = np.float32(0.5)
    zero = np.float32(0)
    for r in range(x.shape[0]):
        row, result = x[r], out[r]
        if signed:
            for c in range(row.shape[0]):
                y = row[c] * scale[c] + offset[c]
                n = min(np.floor(abs(y) + half), top)
                result[c] = n if y >= zero else -n
        else:
            for c in range(row.shape[0]):
                y = row[c] * scale[c] + offset[c]
                result[c] = min(max(np.floor(y + half), zero), top)


@compiled_loosely
def backward(
    gradient: Floats,
    x: Floats,
    mean: Floats,
    inverse_deviation: Floats,
    gain: Floats,
    shift: Floats,
    low: float,
    high: float,
    dx: Floats,
    dlog_gain: Floats,
    dshift: Floats,
) -> None:
    """Straight-through gradient of `batch_norm_spikes`; see reference.py."""
    rows = x.shape[0]
    low32, high32 = np.float32(low), np.float32(high)
    zero = np.float32(0)
    along, total = _singles(), _singles()
    for left in range(0, x.shape[1], _CHANNELS):
        right = min(left + _CHANNELS, x.shape[1])
        middle, inverse = mean[left:right], inverse_deviation[left:right]
        slope, start = gain[left:right], shift[left:right]
        channels = right - left
        along[:channels] = 0
        total[:channels] = 0
        for r in range(rows):
            row, g, keep = x[r, left:right], gradient[r, left:right], dx[r, left:right]
            for c in range(channels):
                normal = (row[c] - middle[c]) * inverse[c]
                y = normal * slope[c] + start[c]
                through = g[c] if y >= low32 and y < high32 else zero
                keep[c] = through
                along[c] += through * normal
                total[c] += through
        for c in range(channels):
            dlog_gain[left + c] = along[c] * slope[c]
            dshift[left + c] = total[c]
            along[c] /= rows
            total[c] /= rows
        for r in range(rows):
            row, keep = x[r, left:right], dx[r, left:right]
            for c in range(channels):
                normal = (row[c] - middle[c]) * inverse[c]
                keep[c] = slope[c] * inverse[c] * (keep[c] - total[c] - normal * along[c])


def integer_spikes(
    charge: npt.NDArray[np.int64],
    half_threshold: npt.NDArray[np.int64],
    bias: npt.NDArray[np.int64],
    levels: int,
    signed: bool,
) -> npt.NDArray[np.int8]:
    """See reference.py."""
    out = np.empty(charge.shape, np.int8)
    _integer_spikes(charge, half_threshold, bias, levels, signed, out)
    return out


@compiled
def _integer_spikes(
    charge: npt.NDArray[np.int64],
    half_threshold: npt.NDArray[np.int64],
    bias: npt.NDArray[np.int64],
    levels: int,
    signed: bool,
    out: npt.NDArray[np.int8],
) -> None:
    """By comparing with the multiples of the threshold, four levels at a time; (R, N)."""
    counts = _counts()
    for left in range(0, charge.shape[1], _CHANNELS):
        right = min(left + _CHANNELS, charge.shape[1])
        half, offset = half_threshold[left:right], bias[left:right]
        for r in range(charge.shape[0]):
            row, result = charge[r, left:right], out[r, left:right]
            for first in range(0, levels, 4):
                second, third, fourth = first + 1 < levels, first + 2 < levels, first + 3 < levels
                for c in range(row.shape[0]):
                    total = row[c] + offset[c]
                    size = abs(total) if signed else total
                    step = 2 * half[c]
                    level = half[c] + first * step  # first spike at h, then one every 2h
                    count = np.int64(size >= level)
                    count += np.int64(second & (size >= level + step))
                    count += np.int64(third & (size >= level + 2 * step))
                    count += np.int64(fourth & (size >= level + 3 * step))
                    counts[c] = count if first == 0 else counts[c] + count
            for c in range(row.shape[0]):
                result[c] = -counts[c] if signed and row[c] + offset[c] < 0 else counts[c]
