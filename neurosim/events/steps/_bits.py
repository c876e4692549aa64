"""A bit per pair of neurons out of rows of synapses."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.kernels._jit import compiled


@compiled
def fill_bitmap(
    offsets: npt.NDArray[np.int64], targets: npt.NDArray[Any], rows: npt.NDArray[np.int64]
) -> None:
    """Set bit t of rows[s] (S, words) for every synapse from s to t; clear the others."""
    rows[:] = 0
    for s in range(rows.shape[0]):
        for j in range(offsets[s], offsets[s + 1]):
            t = np.int64(targets[j])
            rows[s, t >> 6] |= np.int64(1) << (t & 63)
