"""The gradient of weights with the kernels of spike linear: transposed words, gradient panels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from neurosim.kernels._dispatch import announce
from neurosim.kernels.packed import PackedSpikes
from neurosim.kernels.packed._words import Words
from neurosim.kernels.spike_linear._cost import cheapest
from neurosim.kernels.spike_linear._run import run
from neurosim.kernels.spike_linear._weight import PackedWeight

ALGORITHMS = ("gather", "lut", "dense")  # four neighbouring inputs have no reason to fire together


def grad_weight(
    words: Words,
    levels: int,
    signed: bool,
    code: str,
    inputs: int,
    gradient: npt.NDArray[np.float32],
) -> npt.NDArray[np.float32]:
    """See reference.py."""
    shape = (words.shape[1], inputs)
    return product(PackedSpikes.trusted(words, shape, levels, signed, code), gradient, "auto", 1)


def product(
    spikes: PackedSpikes,
    gradient: npt.NDArray[np.float32] | PackedWeight,
    algo: str,
    threads: int,
) -> npt.NDArray[np.float32]:
    """Sums (I, O) by one algorithm; "auto" takes the one that should be the fastest."""
    panels = gradient if isinstance(gradient, PackedWeight) else PackedWeight.pack(gradient)
    if algo == "auto":
        algo = cheapest(spikes.transposed, panels, ALGORITHMS)
        announce("grad_weight", f"{algo}, by predicted cost")
    return np.asarray(run(algo, spikes.transposed, panels, threads), np.float32)
