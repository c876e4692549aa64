"""Array types of spike attention."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Spikes = npt.NDArray[np.int8]
State = npt.NDArray[np.int32]
Shifts = npt.NDArray[np.int64]
Sums = npt.NDArray[np.int64]
