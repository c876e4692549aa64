"""Tier 0B: the device integrates by itself, no auxiliary circuit (device.md 3.6).

State x in [0, 1] (filament growth) under a voltage applied directly. OFF:
    dx/dt = k_g(V)(1 - x) - x/tau_r,   I_off = V [G_off + (G_pre - G_off) x],
fires at x_th, then x := 1 and the device is ON with I = min(I_cc, V/(R_on + R_ser)) while V > V_h;
below V_h the filament dissolves from x = 1 by a law of 3.8 (`dissolution`), the device is OFF again
when x < x_off, and what is left seeds the next integration.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from neurosim.devices.pulse_train import NEVER, pulses_to_fire
from neurosim.devices.relaxation import Relaxation
from neurosim.kernels._jit import compiled

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
LAWS = ("power", "sinh", "exp")
_POWER, _SINH, _EXP = range(3)


@compiled
def growth_rate(voltage: float, law: int, rate: float, scale: float, power: float) -> float:
    """k_g(V), 1/s. Laws by number, in the order of LAWS."""
    if law == _POWER:
        return float(rate * max(0.0, voltage - scale) ** power)
    if voltage <= 0.0:
        return 0.0
    if law == _SINH:
        return rate * math.sinh(voltage / scale)
    return rate * math.expm1(voltage / scale)


@compiled
def growth_after(start: float, growth: float, time_constant: float, time: float) -> float:
    """x(t) = x* + (x_0 - x*) e^(-t/tau_x), tau_x = 1/(k_g + 1/tau_r), x* = k_g tau_x."""
    speed = growth + 1.0 / time_constant
    return start - (speed * start - growth) / speed * -math.expm1(-speed * time)


@compiled
def growth_time(start: float, growth: float, time_constant: float, level: float) -> float:
    """Time to reach `level`, s: tau_x ln[(x* - x_0)/(x* - x_th)]; infinite if x* <= x_th."""
    if start >= level:
        return 0.0
    speed = growth + 1.0 / time_constant
    left = growth - speed * level
    return math.log1p(speed * (level - start) / left) / speed if left > 0.0 else math.inf


@compiled
def train_pulses(
    growth: float, time_constant: float, level: float, width: float, gap: float, start: float
) -> int:
    """n* of a train from x = `start` at the first pulse's beginning; NEVER = 0."""
    speed = growth + 1.0 / time_constant
    if growth <= speed * level:
        return 1 if start >= level else 0
    first = growth_after(start, growth, time_constant, width)
    gain = growth_after(0.0, growth, time_constant, width)
    return pulses_to_fire(first, gain, speed * width + gap / time_constant, level)


@compiled
def _train_pulses(
    volts: Floats,
    widths: Floats,
    gaps: Floats,
    law: int,
    rate: float,
    scale: float,
    power: float,
    time_constant: float,
    level: float,
    result: Counts,
) -> None:
    for k in range(volts.size):
        growth = growth_rate(volts[k], law, rate, scale, power)
        result[k] = train_pulses(growth, time_constant, level, widths[k], gaps[k], 0.0)


@dataclass(frozen=True)
class GrowthLaw:
    """k_g(V): "power" k_1 max(0, V - V_c)^p; "sinh" k_1 sinh(V/V_g); "exp" k_1 (e^(V/V_g) - 1).

    rate: k_1 in 1/s (power: 1/s/V^p). scale: V_c or V_g, V. power: p, only for "power".
    """

    law: str
    rate: float
    scale: float
    power: float = 1.0

    def __post_init__(self) -> None:
        if self.law not in LAWS:
            raise ValueError(f"expected a law out of {', '.join(LAWS)}, got {self.law!r}")
        if not (0.0 < self.rate < math.inf and 0.0 < self.power < math.inf):
            raise ValueError(f"expected rate > 0 and power > 0, got {self.rate}, {self.power}")
        if not (math.isfinite(self.scale) and (self.law == "power" or self.scale > 0.0)):
            raise ValueError(f"expected scale > 0 V, got {self.scale}")

    @property
    def number(self) -> int:
        """Position in LAWS, for compiled callers."""
        return LAWS.index(self.law)

    def __call__(self, voltage: float) -> float:
        """k_g(V), 1/s."""
        return growth_rate(voltage, self.number, self.rate, self.scale, self.power)

    def voltage(self, growth: float) -> float:
        """V at which k_g(V) = `growth` > 0 (1/s), V."""
        ratio = growth / self.rate
        if self.law == "power":
            return float(self.scale + ratio ** (1.0 / self.power))
        return self.scale * (math.asinh(ratio) if self.law == "sinh" else math.log1p(ratio))


