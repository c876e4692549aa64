"""Neurons without memory, fed with integers: they fire where the sum reaches an integer."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.kernels.lif_scan import Neuron, reference

_LARGEST = 2**31 - 1


def edges(
    largest: int,
    steps: int,
    scale: float,
    threshold: npt.ArrayLike,
    decay: Any,
    gain: Any,
    neuron: Neuron,
) -> npt.NDArray[np.int32] | None:
    """The least sum 0..largest at which the neuron counts 1, 2, ..., levels; above all if none.

    With one step or no decay, a membrane is gain (scale sum) in float32; rounding keeps order, so
    it never falls as the sum rises. A search by halves in the neuron's own arithmetic finds the
    edges, and integers then decide exactly as `lif_scan` would.

    Returns:
        (levels, number of thresholds), or None: this neuron has memory, falls, or decays
        differently from channel to channel.
    """
    if type(threshold) is type(decay) is type(gain) is float:  # arrays have no hash
        return _of_number(largest, steps, float(scale), threshold, decay, gain, neuron)
    return _of_thresholds(largest, steps, scale, threshold, decay, gain, neuron)


def _of_thresholds(
    largest: int,
    steps: int,
    scale: float,
    threshold: npt.ArrayLike,
    decay: Any,
    gain: Any,
    neuron: Neuron,
) -> npt.NDArray[np.int32] | None:
    if any(np.asarray(value).dtype.kind not in "biuf" for value in (threshold, decay, gain)):
        return None  # the neurons' own checks say what is wrong
    if largest >= _LARGEST or np.ndim(decay) or np.ndim(gain) or (steps > 1 and decay != 0):
        return None
    limits = np.asarray(threshold, np.float32)
    if limits.ndim > 1:
        return None
    return _searched(largest, float(scale), limits.tobytes(), float(decay), float(gain), neuron)


_of_number = lru_cache(maxsize=256)(_of_thresholds)


@lru_cache(maxsize=256)
def _searched(
    largest: int, scale: float, thresholds: bytes, decay: float, gain: float, neuron: Neuron
) -> npt.NDArray[np.int32] | None:
    limits = np.frombuffer(thresholds, np.float32)
    if not np.isfinite([scale, decay, gain, *limits]).all() or not (limits > 0).all():
        return None
    if scale < 0 or gain < 0:
        return None
    factor, weight = np.float32(scale), np.float32(gain)
    levels = np.arange(1, (neuron.levels or 1) + 1)[:, None]
    low = np.zeros((len(levels), len(limits)), np.int64)  # the edge is in low..high
    high = np.full_like(low, largest + 1)
    while (low < high).any():
        middle = (low + high) // 2
        membrane = weight * (middle.astype(np.float32) * factor)
        fires = reference.fire(membrane, limits, neuron) >= levels
        low = np.where(fires, low, np.minimum(middle + 1, high))
        high = np.where(fires, middle, high)
    return high.astype(np.int32)
