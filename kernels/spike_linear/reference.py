"""Spike linear in plain numpy: the definition, with the order of summation written out."""

from __future__ import annotations

from typing import Any

import numpy as np

from neurosim.kernels.packed import reference as packed
from neurosim.kernels.packed._words import Words
from neurosim.kernels.spike_linear._types import Spikes, Sums, Weight
from neurosim.kernels.spike_linear._weight import PackedWeight


def spike_linear(spikes: Spikes, weight: Weight | PackedWeight) -> Sums:
    """See the package."""
    values = weight.unpack() if isinstance(weight, PackedWeight) else weight
    kind: type[Any] = np.int32 if values.dtype == np.int8 else np.float32
    out: Sums = np.zeros((spikes.shape[0], values.shape[1]), kind)
    for row, counts in enumerate(spikes.astype(np.int64)):
        running = np.zeros(values.shape[1], kind)  # signed rows of inputs with |count| >= level
        for level in range(int(np.abs(counts).max(initial=0)), 0, -1):
            for index in np.flatnonzero(counts == level):
                running += values[index]
            for index in np.flatnonzero(counts == -level):
                running -= values[index]
            out[row] += running
    return out


def packed_linear(
    words: Words, levels: int, signed: bool, code: str, weight: Weight | PackedWeight
) -> Sums:
    """The same for packed spikes, words (P, R, W): (R, O)."""
    counts = packed.unpack(words, levels, signed, code, weight.shape[0], np.int8)
    return spike_linear(counts, weight)
