"""Spikes of the last few steps, each weighted by its age: a short convolution over time."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.kernels._dispatch import choose
from neurosim.kernels._training import known
from neurosim.kernels.spike_taps import cpu, reference

__all__ = ["BACKENDS", "spike_taps"]

BACKENDS: dict[str, Any] = {"cpu": cpu, "reference": reference}
_KINDS = (np.dtype(np.int8), np.dtype(np.int32), np.dtype(np.float32))


def spike_taps(
    spikes: npt.NDArray[np.int8], weight: npt.NDArray[Any], backend: str = "auto"
) -> npt.NDArray[Any]:
    """out[l, n] = sum over taps j of spikes[l - j, n] weight[j, n]; nothing before the first step.

    Each channel has its own taps (a depthwise causal convolution). Taps are added from the newest
    to the oldest, in int64 for integer weights and in float64 for float32 weights, so that every
    backend gives the same bits.

    Args:
        spikes: signed counts, int8, (L, N).
        weight: int8, int32 or float32, (K, N); row 0 weighs the newest spikes.
        backend: "auto", "cpu" (Numba, one thread) or "reference" (numpy).

    Returns:
        (L, N), int64 or float64.
    """
    known("spike_taps", spikes, weight)
    spikes, weight = np.asarray(spikes), np.asarray(weight)
    if spikes.dtype != np.int8 or spikes.ndim != 2:
        raise ValueError(
            f"expected int8 spike counts of shape (L, N), got {spikes.dtype} {spikes.shape}; "
            "convert with astype(np.int8), and add a time axis to a single step"
        )
    if weight.dtype not in _KINDS or weight.ndim != 2 or weight.shape[1] != spikes.shape[1]:
        raise ValueError(
            f"expected int8, int32 or float32 weights of shape (K, {spikes.shape[1]}), got "
            f"{weight.dtype} {weight.shape}; one row per tap, one column per channel"
        )
    module = choose("spike_taps", backend, BACKENDS)
    arrays = np.ascontiguousarray(spikes), np.ascontiguousarray(weight)
    out: npt.NDArray[Any] = module.spike_taps(*arrays)
    return out
