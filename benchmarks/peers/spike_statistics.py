"""What is compared of a run between simulators: rates and inter-spike intervals."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

BURN_IN, INTERVALS = 0.2, 400  # s left out of the statistics; intervals kept of a run

Array = npt.NDArray[Any]


def intervals(times: Array, neurons: Array) -> tuple[Array, Array]:
    """Inter-spike intervals (s) after the burn-in, and the neuron of each."""
    kept = times >= BURN_IN
    order = np.lexsort((times[kept], neurons[kept]))
    gaps, same = np.diff(times[kept][order]), np.diff(neurons[kept][order]) == 0
    return gaps[same], neurons[kept][order][1:][same]


def summary(times: Array, neurons: Array, size: int, seconds: float) -> tuple[Any, ...]:
    """Mean rates of excitatory and inhibitory neurons (Hz), mean CV, a sample of intervals (s).

    CV: of the intervals of each neuron with at least 5.
    """
    excitatory = size * 4 // 5
    late = times >= BURN_IN
    counts = np.bincount(neurons[late], minlength=size) / (seconds - BURN_IN)
    rates = (counts[:excitatory].mean(), counts[excitatory:].mean())
    gaps, owners = intervals(times, neurons)
    number = np.bincount(owners, minlength=size)
    mean = np.bincount(owners, gaps, size) / np.maximum(number, 1)
    square = np.bincount(owners, gaps**2, size) / np.maximum(number, 1)
    enough = number >= 5
    spread = np.sqrt(np.maximum(square - mean**2, 0.0)[enough]) / mean[enough]
    chosen = np.random.default_rng(0).choice(gaps, INTERVALS, replace=False)
    return rates, float(spread.mean()), chosen.astype(np.float32)
