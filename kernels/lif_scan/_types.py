"""What a spiking neuron is, and the results of scanning it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from neurosim.kernels._aligned import aligned
from neurosim.kernels._checks import check_type
from neurosim.kernels.packed import PackedSpikes
from neurosim.kernels.packed._spikes import check_code

Floats = npt.NDArray[np.floating]
SURROGATES = ("atan", "fast_sigmoid", "boxcar", "sigmoid")
_ROUNDINGS = ("half_up", "half_even")


@dataclass(frozen=True)
class Neuron:
    """How a membrane fires, resets and is differentiated; equations in `lif_scan`.

    Attributes:
        reset: "soft" (subtract what was fired) or "hard" (to zero; binary spikes only).
        levels: None for binary spikes; D for integer spikes 0..D.
        signed: integer spikes -D..D: an ON and an OFF neuron, of which one can fire at a time.
        rounding: of integer spikes at half-way cases: "half_up" (away from zero where signed) or
            "half_even" (to the even count, as numpy, torch and the base E-SpikeFormer round).
        surrogate: slope of a binary spike at z = u - threshold, with a = `sharpness`:
            "atan", (a / 2) / (1 + (pi a z / 2)^2) (Fang et al., 2021);
            "fast_sigmoid", 1 / (1 + a |z|)^2 (Zenke and Ganguli, 2018);
            "boxcar", a where |z| < 1 / (2 a) (Wu et al., 2018);
            "sigmoid", a s (1 - s) with s = 1 / (1 + exp(-a z)) (SpikingJelly, 2023; a = 4 in
            Spike-driven Transformer, Yao et al., 2023).
            Integer spikes pass straight through: 1 / threshold where they are not clipped,
            0 <= u <= D threshold (|u| <= D threshold where signed).
        sharpness: a, per unit of membrane.
        clip_bounds: whether integer spikes pass the gradient at the ends of that range too;
            without, not for a silent input (u = 0; the large E-SpikeFormer, Yao et al., 2024).
        detach_reset: whether the gradient ignores that firing resets the membrane.
    """

    reset: str = "soft"
    levels: int | None = None
    surrogate: str = "atan"
    sharpness: float = 2.0
    detach_reset: bool = True
    signed: bool = False
    rounding: str = "half_up"
    clip_bounds: bool = True

    def __post_init__(self) -> None:
        if self.reset not in ("soft", "hard"):
            raise ValueError(f"expected reset soft or hard, got {self.reset!r}")
        if self.levels is not None:
            check_code(self.levels, "thermometer")
            object.__setattr__(self, "levels", int(self.levels))  # numpy's would compile again
        if self.levels is not None and self.reset == "hard":
            raise ValueError("expected a soft reset for integer spikes, got hard; use reset='soft'")
        if self.levels is None and self.signed:
            raise ValueError("expected levels for signed spikes, got None; ternary is levels=1")
        if self.surrogate not in SURROGATES:
            raise ValueError(f"expected surrogate {', '.join(SURROGATES)}; got {self.surrogate!r}")
        if not 0 < self.sharpness < float("inf"):
            raise ValueError(f"expected a positive sharpness, got {self.sharpness}")
        if self.rounding not in _ROUNDINGS:
            raise ValueError(f"expected rounding {', '.join(_ROUNDINGS)}; got {self.rounding!r}")

    @property
    def planes(self) -> int:
        """Planes of its packed spikes, P."""
        return (self.levels or 1) * (1 + self.signed)


def check_neuron(neuron: Any) -> None:
    """Refuse what is no Neuron."""
    check_type("neuron", neuron, Neuron, "for example Neuron(reset='soft')")


class Scan(NamedTuple):
    """Result of `lif_scan`; MLX arrays where the input was one."""

    spikes: npt.NDArray[np.int8] | PackedSpikes  # (T, ..., N)
    state: npt.NDArray[np.float32] | None  # v after the last step, (..., N); if kept
    membrane: npt.NDArray[np.float32] | None  # u of every step, (T, ..., N); where asked for


class Gradients(NamedTuple):
    """Result of `lif_backward`; parameters summed over everything but N."""

    x: npt.NDArray[np.float32]  # (T, ..., N)
    state: npt.NDArray[np.float32]  # (..., N)
    decay: npt.NDArray[np.float32]  # (N,)
    gain: npt.NDArray[np.float32]  # (N,)
    threshold: npt.NDArray[np.float32]  # (N,)


class LifWorkspace:
    """Memory of the results of `lif_scan` and `lif_backward`, kept from call to call.

    Fresh memory costs as much as the scan itself (the system clears every page at its first
    touch). Results that were given a workspace lie in it until the next call with it writes there;
    packed spikes of earlier calls, with all that was derived from them, are void then. One
    workspace serves one thread at a time.
    """

    def __init__(self) -> None:
        self._arrays: dict[str, npt.NDArray[Any]] = {}

    @classmethod
    def check(cls, workspace: Any) -> None:
        """Refuse what is neither None nor a workspace."""
        if workspace is not None:
            check_type("workspace", workspace, cls, "make one with LifWorkspace(), or leave it out")

    def __repr__(self) -> str:
        return f"LifWorkspace({sum(array.nbytes for array in self._arrays.values())} bytes)"

    def array(self, name: str, shape: tuple[int, ...], kind: type[Any]) -> npt.NDArray[Any]:
        """Memory of that name, contents anything."""
        kept = self._arrays.get(name)
        if kept is None or kept.shape != shape or kept.dtype != kind:
            kept = self._arrays[name] = aligned(shape, kind)
        return kept
