"""What a fused layer is given, once checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.kernels.lif_scan import Neuron
from neurosim.kernels.packed import PackedSpikes
from neurosim.kernels.packed._words import Words
from neurosim.kernels.spike_linear._weight import PackedWeight

Floats = npt.NDArray[np.float32]
State = npt.NDArray[np.float32] | npt.NDArray[np.int32]
Found = tuple[Words, Any, Any]
"""Words (P, rows, ceil(O / 64)), last state (R, O), membranes (rows, O) or None."""


@dataclass(frozen=True)
class Layer:
    """Arguments of a backend.

    Attributes:
        spikes: T steps of R tokens, in any order of the leading axes.
        weight: (I, O).
        after: rows from a step of a token to its next; token r starts at row
            (r // after) after T + r % after.
        decay, gain: (O,); the scale of the weights is part of the gain. Floats only.
        threshold: float32 or int32 (O,).
        shift: integer membranes leak by u >> shift; None for float32 membranes.
        neuron: how it fires and resets.
        state: float32 or int32, (R, O); not to be changed.
        save: whether membranes are wanted.
    """

    spikes: PackedSpikes
    weight: PackedWeight
    after: int
    decay: Floats
    gain: Floats
    threshold: State
    shift: int | None
    neuron: Neuron
    state: State
    save: bool

    @property
    def tokens(self) -> int:
        """R."""
        return int(self.state.shape[0])

    @property
    def steps(self) -> int:
        """T; 0 where there are no tokens."""
        return self.spikes.rows // self.tokens if self.tokens else 0

    def rows(self) -> npt.NDArray[np.int64]:
        """The row of every step of every token, (T, R)."""
        token = np.arange(self.tokens)
        first = token // max(self.after, 1) * self.after * self.steps + token % max(self.after, 1)
        return np.asarray(first + np.arange(self.steps)[:, None] * self.after)
