"""Integer neurons in plain numpy: the definition the other backends are compared with."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
EPSILON = 1e-5


def round_to_levels(y: Floats, levels: int, signed: bool) -> Floats:
    """Half-way cases go away from zero; clipped to 0..levels, or -levels..levels when signed."""
    if signed:
        return np.asarray(np.copysign(np.minimum(np.floor(np.abs(y) + 0.5), levels), y))
    return np.asarray(np.clip(np.floor(y + 0.5), 0, levels))


def batch_norm_spikes(
    x: Floats, log_gain: Floats, shift: Floats, levels: int, signed: bool
) -> tuple[Floats, Floats, Floats]:
    """Spikes (R, N), batch mean (N,) and variance (N,)."""
    mean, variance = x.mean(axis=0), x.var(axis=0)
    y = (x - mean) / np.sqrt(variance + EPSILON) * np.exp(log_gain) + shift
    return round_to_levels(y, levels, signed), mean, variance


def batch_norm_spikes_backward(
    gradient: Floats, x: Floats, log_gain: Floats, shift: Floats, levels: int, signed: bool
) -> tuple[Floats, Floats, Floats]:
    """Gradients of x, log_gain and shift: straight through where the spikes are not clipped."""
    rows = x.shape[0]
    deviation = np.sqrt(x.var(axis=0) + EPSILON)
    normal = (x - x.mean(axis=0)) / deviation
    gain = np.exp(log_gain)
    y = normal * gain + shift
    low = -levels - 0.5 if signed else -0.5
    through = gradient * ((y >= low) & (y < levels + 0.5))
    along = (through * normal).sum(axis=0)
    total = through.sum(axis=0)
    dx = gain / deviation * (through - total / rows - normal * along / rows)
    return dx, along * gain, total


def integer_spikes(
    charge: npt.NDArray[np.integer],
    half_threshold: npt.NDArray[np.integer],
    bias: npt.NDArray[np.integer],
    levels: int,
    signed: bool,
) -> npt.NDArray[np.int8]:
    """Spikes of a folded bank, exact integers; see neurosim.network for the equation."""
    total = charge.astype(np.int64) + bias
    half = half_threshold.astype(np.int64)
    if signed:
        count = np.minimum((np.abs(total) + half) // (2 * half), levels) * np.sign(total)
    else:
        count = np.clip((total + half) // (2 * half), 0, levels)
    return np.asarray(count, np.int8)
