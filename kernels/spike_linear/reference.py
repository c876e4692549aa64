"""Spike linear in plain numpy: the definition, with the order of summation written out."""

from __future__ import annotations

from typing import Any

import numpy as np

from neurosim.kernels.spike_linear._types import Spikes, Sums, Weight


def spike_linear(spikes: Spikes, weight: Weight) -> Sums:
    """See the package."""
    kind: type[Any] = np.int32 if weight.dtype == np.int8 else np.float32
    out: Sums = np.zeros((spikes.shape[0], weight.shape[1]), kind)
    for row, counts in enumerate(spikes.astype(np.int64)):
        running = np.zeros(weight.shape[1], kind)  # signed rows of inputs with |count| >= level
        for level in range(int(np.abs(counts).max(initial=0)), 0, -1):
            for index in np.flatnonzero(counts == level):
                running += weight[index]
            for index in np.flatnonzero(counts == -level):
                running -= weight[index]
            out[row] += running
    return out
