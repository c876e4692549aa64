"""What a spiking neuron is, and the results of scanning it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from neurosim.kernels.packed import PackedSpikes

Floats = npt.NDArray[np.floating]
SURROGATES = ("atan", "fast_sigmoid", "boxcar")


@dataclass(frozen=True)
class Neuron:
    """How a membrane fires, resets and is differentiated; equations in `lif_scan`.

    Attributes:
        reset: "soft" (subtract what was fired) or "hard" (to zero; binary spikes only).
        levels: None for binary spikes; D for integer spikes 0..D, rounded half up.
        surrogate: slope of a binary spike at z = u - threshold, with a = `sharpness`:
            "atan", (a / 2) / (1 + (pi a z / 2)^2) (Fang et al., 2021);
            "fast_sigmoid", 1 / (1 + a |z|)^2 (Zenke and Ganguli, 2018);
            "boxcar", a where |z| < 1 / (2 a) (Wu et al., 2018).
            Integer spikes pass straight through: 1 / threshold where 0 <= u <= D threshold.
        sharpness: a, per unit of membrane.
        detach_reset: whether the gradient ignores that firing resets the membrane.
    """

    reset: str = "soft"
    levels: int | None = None
    surrogate: str = "atan"
    sharpness: float = 2.0
    detach_reset: bool = True

    def __post_init__(self) -> None:
        if self.reset not in ("soft", "hard"):
            raise ValueError(f"expected reset soft or hard, got {self.reset!r}")
        if self.levels is not None and not 1 <= self.levels <= 127:
            raise ValueError(f"expected 1 to 127 levels (int8 counts), got {self.levels}")
        if self.levels is not None and self.reset == "hard":
            raise ValueError("expected a soft reset for integer spikes, got hard; use reset='soft'")
        if self.surrogate not in SURROGATES:
            raise ValueError(f"expected surrogate {', '.join(SURROGATES)}; got {self.surrogate!r}")
        if not 0 < self.sharpness < float("inf"):
            raise ValueError(f"expected a positive sharpness, got {self.sharpness}")


class Scan(NamedTuple):
    """Result of `lif_scan`."""

    spikes: npt.NDArray[np.int8] | PackedSpikes  # (T, ..., N)
    state: npt.NDArray[np.float32]  # v after the last step, (..., N)
    membrane: npt.NDArray[np.float32] | None  # u of every step, (T, ..., N); where asked for


class Gradients(NamedTuple):
    """Result of `lif_backward`; parameters summed over everything but N."""

    x: npt.NDArray[np.float32]  # (T, ..., N)
    state: npt.NDArray[np.float32]  # (..., N)
    decay: npt.NDArray[np.float32]  # (N,)
    gain: npt.NDArray[np.float32]  # (N,)
    threshold: npt.NDArray[np.float32]  # (N,)
