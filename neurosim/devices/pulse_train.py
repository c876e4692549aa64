"""Pulse trains on anything that relaxes exponentially: pulses to fire, firing time (device.md 3.3).

The same map serves the membrane of tier 0A (level V_u) and the filament state of tier 0B (level
x_th). From one pulse end to the next the state follows s -> s a + b with a = e^-x, x = w / tau_1 +
g / tau_0 and b the state after one pulse from rest. Written in x and b, so that a train without
leak (x = 0, b = growth per pulse) is no special case.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from neurosim.devices.closed_forms import crossing_time, voltage_after
from neurosim.devices.threshold_switch import Drive, Driver, ThresholdSwitch
from neurosim.kernels._jit import compiled

NEVER = 0
"""Pulses to fire of a train that never fires."""
_MOST = 1e15  # beyond this the number of a pulse is no exact integer any more


@compiled
def state_after(pulses: float, first: float, gain: float, exponent: float) -> float:
    """State at the end of pulse n >= 1: first = state after pulse 1, gain = b, exponent = x.

    s_n = first + (b - (1 - a) first)(1 - a^(n-1)) / (1 - a); for x -> 0: first + (n - 1) b.
    """
    steps = pulses - 1.0
    decay = -math.expm1(-exponent)
    length = -math.expm1(-exponent * steps) / decay if decay > 0.0 else steps
    return first + (gain - decay * first) * length


@compiled
def pulses_to_fire(first: float, gain: float, exponent: float, level: float) -> int:
    """Smallest n with state_after(n) >= level, or NEVER: n* of device.md 3.3 and 3.6.

    n* = ceil(ln[1 - level (1 - a) / b] / ln a) where first = b; the integer is checked against
    the state itself, so that rounding of the logarithm cannot move it.
    """
    if first >= level:
        return 1
    decay = -math.expm1(-exponent)
    left = gain - decay * level  # above zero: the train's limit b / (1 - a) exceeds the level
    if left <= 0.0:
        return 0
    z = decay * (level - first) / left
    steps = math.log1p(z) / exponent if exponent > 0.0 and z > 0.0 else (level - first) / left
    if not steps < _MOST:
        return 0
    pulses = 1.0 + math.ceil(steps)
    if pulses > 2.0 and state_after(pulses - 1.0, first, gain, exponent) >= level:
        pulses -= 1.0
    elif state_after(pulses, first, gain, exponent) < level:
        pulses += 1.0
        if state_after(pulses, first, gain, exponent) < level:
            return 0  # the limit exceeds the level by rounding only
    return int(pulses)


@dataclass(frozen=True)
class PulseTrain:
    """Pulses of `width` and `gap` (s): a current (A), or a voltage behind a resistor.

    `amplitude`: A for current pulses (source_resistance = 0), V for voltage pulses through
    `source_resistance` (ohm). `idle`: what a voltage source does in the gap, "low_z" (held at 0 V
    it keeps loading the membrane) or "high_z" (disconnected).
    """

    amplitude: float
    width: float
    gap: float
    source_resistance: float = 0.0
    idle: str = "low_z"

    def __post_init__(self) -> None:
        if not (0.0 < self.width < math.inf and 0.0 <= self.gap < math.inf):
            raise ValueError(
                f"expected width > 0 s and gap >= 0 s, got {self.width} and {self.gap}"
            )
        if not (math.isfinite(self.amplitude) and 0.0 <= self.source_resistance < math.inf):
            raise ValueError(
                "expected a finite amplitude and source_resistance >= 0 ohm, got "
                f"{self.amplitude} and {self.source_resistance}"
            )
        self.drive(True)

    @property
    def period(self) -> float:
        """width + gap, s."""
        return self.width + self.gap

    def drive(self, active: bool) -> Drive:
        """What drives the membrane during a pulse (`active`) or in a gap."""
        if self.source_resistance == 0.0:
            return Drive(self.amplitude if active else 0.0)
        driver = Driver(1.0 / self.source_resistance, self.amplitude, self.idle)
        return Drive(drivers=driver.at(active))

    def segments(self, pulses: int) -> list[tuple[Drive, float]]:
        """(drive, duration in s) of `pulses` pulses with their gaps, for `respond`."""
        pulse, gap = (self.drive(True), self.width), (self.drive(False), self.gap)
        return [part for _ in range(pulses) for part in (pulse, gap) if part[1] > 0.0]


@dataclass(frozen=True)
class TrainResponse:
    """When a train fires a neuron at rest: `pulses` (NEVER = 0) and `time` (s, inf if never)."""

    pulses: int
    time: float


def _map(switch: ThresholdSwitch, train: PulseTrain) -> tuple[float, float]:
    """(b, x): membrane after one pulse from 0 V, and the exponent of one train period."""
    if switch.leak_voltage != 0.0:
        raise ValueError(
            f"expected a leak to 0 V, got leak_voltage = {switch.leak_voltage} V; "
            "use neurosim.devices.respond for this train"
        )
    if train.source_resistance == 0.0 and train.amplitude < 0.0:
        raise ValueError(f"expected an amplitude >= 0, got {train.amplitude}")
    pulse, gap = train.drive(True), train.drive(False)
    charging = switch.conductance(False, pulse)
    exponent = charging * train.width + switch.conductance(False, gap) * train.gap
    gain = voltage_after(0.0, pulse.total_current, charging, switch.capacitance, train.width)
    return gain, exponent / switch.capacitance


def train_response(switch: ThresholdSwitch, train: PulseTrain) -> TrainResponse:
    """Pulses to fire and firing time of a neuron at 0 V, in closed form (device.md 3.3).

    t = (n* - 1)(w + g) + tau_1 ln[(V_1* - V_start) / (V_1* - V_u)], plus the set delay.
    """
    gain, exponent = _map(switch, train)
    pulse = train.drive(True)
    charging = switch.conductance(False, pulse)
    left = pulse.total_current - charging * switch.upper
    pulses = pulses_to_fire(gain, gain, exponent, switch.upper) if left > 0.0 else NEVER
    if pulses == NEVER:
        return TrainResponse(NEVER, math.inf)
    idle = switch.conductance(False, train.drive(False)) * train.gap / switch.capacitance
    before = state_after(pulses - 1.0, gain, gain, exponent) if pulses > 1 else 0.0
    gap = switch.upper - before * math.exp(-idle)
    last = crossing_time(max(gap, 0.0), left, charging, switch.capacitance)
    return TrainResponse(pulses, (pulses - 1) * train.period + last + switch.set_delay)


def shortest_pulse(switch: ThresholdSwitch, train: PulseTrain) -> float:
    """Smallest width of a single pulse that fires from 0 V: tau_1 ln[V_1*/(V_1* - V_u)], s."""
    return switch.next_crossing(0.0, False, train.drive(True))


def train_rheobase(switch: ThresholdSwitch, train: PulseTrain) -> float:
    """Amplitude above which an endless train fires: V_1* = V_u (1 - a)/(1 - alpha), A or V."""
    unit = PulseTrain(1.0, train.width, train.gap, train.source_resistance, train.idle)
    gain, exponent = _map(switch, unit)
    if exponent == 0.0:
        return 0.0
    return -switch.upper * math.expm1(-exponent) / gain
