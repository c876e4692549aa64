"""What spike counts cost in events, by code."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from neurosim.kernels._arrays import host
from neurosim.kernels._dispatch import choose
from neurosim.kernels._training import known
from neurosim.kernels.event_counts import cpu, reference
from neurosim.kernels.event_counts.reference import CODES, EventCounts

__all__ = ["BACKENDS", "CODES", "event_counts"]

BACKENDS: dict[str, Any] = {"cpu": cpu, "reference": reference}


def event_counts(
    counts: npt.NDArray[np.int8] | mx.array, axis: int | None = -1, backend: str = "auto"
) -> EventCounts:
    """Events that carry spike counts along an axis, in each of four codes of the same integers.

    unary: |n| spikes in T time slots (rate, or pulse width); bit_plane: the bits of |n|, in 7 slots
    weighted 2^k; signed_digit: the nonzero digits -1, 0, 1 of the non-adjacent form, which has the
    fewest, popcount(3 |n| xor |n|); graded: one event with a payload where n is not 0. Times the
    fan-out these are synaptic operations.

    Args:
        counts: int8, at least one axis.
        axis: summed over; None for all of them.
        backend: "auto", "cpu" (Numba) or "reference" (numpy).

    Returns:
        code -> int64 sums in the shape of counts without `axis`, exact; in the order of `CODES`.
    """
    known("event_counts", counts)
    values = host(counts)
    if values.dtype != np.int8 or values.ndim == 0:
        raise ValueError(f"expected int8 counts (..., N), got {values.dtype} {values.shape}")
    if axis is None:
        values, axis = values.reshape(-1), 0
    if not -values.ndim <= axis < values.ndim:
        raise ValueError(f"expected an axis of {values.ndim}, got {axis}")
    module = choose("event_counts", backend, BACKENDS)
    found: EventCounts = module.event_counts(np.moveaxis(values, axis, -1))
    return found
