"""Nonlinear OFF current as K straight pieces, which keeps tier 0A exact (device.md 3.8).

On piece k the OFF branch is a conductance g_k and an offset i_k, I_off = i_k + g_k V; breakpoints
are internal events of the climb. A chord's error on a quadratic law (SCLC) is 1/(4 K^2) of I(V_th).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neurosim.devices.closed_forms import crossing_time, voltage_after, voltage_integrals
from neurosim.devices.threshold_switch import Drive, ThresholdSwitch


@dataclass(frozen=True)
class PiecewiseCurrent:
    """I_off(V) through (voltages, currents), V and A, voltages rising from 0; K + 1 points."""

    voltages: tuple[float, ...]
    currents: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.voltages) != len(self.currents) or len(self.voltages) < 2:
            raise ValueError(
                f"expected two points or more, got {len(self.voltages)} voltages and "
                f"{len(self.currents)} currents"
            )
        if self.voltages[0] != 0.0 or any(np.diff(self.voltages) <= 0.0):
            raise ValueError(f"expected voltages rising from 0 V, got {self.voltages}")
        if self.currents[0] < 0.0 or any(np.diff(self.currents) < 0.0):
            raise ValueError(f"expected currents that do not fall, got {self.currents}")

    @classmethod
    def fit(
        cls, current: Callable[[float], float], threshold: float, pieces: int = 4
    ) -> PiecewiseCurrent:
        """Chords of I(V) (A of V) on equal pieces of [0, V_th]."""
        volts = [threshold * k / pieces for k in range(pieces + 1)]
        return cls(tuple(volts), tuple(float(current(v)) for v in volts))

    @property
    def pieces(self) -> int:
        """K."""
        return len(self.voltages) - 1

    def piece(self, voltage: float) -> int:
        """Number of the piece that holds `voltage`; the outer ones extend beyond their ends."""
        return min(max(bisect_right(self.voltages, voltage) - 1, 0), self.pieces - 1)

    def branch(self, piece: int) -> tuple[float, float]:
        """(g_k in S, i_k in A): I = i_k + g_k V."""
        rise = self.currents[piece + 1] - self.currents[piece]
        g = rise / (self.voltages[piece + 1] - self.voltages[piece])
        return g, self.currents[piece] - g * self.voltages[piece]

    def current(self, voltage: float) -> float:
        """I_off, A."""
        g, offset = self.branch(self.piece(voltage))
        return offset + g * voltage


@dataclass(frozen=True)
class Climb:
    """OFF phase on a piecewise branch: final voltage, time used (inf: never), J1, J2, device J."""

    voltage: float
    time: float
    fired: bool
    first: float
    second: float
    device: float
    breakpoints: tuple[float, ...]


def climb(
    switch: ThresholdSwitch,
    branch: PiecewiseCurrent,
    drive: Drive,
    start: float,
    limit: float = math.inf,
) -> Climb:
    """Move an OFF membrane from `start` (V) until V_th or for `limit` s, exactly.

    The branch replaces R_off; R_o = 0. Returns the voltage at the end of `limit`, or at V_th with
    the time needed; with limit = infinity and no firing, the resting voltage and time infinity.
    """
    if switch.output_resistance != 0.0:
        raise ValueError(
            "expected output_resistance = 0 with a piecewise OFF current, got "
            f"{switch.output_resistance} ohm"
        )
    base = switch.leak_conductance + drive.conductance
    pull = drive.total_current + switch.leak_conductance * switch.leak_voltage
    voltage, now, first, second, device = start, 0.0, 0.0, 0.0, 0.0
    crossed: list[float] = []
    rising = pull - base * start - branch.current(start) >= 0.0
    piece = branch.piece(start)
    if not rising and piece > 0 and start == branch.voltages[piece]:
        piece -= 1
    while voltage < switch.threshold_voltage:
        g, offset = branch.branch(piece)
        conductance, current = base + g, pull - offset
        inner = 0 < piece + (1 if rising else 0) < branch.pieces
        goal = branch.voltages[piece + 1] if rising and inner else switch.threshold_voltage
        if not rising:
            goal = branch.voltages[piece] if inner else -math.inf
        spare = (current - conductance * goal) * (1.0 if rising else -1.0)
        reaches = math.isfinite(goal) and spare > 0.0
        time = math.inf
        if reaches:
            time = crossing_time(abs(goal - voltage), spare, conductance, switch.capacitance)
        left = limit - now
        if time > left or not reaches:
            if left == math.inf:
                rest = current / conductance
                return Climb(rest, math.inf, False, math.inf, math.inf, math.inf, tuple(crossed))
            goal, time = (
                voltage_after(voltage, current, conductance, switch.capacitance, left),
                left,
            )
            reaches = False
        j1, j2 = voltage_integrals(voltage, goal, current, conductance, switch.capacitance, time)
        first, second = first + j1, second + j2
        device += offset * j1 + g * j2
        voltage, now = goal, now + time
        if not reaches:
            return Climb(voltage, now, False, first, second, device, tuple(crossed))
        if voltage < switch.threshold_voltage:
            crossed.append(now)
            piece += 1 if rising else -1
    return Climb(voltage, now, True, first, second, device, tuple(crossed))


def climb_times(
    switch: ThresholdSwitch, branch: PiecewiseCurrent, currents: Sequence[float], start: float
) -> npt.NDArray[np.float64]:
    """Time from `start` (V) to V_th under each constant current (A), s; infinity if never."""
    return np.array([climb(switch, branch, Drive(i), start).time for i in currents])


def piecewise_period(switch: ThresholdSwitch, branch: PiecewiseCurrent, drive: Drive) -> float:
    """Period of sustained firing with a piecewise OFF branch, s; infinity below rheobase.

    The ON phase is the switch's own. Delays must be 0; ValueError in lock-up.
    """
    if switch.set_delay or switch.reset_delay:
        raise ValueError("expected set_delay = reset_delay = 0 with a piecewise OFF current")
    fall = switch.next_crossing(switch.upper, True, drive)
    if fall == math.inf:
        raise ValueError(
            f"expected a drive below lock-up, {switch.lock_up(drive):.6g} A beside the drivers; "
            "the device cannot turn off"
        )
    return climb(switch, branch, drive, switch.lower).time + fall
