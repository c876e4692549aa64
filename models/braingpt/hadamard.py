"""Hadamard transforms of blocks of channels: sums and differences, no multiplication.

In front of the neurons that feed down_proj they spread a single large value over a block, so that
one scale a token leaves the others more spikes (Ashkboos et al. 2024, QuaRot). The matrix H of a
block has entries +-1 and H H = size I; down_proj is stored as (its weight H) / size.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.kernels._jit import compiled


def largest_block(channels: int, most: int = 512) -> int:
    """The largest power of two that divides the channels, up to `most`."""
    return min(channels & -channels, most)


def check_block(size: int, channels: int) -> None:
    """0 (no transform), or a power of two that divides the channels."""
    if type(size) is not int or size < 0 or (size and (size & (size - 1) or channels % size)):
        raise ValueError(
            f"expected a Hadamard block of 0 or a power of two that divides the {channels} "
            f"channels, got {size!r}"
        )


def transform(x: npt.NDArray[Any], size: int) -> npt.NDArray[Any]:
    """x (..., N) with every block of `size` channels transformed; 0 leaves it as it is."""
    found = x
    half = 1
    while half < size:
        pairs = found.reshape(*x.shape[:-1], -1, 2, half)
        first, second = pairs[..., 0, :], pairs[..., 1, :]
        found = np.stack([first + second, first - second], axis=-2).reshape(x.shape)
        half *= 2
    return found


@compiled
def transform_rows(x: npt.NDArray[np.float32], size: int) -> None:
    """`transform` of rows (R, N) in place: the same sums in the same order."""
    for row in range(len(x)):
        values = x[row]
        half = 1
        while half < size:
            for start in range(0, len(values), 2 * half):
                low, high = values[start : start + half], values[start + half : start + 2 * half]
                for i in range(half):
                    a, b = low[i], high[i]
                    low[i] = a + b
                    high[i] = a - b
            half *= 2
