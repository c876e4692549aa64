"""The gradient of weights in plain numpy: the definition."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from neurosim.kernels.packed import reference as packed
from neurosim.kernels.packed._words import Words


def grad_weight(
    words: Words,
    levels: int,
    signed: bool,
    code: str,
    inputs: int,
    gradient: npt.NDArray[np.float32],
) -> npt.NDArray[np.float32]:
    """Sums (I, O) of spikes, words (P, L, W) of I inputs, times gradient (L, O)."""
    counts = packed.unpack(words, levels, signed, code, inputs, np.int8)
    return (counts.T.astype(np.float64) @ gradient).astype(np.float32)
