"""Array types of spike linear."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Spikes = npt.NDArray[np.int8]
Weight = npt.NDArray[np.int8 | np.float32]
Sums = npt.NDArray[np.int32] | npt.NDArray[np.float32]
