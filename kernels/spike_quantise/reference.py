"""Spike counts in numpy: the closed form, and the neuron it comes from."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def supports(values: Any, scale: Any) -> str | None:
    """Everything that numpy has a type for."""
    if "bfloat16" in str(values.dtype):
        return "numpy has no bfloat16; use backend 'mlx'"
    return None


def spike_quantise(x: Array, top: int, scale: Any) -> tuple[Array, Array, bool]:
    """Counts, scales, and whether x is finite (else neither means anything)."""
    kind = x.dtype.type
    with np.errstate(invalid="ignore", over="ignore", under="ignore"):
        if isinstance(scale, str):
            axis = -1 if scale == "token" else None
            largest = np.abs(x).max(axis=axis, keepdims=scale == "token", initial=0)
            scales = np.asarray(largest / kind(top), x.dtype)
            scales = np.where(scales == 0, kind(1), scales)
        else:
            scales = scale
        size = np.minimum(np.abs(x / scales), kind(top))  # a quotient may be just above T
        whole = np.floor(size)
        counts = whole + (size - whole >= kind(0.5))  # exact; size + 0.5 would round
        signed = np.where(x < 0, -counts, counts)
        finite = bool(np.isfinite(x).all())
    return signed.astype(np.int8) if finite else np.zeros(x.shape, np.int8), scales, finite


def spike_count(
    v: npt.ArrayLike, base: float = 0.5, alpha: float = 1.0, steps: int = 127
) -> npt.NDArray[np.int64]:
    """Signed spikes of a neuron under constant drive v, threshold base + alpha t at step t.

    #{t < steps: v >= theta_t} - #{t < steps: v <= -theta_t}; where both hold (base <= 0) the
    negative spike wins. For alpha > 0 and base > 0 clip(floor((|v| - base) / alpha) + 1, 0, steps).
    """
    drive = np.asarray(v)
    total = np.zeros(drive.shape, np.int64)
    for t in range(steps):
        threshold = drive.dtype.type(np.float32(base) + np.float32(t) * np.float32(alpha))
        total += np.where(drive <= -threshold, -1, np.where(drive >= threshold, 1, 0))
    return total


class RampNeuron:
    """The same neuron step by step, with a membrane that forgets a share of its charge.

    theta_t = base + alpha t;  V <- V + I;  S = sign(V) [|V| >= theta_t];
    V <- clip((1 - attenuation) V, -theta_t, theta_t);  t <- t + 1.
    Attenuation 1 resets it at every step, which makes a train of spikes the thermometer code of
    `spike_count`; 0 is an integrator.
    """

    def __init__(self, base: float = 0.5, alpha: float = 1.0, attenuation: float = 1.0) -> None:
        self.base, self.alpha, self.attenuation = base, alpha, attenuation
        self.steps = 0
        self.potential: Any = np.float32(0)

    @property
    def threshold(self) -> float:
        """theta of the step to come."""
        return self.base + self.alpha * self.steps

    def step(self, current: Array) -> npt.NDArray[np.int8]:
        """Spikes -1, 0, 1 of one step."""
        kind = current.dtype.type
        threshold = kind(self.threshold)
        charged = self.potential + current
        spikes = np.where(np.abs(charged) >= threshold, np.sign(charged), 0).astype(np.int8)
        left = charged * kind(1 - self.attenuation)
        self.potential = np.clip(left, -threshold, threshold)
        self.steps += 1
        return spikes

    def __repr__(self) -> str:
        return (
            f"RampNeuron(base={self.base}, alpha={self.alpha}, attenuation={self.attenuation}) "
            f"after {self.steps} steps, {np.size(self.potential)} neurons"
        )
