"""Symmetric integer weights: the step of a grid, and rounding to it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def step_size(
    weights: list[npt.NDArray[np.floating]], bits: int, axis: int | None
) -> npt.NDArray[np.float64]:
    """Real value of one integer step: the largest of all `weights` is the largest code."""
    largest = np.max([np.abs(weight).max(axis=axis) for weight in weights], axis=0)
    return np.asarray(np.maximum(largest.astype(np.float64), 1e-12) / (2 ** (bits - 1) - 1))


def quantise(
    weight: npt.NDArray[np.floating], unit: npt.NDArray[np.float64], bits: int
) -> npt.NDArray[np.integer]:
    """Integers round(weight / unit) in the smallest type for `bits`; refuses what overflows."""
    codes = np.rint(weight.astype(np.float64) / unit)
    limit = 2 ** (bits - 1) - 1
    if not np.isfinite(codes).all() or np.abs(codes).max(initial=0) > limit:
        raise ValueError(f"expected weights within {bits} bits of their step, got larger or NaN")
    return codes.astype(np.int8 if bits <= 8 else np.int16 if bits <= 16 else np.int32)
