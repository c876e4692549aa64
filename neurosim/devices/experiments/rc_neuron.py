"""E10, E11: the RC neuron's output and its f-I curve, from the closed forms of tier 0A."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from neurosim.devices.experiments.result import Check, Experiment, at_most, holds
from neurosim.devices.preset import DevicePreset
from neurosim.devices.threshold_switch import Drive, ThresholdSwitch


def oscillation(
    switch: ThresholdSwitch, drive: Drive, duration: float, points: int = 60
) -> tuple[npt.NDArray[np.float64], ...]:
    """Waveform from rest: time (s), membrane voltage (V), 1 where the device is ON; (M,) each.

    Event by event; `points` samples a segment. Stops at `duration`, in lock-up or at rest.
    """
    time, voltage, on = 0.0, 0.0, False
    pieces: list[npt.NDArray[np.float64]] = []
    while time < duration:
        delay = switch.reset_delay if on else switch.set_delay
        length = switch.next_crossing(voltage, on, drive) + delay
        length = min(length, duration - time)
        moments = np.linspace(0.0, length, points)
        values = [switch.voltage(voltage, float(t), on, drive) for t in moments]
        pieces.append(np.array([time + moments, values, np.full(points, float(on))]))
        time += length
        voltage, on = values[-1], not on
    joined = np.concatenate(pieces, axis=1)
    return joined[0], joined[1], joined[2]


def textbook_period(switch: ThresholdSwitch, drive: Drive) -> float:
    """T of device.md 3.2 around the asymptotes, delays added; s."""
    current = drive.total_current + switch.leak_conductance * switch.leak_voltage
    g_off, g_on = switch.conductance(False, drive), switch.conductance(True, drive)
    tau_off, tau_on = switch.capacitance / g_off, switch.capacitance / g_on
    high, low = current / g_off, current / g_on
    peak = switch.upper - (high - switch.upper) * math.expm1(-switch.set_delay / tau_off)
    landing = switch.lower + (switch.lower - low) * math.expm1(-switch.reset_delay / tau_on)
    climb = tau_off * math.log1p((switch.upper - landing) / (high - switch.upper))
    fall = tau_on * math.log1p((peak - switch.lower) / (switch.lower - low))
    return climb + switch.set_delay + fall + switch.reset_delay


def default_currents(switch: ThresholdSwitch, points: int = 25) -> npt.NDArray[np.float64]:
    """From half the rheobase to twice lock-up, logarithmic, A."""
    low, high = switch.rheobase(), switch.lock_up()
    if not 0.0 < low < high:
        raise ValueError(
            f"expected a rheobase between 0 and lock-up, got {low:.6g} A and {high:.6g} A: this "
            "device has no firing range without input; lower its leak"
        )
    return np.geomspace(0.5 * low, 2.0 * high, points)


def frequency_curve(
    preset: DevicePreset, currents: Sequence[float] | None = None, points: int = 25
) -> Experiment:
    """E11: firing rate against constant current (A); zero outside (I_rh, I_lock), exact inside."""
    switch = preset.switch()
    given = default_currents(switch, points) if currents is None else np.asarray(currents, float)
    if given.ndim != 1 or given.size == 0 or not np.isfinite(given).all():
        raise ValueError(f"expected a list of finite currents in A, got {currents}")
    rates = np.array([switch.frequency(Drive(float(current))) for current in given])
    low, high = switch.rheobase(), switch.lock_up()
    rows: list[tuple[float | None, ...]] = []
    worst, wrong = 0.0, 0
    for current, rate in zip(given.tolist(), rates.tolist(), strict=True):
        inside = low < current < high
        wrong += (rate > 0.0) != inside
        if inside:
            drive = Drive(current)
            worst = max(worst, abs(rate * textbook_period(switch, drive) - 1.0))
            period = switch.period(drive)
            rows.append((current, rate, period.off_time, period.on_time, period.on.device))
        else:
            rows.append((current, rate, None, None, None))
    edges = [Drive(0.999999 * low), Drive(1.000001 * high)]
    wrong += sum(switch.frequency(drive) != 0.0 for drive in edges)
    charge = switch.capacitance * (switch.upper - switch.lower)
    return Experiment(
        "E11",
        "f-I curve with rheobase and lock-up",
        preset,
        (
            ("current", "A"),
            ("rate", "Hz"),
            ("OFF time", "s"),
            ("ON time", "s"),
            ("device energy per spike", "J"),
        ),
        tuple(rows),
        (
            holds("silent outside (rheobase, lock-up), firing inside", wrong, given.size + 2),
            at_most("largest relative difference to the formula of 3.2", worst, 1e-9),
        ),
        {
            "currents_A": given,
            "frequencies_Hz": rates,
            "rheobase_A": low,
            "lock_up_A": high,
        },
        {"current": given, "rate": rates, "line": given / charge},
        f"C {switch.capacitance:.4g} F, constant current; rheobase {low:.4g} A, "
        f"lock-up {high:.4g} A",
    )


def rc_output(preset: DevicePreset, strengths: Sequence[float] | None = None) -> Experiment:
    """E10: voltages (V) through R_s, the spike read on R_o: all or nothing, refractory = ON time.

    R_o is 0.3 of the largest that lets the device stay on at all, R_s 150 times the ON branch and
    slow enough that the delays cost less than a hundredth of a charge. The output peak is read off
    the waveform of the first spike, event by event from rest.
    """
    bare = preset.switch()
    ratio = bare.threshold_voltage / bare.hold_voltage - 1.0
    output = bare.output_resistance or 0.3 * bare.on_resistance * ratio
    switch = dataclasses.replace(bare, output_resistance=output)
    delays = switch.set_delay + switch.reset_delay
    series = max(150.0 * (switch.on_resistance + output), 100.0 * delays / switch.capacitance)
    loading = 1.0 + series * switch.conductance(False, Drive())
    least = switch.upper * loading
    most = switch.lower * (1.0 + series * switch.conductance(True, Drive()))
    given = (
        np.concatenate([[0.5, 0.9], np.geomspace(1.05, min(10.0, 0.5 * most / least), 8)]) * least
        if strengths is None
        else np.asarray(strengths, float)
    )
    rows: list[tuple[float | bool | None, ...]] = []
    for voltage in given.tolist():
        drive = Drive(drivers=((1.0 / series, voltage),))
        rate = switch.frequency(drive)
        if rate == 0.0:
            rows.append((voltage, False, None, None, 0.0))
            continue
        on_time = switch.period(drive).on_time
        first = switch.next_crossing(0.0, False, drive) + switch.set_delay
        _, membrane, on = oscillation(switch, drive, first + on_time)
        out = float(membrane[on > 0.0].max()) * output / (switch.on_resistance + output)
        rows.append((voltage, True, out, on_time, rate))
    fired = [row for row in rows if row[1]]
    peaks = np.array([row[2] for row in fired], float)
    rates = np.array([row[4] for row in fired], float)
    expected = switch.upper * output / (switch.on_resistance + output)
    wrong = sum((least < row[0] < most) != row[1] for row in rows if row[0] is not None)
    chosen = float(given[len(given) // 2])
    drive = Drive(drivers=((1.0 / series, chosen),))
    checks: tuple[Check, ...] = (
        holds("no output below threshold, one above", wrong, len(rows)),
        holds("rate rises with strength", int((np.diff(rates) <= 0.0).sum()), len(fired)),
        at_most(
            "spread of the output peak over V_u R_o/(R_on + R_o)",
            float(np.abs(peaks / expected - 1.0).max()) if fired else math.nan,
            1e-9 if switch.set_delay == 0.0 else 0.1,  # the climb goes on during a delay
        ),
    )
    wave = {}
    if switch.frequency(drive) > 0.0:
        period = switch.period(drive)
        first = switch.next_crossing(0.0, False, drive)
        time, membrane, on = oscillation(switch, drive, first + 3.2 * period.duration)
        resistance = np.where(on > 0.0, switch.on_resistance, switch.off_resistance)
        wave = {
            "time": time,
            "membrane": membrane,
            "output": membrane * output / (resistance + output),
        }
    return Experiment(
        "E10",
        "RC neuron: output spike against stimulus strength",
        preset,
        (
            ("source voltage", "V"),
            ("fires", ""),
            ("output peak", "V"),
            ("refractory (ON) time", "s"),
            ("rate", "Hz"),
        ),
        tuple(rows),
        checks,
        {
            "source_voltages_V": given,
            "output_peaks_V": [row[2] for row in rows],
            "output_rates_Hz": [row[4] for row in rows],
        },
        {"strength": given, "rate": np.array([row[4] for row in rows], float), **wave},
        f"R_s {series:.4g} ohm, R_o {output:.4g} ohm, C {switch.capacitance:.4g} F; "
        f"waveform at {chosen:.3g} V",
    )
