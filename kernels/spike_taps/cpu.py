"""Weighted spikes of the last steps with Numba: one pass over the steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.kernels._jit import compiled


def spike_taps(spikes: npt.NDArray[np.int8], weight: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """See the package."""
    kind = np.float64 if weight.dtype == np.float32 else np.int64
    out = np.zeros(spikes.shape, kind)
    _add(spikes, weight.astype(kind), out)  # Numba multiplies int8 and float32 in float32
    return out


@compiled
def _add(spikes: Any, weight: Any, out: Any) -> None:
    steps, channels = spikes.shape
    for step in range(steps):
        to = out[step]
        for age in range(min(len(weight), step + 1)):
            counts, row = spikes[step - age], weight[age]
            for n in range(channels):
                to[n] += counts[n] * row[n]
