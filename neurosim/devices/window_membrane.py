"""The membrane voltage of one neuron through one window, sampled from the same closed forms."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from neurosim.devices.closed_forms import crossing_time, voltage_after
from neurosim.devices.neuron_window import MAX_CYCLES, WindowDevice, draw_pair

_TWO = np.uint64(2)


def membrane(
    charge: float,
    mean_threshold: float,
    mean_hold: float,
    device: WindowDevice,
    key: np.uint64,
    counter: np.uint64,
    samples: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Voltage at `samples` (S,) s, ascending, and the times of the discharges.

    The arguments are those of the simulated window (`neuron_window.simulate_window`), so that the
    discharges are the same ones: the packet (C), the neuron's own mean V_th and V_h (V), the
    device, and the key and counter of its draws.
    """
    off = device.leak_conductance + 1.0 / (device.off_resistance + device.output_resistance)
    on = device.leak_conductance + 1.0 / (device.on_resistance + device.output_resistance)
    drive = charge / device.window + device.leak_conductance * device.leak_voltage
    volts = np.full(samples.size, math.nan)
    fired: list[float] = []
    voltage, now = device.start, 0.0

    def go(until: float, conductance: float) -> None:
        """Follow one law up to a time, sampling on the way."""
        nonlocal voltage, now
        inside = (samples >= now) & (samples <= until)
        for i in np.nonzero(inside)[0]:
            elapsed = float(samples[i]) - now
            volts[i] = voltage_after(voltage, drive, conductance, device.capacitance, elapsed)
        voltage = voltage_after(voltage, drive, conductance, device.capacitance, until - now)
        now = until

    for _ in range(MAX_CYCLES):
        threshold, hold = draw_pair(
            mean_threshold, mean_hold, device.threshold_spread, device.hold_spread, key, counter
        )
        counter += _TWO
        upper = threshold * (1.0 + device.output_resistance / device.off_resistance)
        lower = hold * (1.0 + device.output_resistance / device.on_resistance)
        if voltage < upper:
            spare, time = drive - off * upper, math.inf
            if spare > 0.0:
                time = crossing_time(upper - voltage, spare, off, device.capacitance)
            go(min(now + time, device.window), off)
            if now >= device.window:
                break
        go(min(now + device.set_delay, device.window), off)
        if now >= device.window:
            break
        if voltage <= lower:
            continue
        fired.append(now)
        spare, time = on * lower - drive, math.inf
        if spare > 0.0 and drive < device.hold_current:
            time = crossing_time(voltage - lower, spare, on, device.capacitance)
        go(min(now + time, device.window), on)
        go(min(now + device.reset_delay, device.window), on)
        if now >= device.window:
            break
    return volts, np.array(fired)
