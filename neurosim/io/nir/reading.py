"""What a NIR spike and a NIR time constant are: in continuous time, or on a framework's clock.

Continuous (`time_step` None): a spike is a Dirac pulse of area 1, so that a weight w moves the
membrane of tau dv/dt = v_leak - v + R I by R w / tau. This is NIR as its equations are written.

Clocked (`time_step` h): snnTorch, Norse and SpikingJelly step the same equations forward by Euler,
    v[n+1] = v[n] + h / tau (v_leak - v[n] + R I[n]),
with a spike as the number 1 in one step, a pulse of area h. A decay of 1 - h / tau a step is that
of an exact exponential with tau' = -h / ln(1 - h / tau): at the clock's ticks the two are equal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
FORGETS = 50.0
"""Time constants in a step after which nothing is left: exp(-50) = 2e-22."""


@dataclass(frozen=True)
class Reading:
    """Continuous time, or a clock of `time_step` (s)."""

    time_step: float | None = None

    def __post_init__(self) -> None:
        step = self.time_step
        if step is not None and not (math.isfinite(step) and step > 0.0):
            raise ValueError(f"expected a time step > 0 s, or None for continuous time, got {step}")

    @property
    def area(self) -> float:
        """Of one spike, s."""
        return 1.0 if self.time_step is None else self.time_step

    def exact(self, where: str, tau: Floats) -> Floats:
        """The time constant (s) of an exact exponential for NIR's tau."""
        step = self.time_step
        if step is None:
            return tau
        if (tau < step * (1.0 - 1e-6)).any():
            raise ValueError(
                f"{where}: expected a time constant of at least the time step {step:g} s, got "
                f"{tau.min():g} s: forward Euler would overshoot; give a shorter time step"
            )
        with np.errstate(divide="ignore"):
            rate = -np.log1p(-np.minimum(step / tau, 1.0))
        result: Floats = np.where(np.isinf(tau), np.inf, step / np.minimum(rate, FORGETS))
        return result

    def discrete(self, tau: Floats) -> Floats:
        """The inverse of `exact`: NIR's tau for an exact time constant."""
        if self.time_step is None:
            return tau
        result: Floats = -self.time_step / np.expm1(-self.time_step / tau)
        return result

    def jump(self, resistance: Floats, tau: Floats) -> Floats:
        """Membrane voltage a spike of weight 1 adds: R area / tau, or R area without leak.

        `tau`: NIR's time constant (s), infinite for an integrator dv/dt = R I.
        """
        result: Floats = resistance * self.area / np.where(np.isinf(tau), 1.0, tau)
        return result

    def current_jump(self, gain: Floats, tau_syn: Floats, tau_mem: Floats) -> Floats:
        """What a spike of weight 1 adds to g of tau dv/dt = v_rest - v + g, dg/dt = -g / tau_syn.

        `gain`: R w_in. Continuous: gain / tau_syn. Clocked: what makes v at the ticks that of
        v[n+1] = v[n] + h / tau_mem (... + R I[n]), I[n+1] = I[n] + h / tau_syn (w_in S[n] - I[n]).
        """
        if self.time_step is None:
            result: Floats = gain / tau_syn
            return result
        step = self.time_step
        membrane = self.exact("", tau_mem)
        synapse = self.exact("", tau_syn)
        same = np.isclose(membrane, synapse, rtol=1e-9, atol=0.0)
        ratio = synapse / np.where(same, 1.0, synapse - membrane)
        apart = ratio * (np.exp(-step / synapse) - np.exp(-step / membrane))
        together = step / membrane * np.exp(-step / membrane)
        reached = np.where(same, together, apart)
        result = gain * (step / tau_mem) * (step / tau_syn) / reached
        return result
