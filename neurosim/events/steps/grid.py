"""Times on the grid of time steps: step n is at n dt, n = 0 the start."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

LAST_STEP = 2**31 - 2**20  # steps are int32; refractory periods reach beyond the last


def to_steps(times: npt.ArrayLike, time_step: float) -> npt.NDArray[np.int64]:
    """The nearest step of times (s); half a step is rounded up."""
    steps: npt.NDArray[np.int64] = np.floor(np.asarray(times) / time_step + 0.5).astype(np.int64)
    return steps


def steps_until(time: float, time_step: float) -> int:
    """The last step at or before a time; a time within 1e-6 of a step is on it."""
    return int(np.floor(time / time_step + 1e-6))
