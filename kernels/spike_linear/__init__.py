"""Spikes times weights, by additions only."""

from __future__ import annotations

from types import ModuleType

import numpy as np

from neurosim.kernels._dispatch import choose
from neurosim.kernels.spike_linear import cpu, reference
from neurosim.kernels.spike_linear._types import Spikes, Sums, Weight

__all__ = ["BACKENDS", "spike_linear"]

BACKENDS: dict[str, ModuleType] = {"cpu": cpu, "reference": reference}
_INT8, _FLOAT32 = np.dtype(np.int8), np.dtype(np.float32)
_MOST_INPUTS = (2**31 - 1) // (128 * 128)  # no int32 sum can overflow up to here


def spike_linear(spikes: Spikes, weight: Weight, backend: str = "auto") -> Sums:
    """Sum the weight rows of the inputs that spiked: out[l, o] = sum_i spikes[l, i] weight[i, o].

    Silent inputs cost nothing. A count n is not multiplied: with A_v the signed sum of the rows
    whose |n| >= v, the result is A_1 + A_2 + ... + A_max, so each row is added once and the
    running sum once per level.

    With int8 weights the result is exact. With float32 weights it is the same bits on every
    backend, because the order is fixed: A starts at 0; from the largest |n| down to 1, add the rows
    of the inputs with n = v in ascending order, subtract those with n = -v in ascending order, then
    add A to the result.

    Args:
        spikes: signed spike counts, int8, (L, I).
        weight: int8 or float32, (I, O).
        backend: "auto", "cpu" (Numba, one thread) or "reference" (numpy).

    Returns:
        int32 for int8 weights, float32 for float32 weights, (L, O).
    """
    if spikes.dtype != _INT8 or spikes.ndim != 2:
        raise ValueError(
            f"expected int8 spike counts of shape (L, I), got {spikes.dtype} {spikes.shape}; "
            "convert with astype(np.int8), and add a token axis to a single row"
        )
    if weight.dtype not in (_INT8, _FLOAT32) or weight.ndim != 2:
        raise ValueError(
            f"expected int8 or float32 weights of shape (I, O), got {weight.dtype} {weight.shape}"
        )
    if spikes.shape[1] != weight.shape[0]:
        raise ValueError(
            f"expected one weight row per input, got {spikes.shape[1]} inputs and weights "
            f"{weight.shape}; weights are (inputs, outputs)"
        )
    if weight.shape[0] > _MOST_INPUTS and weight.dtype == _INT8:
        raise ValueError(
            f"expected at most {_MOST_INPUTS} inputs, so that int32 sums cannot overflow, got "
            f"{weight.shape[0]}; split the inputs and add the results as int64"
        )
    module = choose("spike_linear", backend, BACKENDS)
    out: Sums = module.spike_linear(np.ascontiguousarray(spikes), np.ascontiguousarray(weight))
    return out
