"""Weighted spikes of the last steps in plain numpy: the definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def spike_taps(spikes: npt.NDArray[np.int8], weight: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """See the package."""
    kind = np.float64 if weight.dtype == np.float32 else np.int64
    out = np.zeros(spikes.shape, kind)
    for age, row in enumerate(weight[: len(spikes)].astype(kind)):
        out[age:] += spikes[: len(spikes) - age] * row
    return out
