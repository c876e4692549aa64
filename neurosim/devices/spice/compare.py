"""Closed forms against ngspice: segments (V7), oscillator and f-I (V8), pulses to fire (V9)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neurosim.devices.pulse_train import NEVER, PulseTrain, train_response
from neurosim.devices.spice.netlist import (
    branch,
    deck,
    driver,
    fixed_branch,
    membrane,
    without_delays,
)
from neurosim.devices.spice.runner import measure, waveform
from neurosim.devices.threshold_switch import Drive, ThresholdSwitch

SEGMENT_TOLERANCE = 1e-5
OSCILLATOR_TOLERANCES = ((50_000, 1e-4), (20_000, 3e-4))  # (steps per period, V8's limit)
PULSE_TOLERANCE = 2e-5
_PULSE_STEPS = 10_000  # of a pulse or gap
_SEGMENT_STEPS = 20_000
_ON_STEPS = 400  # the step ceiling must resolve the discharge too


@dataclass(frozen=True)
class Comparison:
    """One number both ways; `error` is relative, ngspice minus closed form."""

    check: str
    name: str
    unit: str
    closed_form: float
    spice: float
    tolerance: float

    @property
    def error(self) -> float:
        """(ngspice - closed form) / closed form; NaN where ngspice found no such event."""
        return (self.spice - self.closed_form) / self.closed_form

    @property
    def passed(self) -> bool:
        """Whether the error is within the tolerance; a missing event is not."""
        return abs(self.error) <= self.tolerance


def step_limit(switch: ThresholdSwitch, drive: Drive, steps: int) -> float:
    """Largest time step: 1/`steps` of the period, 1/400 of the discharge, s."""
    period = without_delays(switch).period(drive)
    return min(period.duration / steps, period.on_time / _ON_STEPS)


def oscillator_deck(
    switch: ThresholdSwitch, drive: Drive, steps: int = 20_000, periods: int = 3
) -> str:
    """The full oscillator; `ta` and `tb` are the crossings of the middle `periods` apart."""
    switch = without_delays(switch)
    period = switch.period(drive).duration
    middle = 0.5 * (switch.upper + switch.lower)
    crossings = [
        f"meas tran {name} WHEN v(m)={middle:.12g} RISE={rise}"
        for name, rise in (("ta", 2), ("tb", 2 + periods))
    ]
    return deck(
        f"RC membrane and hysteretic threshold switch, {steps} steps a period",
        [*branch(switch), *membrane(switch, 0.0, drive)],
        step_limit(switch, drive, steps),
        (periods + 3) * period + switch.next_crossing(0.0, False, drive),
        crossings,
    )


def _segment(
    switch: ThresholdSwitch, start: float, time: float, on: bool, drive: Drive
) -> npt.NDArray[np.float64]:
    text = deck(
        f"one {'ON' if on else 'OFF'} segment",
        [*fixed_branch(switch, on), *membrane(switch, start, drive)],
        time / _SEGMENT_STEPS,
        1.02 * time,
        ["set wr_singlescale", "wrdata out.dat v(m)"],
    )
    return waveform(text)


def _first_crossing(wave: npt.NDArray[np.float64], level: float) -> float:
    """Time at which the waveform first meets `level`, linear between points; NaN if it does not."""
    side = wave[:, 1] >= level
    changed = np.flatnonzero(side[1:] != side[:-1])
    if changed.size == 0:
        return math.nan
    (t0, v0), (t1, v1) = wave[changed[0]], wave[changed[0] + 1]
    return float(t0 + (t1 - t0) * (level - v0) / (v1 - v0))


def compare_segments(switch: ThresholdSwitch, drive: Drive) -> list[Comparison]:
    """V7: time of an OFF climb and an ON discharge, and the charge and energy of the discharge."""
    switch = without_delays(switch)
    period = switch.period(drive)
    climb = _segment(switch, switch.lower, period.off_time, False, drive)
    fall = _segment(switch, switch.upper, period.on_time, True, drive)
    on_time = _first_crossing(fall, switch.lower)
    inside = fall[:, 0] < on_time
    time = np.append(fall[inside, 0], on_time)
    current = np.append(fall[inside, 1], switch.lower)
    current /= switch.on_resistance + switch.output_resistance
    charge = float(np.trapezoid(current, time))
    energy = float(np.trapezoid(current**2, time)) * switch.on_resistance
    pairs = (
        ("OFF climb V_d to V_u", "s", period.off_time, _first_crossing(climb, switch.upper)),
        ("ON discharge V_u to V_d", "s", period.on_time, on_time),
        ("ON charge", "C", period.on.device_charge, charge),
        ("ON energy in the device", "J", period.on.device, energy),
    )
    return [Comparison("V7", *pair, SEGMENT_TOLERANCE) for pair in pairs]


def compare_period(switch: ThresholdSwitch, drive: Drive, steps: int = 20_000) -> Comparison:
    """V8: the sustained period with the switch model; first order in the step, see the spec."""
    tolerance = next((limit for n, limit in OSCILLATOR_TOLERANCES if steps >= n), None)
    if tolerance is None:
        raise ValueError(f"expected at least 20000 steps a period for V8, got {steps}")
    periods = 3
    found = measure(oscillator_deck(switch, drive, steps, periods))
    spice = (found.get("tb", math.nan) - found.get("ta", math.nan)) / periods
    closed = without_delays(switch).period(drive).duration
    return Comparison("V8", f"period, {steps} steps", "s", closed, spice, tolerance)


def compare_frequencies(
    switch: ThresholdSwitch, currents: Sequence[float], steps: int = 20_000
) -> list[Comparison]:
    """V8 over an f-I curve: firing rate at each current, Hz."""
    found = []
    for current in currents:
        one = compare_period(switch, Drive(current), steps)
        found.append(
            Comparison(
                "V8",
                f"f at {current:.4g} A",
                "Hz",
                1.0 / one.closed_form,
                1.0 / one.spice,
                one.tolerance,
            )
        )
    return found


def compare_silence(switch: ThresholdSwitch) -> list[Comparison]:
    """V8 outside the firing range: the membrane settles at J/G below rheobase and above lock-up."""
    switch = without_delays(switch)
    rest = []
    for name, on, current in (
        ("settles at 0.98 rheobase", False, 0.98 * switch.rheobase()),
        ("settles at 1.05 lock-up", True, 1.05 * switch.lock_up()),
    ):
        drive = Drive(current)
        conductance = switch.conductance(on, drive)
        asymptote = (current + switch.leak_conductance * switch.leak_voltage) / conductance
        climb = 0.0 if not on else switch.next_crossing(0.0, False, drive)
        stop = climb + 25.0 * switch.capacitance / conductance
        step = switch.capacitance / conductance / 200.0
        text = deck(
            name,
            [*branch(switch), *membrane(switch, 0.0, drive)],
            step,
            stop,
            [f"meas tran vend FIND v(m) AT={0.999 * stop:.12g}"],
        )
        spice = measure(text).get("vend", math.nan)
        rest.append(Comparison("V8", name, "V", asymptote, spice, SEGMENT_TOLERANCE))
    return rest


def compare_train(switch: ThresholdSwitch, train: PulseTrain) -> list[Comparison]:
    """V9: number of the pulse that fires (exact) and the firing time, from rest at 0 V.

    The device is the resistor R_off + R_o: only the first crossing of V_u counts, and SW would
    switch within the step that crosses it, so that no stored point lies above V_u.
    """
    switch = without_delays(switch)
    wanted = train_response(switch, train)
    if wanted.pulses == NEVER:
        raise ValueError(f"expected a train that fires, got {train}: raise its amplitude")
    text = deck(
        "pulses to fire",
        [*fixed_branch(switch, False), *membrane(switch, 0.0, Drive()), *driver(train)],
        min(train.width, train.gap or train.width) / _PULSE_STEPS,
        wanted.time + 2.0 * train.period,
        [f"meas tran tf WHEN v(m)={switch.upper:.12g} RISE=1"],
    )
    time = measure(text).get("tf", math.nan)
    pulses = math.floor(time / train.period) + 1.0 if math.isfinite(time) else math.nan
    source = f"{train.source_resistance:.3g} ohm {train.idle}" if train.source_resistance else "A"
    name = f"{train.amplitude:.3g} {'V, ' + source if train.source_resistance else source}"
    return [
        Comparison("V9", f"n*, {name}", "", float(wanted.pulses), pulses, 0.0),
        Comparison("V9", f"time, {name}", "s", wanted.time, time, PULSE_TOLERANCE),
    ]
