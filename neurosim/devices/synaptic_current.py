"""Membrane under an exponentially decaying synaptic current (device.md 3.3).

With the asymptote V*, leak rate r = G / C and synaptic rate s = 1 / tau_s,
V(t) = V* + (V_0 - V*) e^(-r t) + (I_0 / C) (e^(-r t) - e^(-s t)) / (s - r),
which is the specification's K form with K = I_0 tau tau_s / (C (tau_s - tau)) but has no pole at
tau = tau_s. Crossings: `two_exponentials.first_crossing`; closed forms for the two special cases.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from neurosim.devices.threshold_switch import Drive, ThresholdSwitch
from neurosim.devices.two_exponentials import first_crossing, value


@dataclass(frozen=True)
class SynapticCurrent:
    """I(t) = amplitude e^(-t / decay): amplitude in A (at the segment's start), decay in s."""

    amplitude: float
    decay: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.amplitude) and 0.0 < self.decay < math.inf):
            raise ValueError(
                f"expected a finite amplitude and decay > 0 s, got {self.amplitude}, {self.decay}"
            )

    def at(self, time: float) -> float:
        """I(t), A."""
        return self.amplitude * math.exp(-time / self.decay)

    @property
    def charge(self) -> float:
        """Whole charge of the packet, C. As decay -> 0 the membrane steps by charge / C."""
        return self.amplitude * self.decay


def _numbers(
    switch: ThresholdSwitch, current: SynapticCurrent, drive: Drive
) -> tuple[float, float, float, float]:
    conductance = switch.conductance(False, drive)
    rest = (drive.total_current + switch.leak_conductance * switch.leak_voltage) / conductance
    rate, gain = conductance / switch.capacitance, current.amplitude / switch.capacitance
    return rest, rate, gain, 1.0 / current.decay


def synaptic_voltage(
    switch: ThresholdSwitch,
    current: SynapticCurrent,
    start: float,
    time: float,
    drive: Drive | None = None,
) -> float:
    """OFF membrane `time` s after the current began, from V(0) = `start`, V."""
    rest, rate, gain, synaptic = _numbers(switch, current, drive or Drive())
    return value(time, start, rest, rate, gain, synaptic)


def synaptic_crossing(
    switch: ThresholdSwitch,
    current: SynapticCurrent,
    start: float = 0.0,
    drive: Drive | None = None,
) -> float:
    """Time at which the OFF membrane first reaches V_u, s; infinity if it never does."""
    rest, rate, gain, synaptic = _numbers(switch, current, drive or Drive())
    return first_crossing(switch.upper, start, rest, rate, gain, synaptic)


def crossing_double(level: float, start: float, tau: float, gain: float) -> float:
    """Crossing for tau = 2 tau_s and asymptote 0 in closed form (device.md 3.3), s.

    With y = e^(-t / tau) and K = gain tau tau_s / (tau_s - tau) = -gain tau: K y^2 + (V_0 - K) y -
    V_u = 0; the first crossing is the root in (0, 1) nearest 1. gain = I_0 / C in V/s.
    """
    k = -gain * tau
    middle = start - k
    discriminant = middle * middle + 4.0 * k * level
    if start >= level:
        return 0.0
    if discriminant < 0.0 or k == 0.0:
        return math.inf
    q = -0.5 * (middle + math.copysign(math.sqrt(discriminant), middle))
    roots = [y for y in (q / k, -level / q if q != 0.0 else 0.0) if 0.0 < y < 1.0]
    return -tau * math.log(max(roots)) if roots else math.inf


def crossing_equal(level: float, start: float, tau: float, gain: float) -> float:
    """Crossing for tau = tau_s and asymptote 0 by Lambert's W (device.md 3.3), s.

    (V_0 + gain t) e^(-t / tau) = V_u: with u = -(V_0 / gain + t) / tau, u e^u = -(V_u / (gain
    tau)) e^(-V_0 / (gain tau)), first crossing on the branch W_0 if u starts above -1.
    """
    from scipy.special import lambertw

    if start >= level:
        return 0.0
    if gain <= 0.0:
        return math.inf
    argument = -level / (gain * tau) * math.exp(-start / (gain * tau))
    if argument < -math.exp(-1.0):
        return math.inf
    time = -tau * float(lambertw(argument, 0).real) - start / gain
    return time if time >= 0.0 else math.inf
