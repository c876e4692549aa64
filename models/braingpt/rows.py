"""The loops between the products of BrainGPT, one token's row at a time, compiled.

A row's result has the same bits whatever other rows there are, so that decoding from a cache,
prefill in pieces and batches agree exactly.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.kernels._jit import compiled

Floats = npt.NDArray[np.float32]
Counts = npt.NDArray[np.int8]
Sums = npt.NDArray[np.int32]
EXACT, TABLE, STAIRCASE = 0, 1, 2


@compiled
def normalise(h: Floats, gain: Floats, epsilon: float, out: Floats) -> None:
    """RMSNorm of rows; the mean square in float64."""
    size = h.shape[1]
    for row in range(len(h)):
        values, target = h[row], out[row]
        total = 0.0
        for i in range(size):
            total += np.float64(values[i]) * np.float64(values[i])
        factor = np.float32(1.0 / math.sqrt(total / size + epsilon))
        for i in range(size):
            target[i] = gain[i] * (values[i] * factor)


@compiled
def scale_sums(
    sums: Sums, start: int, scales: Floats, unit: Floats, bias: Floats, out: Floats
) -> None:
    """Real values of integer products: columns start .. of sums (R, ...), out (R, N).

    out = sums unit scale + bias, `unit` and `bias` of all columns; an empty bias is none.
    """
    size = out.shape[1]
    units = unit[start : start + size]
    for row in range(len(out)):
        values, target, scale = sums[row, start : start + size], out[row], scales[row]
        if len(bias):
            shifts = bias[start : start + size]
            for i in range(size):
                target[i] = np.float32(values[i]) * units[i] * scale + shifts[i]
        else:
            for i in range(size):
                target[i] = np.float32(values[i]) * units[i] * scale


@compiled
def part(values: Floats, start: int, bias: Floats, out: Floats) -> None:
    """Columns start .. of float products (R, ...) plus their bias, out (R, N)."""
    size = out.shape[1]
    for row in range(len(out)):
        source, target = values[row, start : start + size], out[row]
        if len(bias):
            shifts = bias[start : start + size]
            for i in range(size):
                target[i] = source[i] + shifts[i]
        else:
            for i in range(size):
                target[i] = source[i]


@compiled
def real(counts: Counts, scales: Floats, out: Floats) -> None:
    """out = counts times their row's scale."""
    for row in range(len(counts)):
        values, target, scale = counts[row], out[row], scales[row]
        for i in range(len(values)):
            target[i] = np.float32(values[i]) * scale


@compiled
def add_real(counts: Counts, scales: Floats, h: Floats) -> None:
    """h += counts times their row's scale."""
    for row in range(len(counts)):
        values, target, scale = counts[row], h[row], scales[row]
        for i in range(len(values)):
            target[i] += np.float32(values[i]) * scale


@compiled
def rotate_rows(
    counts: Counts,
    scales: Floats,
    gain: Floats,
    cos: Floats,
    sin: Floats,
    out: npt.NDArray[Any],
) -> None:
    """Counts (R, A D) as real values, rotated by tables (R, D / 2), into out (R, A, D).

    `gain` (A D,) or empty: 1.
    """
    heads, size = out.shape[1], out.shape[2]
    half = size // 2
    for row in range(len(counts)):
        scale, c, s = scales[row], cos[row], sin[row]
        for head in range(heads):
            values = counts[row, head * size : (head + 1) * size]
            target = out[row, head]
            for i in range(half):
                first = np.float32(values[i]) * scale
                second = np.float32(values[i + half]) * scale
                if len(gain):
                    first *= gain[head * size + i]
                    second *= gain[head * size + i + half]
                target[i] = first * c[i] - second * s[i]
                target[i + half] = second * c[i] + first * s[i]


@compiled
def _silu(x: Any, kind: int, edges: Floats, values: Floats) -> Any:
    """SiLU of one number; the look-up of a staircase, or of equal steps, as `silu.py` says."""
    if kind == EXACT:
        small = math.exp(-abs(np.float64(x)))
        top = np.float64(x) if x >= 0 else np.float64(x) * small
        return np.float32(top / (1.0 + small))
    if kind == STAIRCASE:
        return values[np.searchsorted(edges, x, side="right")]
    step = edges[0]
    scaled = abs(x) / step
    count = np.floor(scaled)
    if scaled - count >= np.float32(0.5):
        count += np.float32(1)
    middle = len(values) // 2
    if count > middle:
        return count * step if x >= 0 else np.float32(0)
    return values[middle + (np.int64(count) if x >= 0 else -np.int64(count))]


@compiled
def gate_rows(
    gate: Counts,
    gate_scales: Floats,
    up: Counts,
    up_scales: Floats,
    kind: int,
    edges: Floats,
    values: Floats,
    gate_gain: Floats,
    up_gain: Floats,
    table: Floats,
    out: Floats,
) -> None:
    """out = SiLU(gate gate_gain) up up_gain, rows; empty gains are 1.

    Without a gain the SiLU of a row is a table of its 255 possible values.
    """
    for row in range(len(gate)):
        g, u, target, up_scale = gate[row], up[row], out[row], up_scales[row]
        scale = gate_scales[row]
        if len(gate_gain):
            for i in range(len(g)):
                x = np.float32(g[i]) * scale * gate_gain[i]
                target[i] = _silu(x, kind, edges, values)
        else:
            for count in range(-127, 128):
                table[count + 127] = _silu(np.float32(count) * scale, kind, edges, values)
            for i in range(len(g)):
                target[i] = table[np.int64(g[i]) + 127]
        if len(up_gain):
            for i in range(len(u)):
                target[i] *= np.float32(u[i]) * up_scale * up_gain[i]
        else:
            for i in range(len(u)):
                target[i] *= np.float32(u[i]) * up_scale
