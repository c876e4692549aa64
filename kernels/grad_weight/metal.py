"""The gradient of weights on a GPU: words transposed by ballots, then `spike_linear` of them.

Tested in the emulator; never yet run on a GPU.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.kernels._metal import Launch
from neurosim.kernels.packed import PackedSpikes
from neurosim.kernels.packed._words import Words
from neurosim.kernels.spike_linear import metal as linear


def supports(spikes: PackedSpikes, gradient: npt.NDArray[np.float32]) -> str | None:
    """Why these arguments cannot run, or None."""
    read, outputs = linear.half_words(spikes), gradient.shape[1]
    turned = read[0], spikes.size, 2 * -(-spikes.rows // 64)
    return linear.too_large(read, turned, gradient.shape, (spikes.size, outputs))


def grad_weight(
    launch: Launch,
    words: Words,
    levels: int,
    signed: bool,
    code: str,
    inputs: int,
    gradient: npt.NDArray[np.float32],
) -> Any:
    """See reference.py; rows are added in ascending order."""
    if not (words.size and gradient.size):
        return np.zeros((inputs, gradient.shape[1]), np.float32)
    return linear.gradient(launch, words, levels, signed, code, inputs, gradient)
