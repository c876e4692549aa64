"""Switching delay between reaching the threshold and being ON (device.md 3.5).

Four options: none; a constant (`ThresholdSwitch.set_delay`, V keeps following the OFF law); the
gap-closing law evaluated at a voltage (`GapClosing.delay`); the same law integrated along V(t)
(`GapClosing.integrated`, option 4: dx = dt / t_d(V(t)), ON at x = 1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neurosim.devices.closed_forms import voltage_after
from neurosim.devices.exponential_integrals import scaled_e2
from neurosim.kernels._jit import compiled

Floats = npt.NDArray[np.float64]
_NODES, _WEIGHTS = (tuple(values.tolist()) for values in np.polynomial.legendre.leggauss(16))
_PANEL_EXPONENT = 0.5  # a panel of the integral spans at most this much of ln t_d


@compiled
def gap_closing_delay(voltage: float, scale: float, gap: float, rate: float) -> float:
    """t_d(V) = (1/k)[y_0 e^(-v/y_0) - v E1(v/y_0)] = (y_0/k) E2(v/y_0), v = V/V_0, s.

    The second form has no cancellation. For V >> V_0: (V_0/(k V)) y_0^2 e^(-V/(V_0 y_0)).
    Infinite for V <= 0.
    """
    if voltage <= 0.0:
        return math.inf
    u = voltage / (scale * gap)
    return gap / rate * math.exp(-u) * scaled_e2(u)


@compiled
def _delays(voltages: Floats, scale: float, gap: float, rate: float, result: Floats) -> None:
    for k in range(voltages.size):
        result[k] = gap_closing_delay(voltages[k], scale, gap, rate)


@compiled
def _progress(
    start: float,
    drive: float,
    conductance: float,
    capacitance: float,
    time: float,
    scale: float,
    gap: float,
    rate: float,
) -> float:
    """Integral of dt / t_d(V(t)) over [0, time], Gauss-Legendre on panels of s with t = time s^3.

    The substitution smooths the V ln V of 1/t_d where the membrane starts from 0 V.
    """
    end = voltage_after(start, drive, conductance, capacitance, time)
    spread = abs(end - start) / (scale * gap) + conductance * time / capacitance
    panels = min(2 + int(3.0 * spread / _PANEL_EXPONENT), 4000)
    width = 1.0 / panels
    total = 0.0
    for k in range(panels):
        for i in range(16):
            s = (k + 0.5 + 0.5 * _NODES[i]) * width
            v = voltage_after(start, drive, conductance, capacitance, time * s * s * s)
            if v > 0.0:
                total += _WEIGHTS[i] * s * s / gap_closing_delay(v, scale, gap, rate)
    return 1.5 * width * time * total


@compiled
def _integrated(
    start: float,
    drive: float,
    conductance: float,
    capacitance: float,
    duration: float,
    scale: float,
    gap: float,
    rate: float,
    done: float,
) -> float:
    """Time at which `done` + progress reaches 1 within `duration`, infinity if later."""
    low, high = 0.0, duration
    left = 1.0 - done
    if _progress(start, drive, conductance, capacitance, high, scale, gap, rate) < left:
        return math.inf
    time = 0.5 * (low + high)
    for _ in range(100):
        error = _progress(start, drive, conductance, capacitance, time, scale, gap, rate) - left
        if error >= 0.0:
            high = time
        else:
            low = time
        v = voltage_after(start, drive, conductance, capacitance, time)
        trial = time - error * gap_closing_delay(v, scale, gap, rate)
        if not low < trial < high:
            trial = 0.5 * (low + high)
        if abs(trial - time) <= 1e-14 * time:
            return trial
        time = trial
    return time


@dataclass(frozen=True)
class GapClosing:
    """The gap-closing law: `scale` V_0 in V, `gap` y_0 (relative, 1 at rest), `rate` k in 1/s."""

    scale: float
    rate: float
    gap: float = 1.0

    def __post_init__(self) -> None:
        for name in ("scale", "rate", "gap"):
            if not 0.0 < getattr(self, name) < math.inf:
                raise ValueError(f"expected {name} > 0, got {getattr(self, name)}")

    def delay(self, voltage: float) -> float:
        """t_d at a constant device voltage, s; infinite at and below 0 V."""
        return gap_closing_delay(voltage, self.scale, self.gap, self.rate)

    def delays(self, voltages: npt.ArrayLike) -> Floats:
        """`delay` of an array of voltages, s."""
        volts = np.ascontiguousarray(voltages, dtype=np.float64)
        result = np.empty(volts.size)
        _delays(volts.ravel(), self.scale, self.gap, self.rate, result)
        return result.reshape(volts.shape)

    def integrated(
        self,
        start: float,
        drive: float,
        conductance: float,
        capacitance: float,
        duration: float,
        done: float = 0.0,
    ) -> float:
        """Option 4: when x = `done` + integral dt / t_d(V(t)) reaches 1, s; infinity if later.

        V(t) is the RC segment of `closed_forms.voltage_after` (V, A, S, F) over `duration` s.
        """
        return _integrated(
            start, drive, conductance, capacitance, duration, self.scale, self.gap, self.rate, done
        )

    def progress(
        self, start: float, drive: float, conductance: float, capacitance: float, time: float
    ) -> float:
        """x gained over an RC segment of `time` s."""
        return _progress(
            start, drive, conductance, capacitance, time, self.scale, self.gap, self.rate
        )
