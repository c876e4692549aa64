"""Layout of packed spikes: what the planes weigh, and where words are stored."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from neurosim.kernels._aligned import aligned

Words = npt.NDArray[np.uint64]
Counts = npt.NDArray[np.int8]
Index = npt.NDArray[np.uint16] | npt.NDArray[np.int32]


def plane_weights(levels: int, signed: bool, code: str) -> tuple[int, ...]:
    """What a set bit of each plane adds to the count; the negative planes follow the positive."""
    if code == "thermometer":
        positive = (1,) * levels
    else:
        positive = tuple(1 << bit for bit in range(levels.bit_length()))
    return positive + tuple(-weight for weight in positive) if signed else positive


def index_type(columns: int) -> type[np.uint16] | type[np.int32]:
    """The narrowest type of an event list."""
    return np.uint16 if columns <= 2**16 else np.int32


def new_words(shape: tuple[int, ...]) -> Words:
    """Words on a cache line boundary, not initialised."""
    return aligned(shape, np.uint64)
