"""Published compact models that device.md 3.9 states in full, for comparison only (tier X).

Here: AND-TS (no. 4; constants read, grouping reconstructed), the state equation of the dynamic
memdiode (5), the linear volatile memristor (6), VTEAM with a zero-bias decay (7), Stanford-PKU (8).
Not here, and why: diffusive Langevin (1): its potential U is free; `TiltedWell` is ours. ECM/JART
(2) and JART VCM (9): parameters and several equations not read. Ag drift/diffusion (3): paper not
read. Memdiode current (5): I_0(h), alpha(h) not stated. Mott (10): R(T), Gamma and the enthalpy are
not stated. Behavioural switch (11) is tier 0 itself. Samardzic (12): abstract only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.integrate import solve_ivp

from neurosim.devices.temperature import BOLTZMANN_EV

Floats = npt.NDArray[np.float64]
Waveform = Callable[[float], float]


def follow(
    rate: Callable[[float, float], float],
    voltage: Waveform,
    start: float,
    times: npt.ArrayLike,
    low: float = 0.0,
    high: float = 1.0,
) -> Floats:
    """State at `times` (s, rising from 0) under a voltage waveform; rate(x, V) in 1/s.

    The state is held in [low, high]: at a bound it moves inwards only.
    """

    def inside(t: float, y: Floats) -> list[float]:
        x = min(max(float(y[0]), low), high)
        speed = rate(x, voltage(t))
        return [0.0 if (x <= low and speed < 0.0) or (x >= high and speed > 0.0) else speed]

    points = np.asarray(times, dtype=np.float64)
    span = (0.0, float(points[-1]))
    solved = solve_ivp(
        inside,
        span,
        [start],
        method="LSODA",
        t_eval=points,
        rtol=1e-9,
        atol=1e-12 * (high - low),
        max_step=span[1] / 200.0,
    )
    return np.asarray(np.clip(solved.y[0], low, high))


def _logistic(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x)) if x > -700.0 else 0.0


@dataclass(frozen=True)
class AndTs:
    """AND-TS empirical model (Ostrovskii et al. 2025), constants of device.md 2.1; s, V, ohm.

    dX/dt = S(b_S) alpha_S(X)/tau_S - [1 - S(b_R)] alpha_R(X)/tau_R, b = (V - V+)(V - V-)/V_x^2, I =
    V X/R_on +- I_leak. Our reading of the grouping switches in 246 and 324 ns against < 210 and <
    240 ns published: evidence "derived". Neutral between V_h and V_th, so not regenerative (3.7).
    """

    set_time: float = 1.2e-7
    reset_time: float = 1.3e-7
    steepness: float = 2.0
    set_offset: float = 0.05
    reset_offset: float = 0.5
    set_width: float = 9.9e-3
    reset_width: float = 17.5e-3
    threshold: float = 0.267
    hold: float = 0.080
    reverse_threshold: float = -0.119
    reverse_hold: float = -0.006
    on_resistance: float = 806.0
    reverse_resistance: float = 1434.0
    leakage: float = 1e-12

    def rate(self, x: float, voltage: float) -> float:
        """dX/dt, 1/s."""
        a = self.steepness
        common = 1.0 - math.exp(-a * (1.0 - x))
        grow = (1.0 - math.exp(-(a * x + self.set_offset))) * (1.0 - x) + common * x
        shrink = (1.0 - math.exp(-a * x)) * (1.0 - x)
        shrink += (1.0 - math.exp(-a * (1.0 - x) - self.reset_offset)) * x
        b_set = (voltage - self.threshold) * (voltage - self.reverse_threshold) / self.set_width**2
        b_reset = (voltage - self.hold) * (voltage - self.reverse_hold) / self.reset_width**2
        up = _logistic(b_set) * grow / self.set_time
        return up - (1.0 - _logistic(b_reset)) * shrink / self.reset_time

    def current(self, x: float, voltage: float) -> float:
        """I, A."""
        ohms = self.on_resistance if voltage >= 0.0 else self.reverse_resistance
        return voltage * x / ohms + math.copysign(self.leakage, voltage)


@dataclass(frozen=True)
class Memdiode:
    """State of the dynamic memdiode (Miranda, Sune): linear at constant V, so closed form.

    dh/dt = (1 - h)/tau_S(V) for V >= 0, -h/tau_R(V) for V < 0, tau = e^(-eta (V - V_s)) s with eta
    < 0 for the reset; decay: added zero-bias relaxation time, s, which makes it volatile.
    """

    set_slope: float
    set_voltage: float
    reset_slope: float
    reset_voltage: float
    decay: float = math.inf

    def rate(self, h: float, voltage: float) -> float:
        """dh/dt, 1/s."""
        if voltage >= 0.0:
            return (1.0 - h) * math.exp(self.set_slope * (voltage - self.set_voltage)) - (
                h / self.decay
            )
        return -h * (math.exp(self.reset_slope * (voltage - self.reset_voltage)) + 1.0 / self.decay)

    def after(self, h: float, voltage: float, time: float) -> float:
        """h after `time` s at constant V."""
        at_zero, at_one = self.rate(0.0, voltage), self.rate(1.0, voltage)
        speed = at_zero - at_one
        return h if speed == 0.0 else h + (at_zero / speed - h) * -math.expm1(-speed * time)


@dataclass(frozen=True)
class LinearVolatile:
    """dG/dt = (G_inf(V) - G)/tau (Kamsma et al. 2024): G_inf is the user's, S; tau in s."""

    target: Callable[[float], float]
    time: float

    def rate(self, conductance: float, voltage: float) -> float:
        """dG/dt, S/s."""
        return (self.target(voltage) - conductance) / self.time

    def after(self, conductance: float, voltage: float, time: float) -> float:
        """G after `time` s at constant V."""
        return conductance + (self.target(voltage) - conductance) * -math.expm1(-time / self.time)