@dataclass(frozen=True)
class TrainRun:
    """A self-integrating neuron under a train of n pulses.

    states: x at the end of each pulse, before it fires, (n,). fired: numbers (from 1) of the
    pulses in which it fired. fire_times: s from the train's start. energies: J of each fire until
    its pulse ends, V I t_on. on_energy: J of all ON time, also of pulses that found the device
    still ON. charge: integral of the OFF current, C. final: x after the last gap.
    """

    states: Floats
    fired: tuple[int, ...]
    fire_times: tuple[float, ...]
    energies: tuple[float, ...]
    on_energy: float
    charge: float
    final: float


@dataclass(frozen=True)
class SelfIntegratingNeuron:
    """Parameters of tier 0B, SI units.

    growth: k_g. relaxation_time: tau_r, s. threshold: x_th. off_level: x_off, below which a
    dissolving filament is OFF. on_resistance, series_resistance: ohm. off_conductance,
    pre_conductance: OFF current at x = 0 and x = 1, S. hold_voltage: V. compliance: I_cc, A.
    dissolution: law of x after a fire, from x = 1; None takes e^(-t/tau_r).
    """

    growth: GrowthLaw = field(default_factory=lambda: GrowthLaw("exp", 4.0, 0.15))
    relaxation_time: float = 20e-3
    threshold: float = 0.6
    off_level: float = 0.6
    on_resistance: float = 2e3
    series_resistance: float = 0.0
    off_conductance: float = 1e-8
    pre_conductance: float = 1e-7
    hold_voltage: float = 0.08
    compliance: float = 1e-4
    dissolution: Relaxation | None = None

    def __post_init__(self) -> None:
        for name in ("relaxation_time", "on_resistance", "hold_voltage", "compliance"):
            if not 0.0 < getattr(self, name) < math.inf:
                raise ValueError(f"expected {name} > 0, got {getattr(self, name)}")
        for name in ("series_resistance", "off_conductance", "pre_conductance"):
            if not 0.0 <= getattr(self, name) < math.inf:
                raise ValueError(f"expected {name} >= 0, got {getattr(self, name)}")
        if not 0.0 < self.threshold < 1.0 or not 0.0 < self.off_level <= self.threshold:
            raise ValueError(
                "expected 0 < off_level <= threshold < 1, got "
                f"{self.off_level} and {self.threshold}"
            )

    @property
    def critical_voltage(self) -> float:
        """DC voltage below which it never fires: k_g(V) = x_th/((1 - x_th) tau_r), V."""
        return self.growth.voltage(self.threshold / ((1.0 - self.threshold) * self.relaxation_time))

    def state(self, start: float, voltage: float, time: float) -> float:
        """x after `time` s at constant `voltage` V, device OFF."""
        return growth_after(start, self.growth(voltage), self.relaxation_time, time)

    def fire_time(self, start: float, voltage: float) -> float:
        """Time until x_th at constant voltage, s; infinity below the critical voltage."""
        return growth_time(start, self.growth(voltage), self.relaxation_time, self.threshold)

    def forget_time(self, start: float, end: float) -> float:
        """Time in which x decays from `start` to `end` without drive: tau_r ln(x_0/x_1), s."""
        return self.relaxation_time * math.log(start / end)

    def off_current(self, voltage: float, state: float) -> float:
        """Sub-threshold current, A."""
        rise = self.pre_conductance - self.off_conductance
        return voltage * (self.off_conductance + rise * state)

    def on_current(self, voltage: float) -> float:
        """min(I_cc, V/(R_on + R_ser)), A."""
        return min(self.compliance, voltage / (self.on_resistance + self.series_resistance))

    def pulses_to_fire(self, voltage: float, width: float, gap: float, start: float = 0.0) -> int:
        """n* of a train of `voltage` V pulses (s, s) from state `start`; NEVER = 0."""
        return train_pulses(
            self.growth(voltage), self.relaxation_time, self.threshold, width, gap, start
        )

    def pulses_to_fire_table(
        self, voltages: npt.ArrayLike, widths: npt.ArrayLike, gaps: npt.ArrayLike
    ) -> Counts:
        """n* for broadcast arrays of V, s, s from x = 0; NEVER = 0."""
        volts, width, gap = np.broadcast_arrays(
            *(np.asarray(part, np.float64) for part in (voltages, widths, gaps))
        )
        result = np.empty(volts.size, dtype=np.int64)
        law = self.growth
        _train_pulses(
            volts.ravel(), width.ravel(), gap.ravel(), law.number, law.rate, law.scale, law.power,
            self.relaxation_time, self.threshold, result,
        )  # fmt: skip
        return result.reshape(volts.shape)

    def real_pulses(self, voltage: float, width: float, gap: float) -> float:
        """n before rounding up: ln[1 - x_th (1 - a)/b]/ln a; infinity if it never fires."""
        growth = self.growth(voltage)
        speed = growth + 1.0 / self.relaxation_time
        gain = growth_after(0.0, growth, self.relaxation_time, width)
        exponent = speed * width + gap / self.relaxation_time
        left = gain + math.expm1(-exponent) * self.threshold
        if left <= 0.0 or growth <= speed * self.threshold:
            return math.inf
        return -math.log(left / gain) / exponent

    def spike_frequency(self, voltage: float, width: float, gap: float) -> float:
        """f = 1/(n* (w + g)) for complete relaxation between fires, Hz; 0 if it never fires."""
        pulses = self.pulses_to_fire(voltage, width, gap)
        return 1.0 / (pulses * (width + gap)) if pulses != NEVER else 0.0

    def residual(self, time: float) -> float:
        """x left `time` s after a fire ended, dissolving from x = 1."""
        if self.dissolution is None:
            return math.exp(-time / self.relaxation_time)
        return float(self.dissolution.remaining(time))

    def fire_energy(self, voltage: float, on_time: float) -> float:
        """Energy of one fire: V min(I_cc, V/R) t_on, J, t_on = rest of the pulse (s)."""
        return voltage * self.on_current(voltage) * on_time

    def run_train(
        self, voltage: float, width: float, gap: float, pulses: int, start: float = 0.0
    ) -> TrainRun:
        """`pulses` pulses of `voltage` V (s, s): fires, dissolves in the gaps, fires again.

        While the filament is above off_level at a pulse's beginning the device is still ON: it
        conducts through that pulse, which restores x = 1, and this is no new fire.
        """
        states = np.empty(pulses)
        fired: list[int] = []
        times: list[float] = []
        energies: list[float] = []
        growth, tau = self.growth(voltage), self.relaxation_time
        x, on, charge, on_energy = start, False, 0.0, 0.0
        stays = voltage > self.hold_voltage
        for k in range(pulses):
            on = on and stays and x >= self.off_level
            crossing = growth_time(x, growth, tau, self.threshold) if not on else math.inf
            until = min(crossing, width) if not on else 0.0
            charge += self._charge(x, growth, voltage, until)
            on_energy += self.fire_energy(voltage, width) if on else 0.0
            states[k] = 1.0 if on else growth_after(x, growth, tau, until)
            if crossing <= width:
                fired.append(k + 1)
                times.append(k * (width + gap) + crossing)
                energies.append(self.fire_energy(voltage, width - crossing if stays else 0.0))
                on_energy += energies[-1]
                x, on = 1.0, True
            else:
                x = states[k]
            x *= math.exp(-gap / tau) if not on else self.residual(gap)
        return TrainRun(
            states, tuple(fired), tuple(times), tuple(energies), on_energy, charge, float(x)
        )

    def _charge(self, start: float, growth: float, voltage: float, time: float) -> float:
        """Integral of the OFF current over `time` at constant voltage, C."""
        speed = growth + 1.0 / self.relaxation_time
        rest = growth / speed
        area = rest * time + (start - rest) * -math.expm1(-speed * time) / speed
        rise = self.pre_conductance - self.off_conductance
        return voltage * (self.off_conductance * time + rise * area)
