"""Products with integer weights in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.kernels.count_linear._weight import IntegerWeight


def count_linear(
    counts: npt.NDArray[np.int8], weight: IntegerWeight, threads: int = 1
) -> npt.NDArray[np.int32]:
    """Sums of at most 2^31 in double precision, which holds all integers up to 2^53."""
    return (counts.astype(np.float64) @ weight.integers().T.astype(np.float64)).astype(np.int32)


def row_linear(x: npt.NDArray[Any], weight: Any, threads: int = 1) -> npt.NDArray[Any]:
    """In double precision, rounded once."""
    if isinstance(weight, IntegerWeight):
        sums = x.astype(np.float64) @ weight.integers().T.astype(np.float64)
        return np.asarray(sums * weight.scale.astype(np.float64), x.dtype)
    return np.asarray(x.astype(np.float64) @ weight.T.astype(np.float64), x.dtype)