@dataclass(frozen=True)
class Vteam:
    """VTEAM with MemTorch's defaults: x in [0, d] (m), R from r_on (x = 0) to r_off (x = d).

    dx/dt = k_off (V/v_off - 1)^a_off for V > v_off > 0, k_on (V/v_on - 1)^a_on for V < v_on < 0,
    else 0; minus (x - x_eq)/tau_r where `decay` is finite (our addition: volatility).
    """

    on_rate: float = -10.0
    off_rate: float = 5e-4
    on_power: float = 3.0
    off_power: float = 1.0
    on_voltage: float = -0.2
    off_voltage: float = 0.02
    on_resistance: float = 50.0
    off_resistance: float = 1e3
    depth: float = 3e-9
    decay: float = math.inf
    rest: float = 3e-9

    def rate(self, x: float, voltage: float) -> float:
        """dx/dt, m/s."""
        back = -(x - self.rest) / self.decay
        if voltage > self.off_voltage:
            return float(
                self.off_rate * (voltage / self.off_voltage - 1.0) ** self.off_power + back
            )
        if voltage < self.on_voltage:
            return float(self.on_rate * (voltage / self.on_voltage - 1.0) ** self.on_power + back)
        return back

    def current(self, x: float, voltage: float) -> float:
        """I, A."""
        span = self.off_resistance - self.on_resistance
        return voltage / (self.on_resistance + span * x / self.depth)


@dataclass(frozen=True)
class StanfordPku:
    """Stanford-PKU RRAM (synapse): gap g in m; the bounds of g are not stated, so they are ours.

    dg/dt = -v_0 e^(-E_a/kT) sinh(gamma a_0 q V/(t_ox kT)), gamma = gamma_0 - beta (g/1 nm)^3, I =
    I_0 e^(-g/g_0) sinh(V/V_0), T = T_0 + V I R_th.
    """

    gap_scale: float = 0.25e-9
    voltage_scale: float = 0.25
    current_scale: float = 1e-3
    thermal: float = 2.1e3
    enhancement: float = 16.0
    enhancement_slope: float = 0.8
    oxide: float = 12e-9
    speed: float = 10.0
    energy: float = 0.6
    atom: float = 0.25e-9
    bath: float = 300.0

    def current(self, gap: float, voltage: float) -> float:
        """I, A."""
        return (
            self.current_scale
            * math.exp(-gap / self.gap_scale)
            * math.sinh(voltage / self.voltage_scale)
        )

    def rate(self, gap: float, voltage: float) -> float:
        """dg/dt, m/s."""
        kelvin = self.bath + voltage * self.current(gap, voltage) * self.thermal
        thermal = BOLTZMANN_EV * kelvin
        gamma = self.enhancement - self.enhancement_slope * (gap * 1e9) ** 3
        field = gamma * self.atom * voltage / (self.oxide * thermal)
        return -self.speed * math.exp(-self.energy / thermal) * math.sinh(field)
