"""Tier 1: a smooth threshold switch with positive feedback, deterministic (device.md 3.7).

s(x, V) = 1/(1 + e^(-(V_M - V_sw(x))/w_s)),  V_sw(x) = V_1 - (V_1 - V_2) x
dx/dt   = (s - x)/tau_on if s > x, (s - x)/tau_off otherwise
G_M(x)  = G_off^(1-x) G_on^x,  C dV/dt = I + sum G_k (U_k - V) - G_L (V - E_L) - V/(1/G_M + R_o)

At fixed V between V_h and V_th, x = 0 and x = 1 are stable. The switching voltages are saddle-node
points: with D = V_1 - V_2 > 4 w_s and s_- = (1 - sqrt(1 - 4 w_s/D))/2, V_th = V_1 - delta and V_h =
V_2 + delta, delta = D s_- + w_s ln((1 - s_-)/s_-). V_1 and V_2 are chosen so that V_th and V_h are
the device's.

With an output resistor the closing gap itself moves the divider: where R_o/(R_on + R_o) ln(R_off/
R_on) V_h > D the device stays ON somewhat below V_d = V_h (1 + R_o/R_on), and the period is longer
than tier 0's, also for w_s -> 0 (case B of device.md 5: +1.3 %, measured).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.integrate import solve_ivp
from scipy.optimize import brentq

from neurosim.devices.threshold_switch import Drive, ThresholdSwitch

Floats = npt.NDArray[np.float64]


def saddle_offset(distance: float, width: float) -> float:
    """delta of D = `distance` and w_s = `width`, V."""
    low = 0.5 * (1.0 - math.sqrt(1.0 - 4.0 * width / distance))
    return distance * low + width * math.log((1.0 - low) / low)


@dataclass(frozen=True)
class RegenerativeSwitch:
    """A `ThresholdSwitch` as an ODE.

    width: w_s, V. on_time, off_time: tau_on, tau_off, s. acceleration: V_0 of the optional tau_on
    e^(-(V_M - V_th)/V_0), V; None: constant.
    """

    switch: ThresholdSwitch
    width: float = 1e-3
    on_time: float = 1e-8
    off_time: float = 1e-8
    acceleration: float | None = None

    def __post_init__(self) -> None:
        for name in ("width", "on_time", "off_time"):
            if not 0.0 < getattr(self, name) < math.inf:
                raise ValueError(f"expected {name} > 0, got {getattr(self, name)}")
        if self.switch.set_delay or self.switch.reset_delay:
            raise ValueError(
                "expected set_delay = reset_delay = 0: on_time and off_time take their place"
            )
        gap = self.switch.threshold_voltage - self.switch.hold_voltage
        if gap <= 0.0 or self.distance <= 4.0 * self.width:
            raise ValueError(f"expected V_th - V_h well above w_s = {self.width} V, got {gap} V")

    @property
    def distance(self) -> float:
        """D = V_1 - V_2 = V_th - V_h + 2 delta(D), V, by fixed-point iteration."""
        gap = self.switch.threshold_voltage - self.switch.hold_voltage
        distance = gap + 8.0 * self.width
        for _ in range(60):
            distance = gap + 2.0 * saddle_offset(distance, self.width)
        return distance

    def switching_voltage(self, x: float) -> float:
        """V_sw(x), V."""
        top = self.switch.threshold_voltage + saddle_offset(self.distance, self.width)
        return top - self.distance * x

    def saddle_nodes(self) -> tuple[float, float]:
        """(V_th, V_h) found numerically: extremes of V(x) on the fixed points s(x, V) = x, V."""

        def fixed(x: float) -> float:
            return self.switching_voltage(x) + self.width * math.log(x / (1.0 - x))

        def slope(x: float) -> float:
            return self.width / (x * (1.0 - x)) - self.distance

        low = brentq(slope, 1e-12, 0.5, xtol=1e-15)
        high = brentq(slope, 0.5, 1.0 - 1e-12, xtol=1e-15)
        return fixed(low), fixed(high)

    def simulate(
        self,
        segments: Sequence[tuple[Drive, float]],
        voltage: float = 0.0,
        state: float = 0.0,
        rtol: float = 1e-7,
        method: str = "LSODA",
    ) -> RegenerativeRun:
        """Solve through (drive, duration in s) segments; upward crossings of x = 1/2 are spikes."""
        device = self.switch
        log_off, log_on = -math.log(device.off_resistance), -math.log(device.on_resistance)
        top, distance = self.switching_voltage(0.0), self.distance

        def rates(t: float, y: Floats, drive: Drive) -> list[float]:
            v, x = float(y[0]), float(y[1])
            between = min(max(x, 0.0), 1.0)  # trial steps of the solver leave [0, 1]
            resistance = math.exp(-(log_off + (log_on - log_off) * between))
            branch = v / (resistance + device.output_resistance)
            across = branch * resistance
            steep = (across - top + distance * x) / self.width
            s = 1.0 / (1.0 + math.exp(min(-steep, 700.0)))
            on_time = self.on_time
            if self.acceleration is not None:
                above = (across - device.threshold_voltage) / self.acceleration
                on_time *= math.exp(min(max(-above, -60.0), 60.0))
            leak = device.leak_conductance * (v - device.leak_voltage)
            current = drive.total_current - drive.conductance * v - leak - branch
            pace = on_time if s > x else self.off_time
            return [current / device.capacitance, (s - x) / pace]

        def switches(t: float, y: Floats, drive: Drive) -> float:
            return float(y[1]) - 0.5

        switches.direction = 1.0  # type: ignore[attr-defined]
        times: list[Any] = []
        states: list[Any] = []
        spikes: list[float] = []
        now, y = 0.0, np.array([voltage, state])
        for drive, duration in segments:
            solved = solve_ivp(
                rates,
                (0.0, duration),
                y,
                method=method,
                rtol=rtol,
                atol=[1e-9, 1e-9],
                events=switches,
                args=(drive,),
            )
            if not solved.success:
                raise ValueError(f"the solver stopped: {solved.message}; try method='Radau'")
            times.append(now + solved.t)
            states.append(solved.y)
            spikes.extend((now + solved.t_events[0]).tolist())
            now, y = now + duration, solved.y[:, -1]
        joined = np.concatenate(states, axis=1)
        return RegenerativeRun(np.concatenate(times), joined[0], joined[1], np.array(spikes))


@dataclass(frozen=True, eq=False)
class RegenerativeRun:
    """Solver output: time (s), membrane voltage (V), state x, spike times (s)."""

    time: Floats
    voltage: Floats
    state: Floats
    spikes: Floats
