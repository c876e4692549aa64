"""Batch normalisation fused with the integer neuron, Numba: one pass for statistics, one for
spikes.

Channels are the contiguous axis, so that every inner loop vectorises over them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from neurosim.kernels._jit import compiled, compiled_loosely

Floats = npt.NDArray[np.float32]


@compiled_loosely
def statistics(x: Floats, mean: Floats, variance: Floats) -> None:
    """Mean and variance of each channel of x (R, N), taken around the first row."""
    rows, channels = x.shape
    first = x[0]
    total = np.zeros(channels, np.float64)
    square = np.zeros(channels, np.float64)
    part = np.zeros(channels, np.float32)
    part_square = np.zeros(channels, np.float32)
    for start in range(0, rows, 64):  # float32 within 64 rows, float64 across
        part[:] = 0
        part_square[:] = 0
        for r in range(start, min(start + 64, rows)):
            row = x[r]
            for c in range(channels):
                d = row[c] - first[c]
                part[c] += d
                part_square[c] += d * d
        for c in range(channels):
            total[c] += part[c]
            square[c] += part_square[c]
    for c in range(channels):
        m = total[c] / rows
        mean[c] = m + first[c]
        variance[c] = max(square[c] / rows - m * m, 0.0)


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
    rows, channels = x.shape
    low32, high32 = np.float32(low), np.float32(high)
    zero = np.float32(0)
    along = np.zeros(channels, np.float32)
    total = np.zeros(channels, np.float32)
    for r in range(rows):
        row, g, keep = x[r], gradient[r], dx[r]
        for c in range(channels):
            normal = (row[c] - mean[c]) * inverse_deviation[c]
            y = normal * gain[c] + shift[c]
            through = g[c] if y >= low32 and y < high32 else zero
            keep[c] = through
            along[c] += through * normal
            total[c] += through
    for c in range(channels):
        dlog_gain[c] = along[c] * gain[c]
        dshift[c] = total[c]
        along[c] /= rows
        total[c] /= rows
    for r in range(rows):
        row, keep = x[r], dx[r]
        for c in range(channels):
            normal = (row[c] - mean[c]) * inverse_deviation[c]
            keep[c] = gain[c] * inverse_deviation[c] * (keep[c] - total[c] - normal * along[c])


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
    counts = np.empty(charge.shape[1], np.int64)
    for r in range(charge.shape[0]):
        row, result = charge[r], out[r]
        for first in range(0, levels, 4):
            second, third, fourth = first + 1 < levels, first + 2 < levels, first + 3 < levels
            for c in range(row.shape[0]):
                total = row[c] + bias[c]
                size = abs(total) if signed else total
                step = 2 * half_threshold[c]
                level = half_threshold[c] + first * step  # first spike at h, then one every 2h
                count = np.int64(size >= level)
                count += np.int64(second & (size >= level + step))
                count += np.int64(third & (size >= level + 2 * step))
                count += np.int64(fourth & (size >= level + 3 * step))
                counts[c] = count if first == 0 else counts[c] + count
        for c in range(row.shape[0]):
            result[c] = -counts[c] if signed and row[c] + bias[c] < 0 else counts[c]
