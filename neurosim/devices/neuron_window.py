"""One window of a bank of threshold-switch neurons, in closed forms: the simulator's hot loop.

A neuron starts the window at the precharge voltage V_0 of the nominal device, half way between
landing and threshold. Its charge packet Q arrives as the constant current I = Q / T over the
window T. The membrane climbs by the OFF law; at V_u the device waits `set_delay`, discharges the
membrane to V_d by the ON law (I still flows), stays ON for `reset_delay`, and the next climb
begins. Without spread, delays and leak this gives floor(1/2 + Q / C (V_u - V_landing)) spikes. The
counter of a neuron saturates at `levels`; the neuron itself goes on, and every discharge is in the
energy. At the window's end a switch precharges the membrane to V_0 from a supply at V_0, or lets
the surplus charge go to ground.

Modelling choice: the differential pair steers its net current. Positive net charge goes to the ON
neuron, negative to the OFF neuron (`signed`) or to ground; the loser receives nothing and only
leaks. Thresholds: each cycle draws V_th and V_h (normal, C2C) around the neuron's own means (D2D),
truncated to 0 < V_h and V_h + 0.1 (mean V_th - mean V_h) < V_th (device.md 3.4 a); draws are keyed
by (seed, neuron, window, cycle). A drawn V_th below V_0 fires at once, also a neuron without
input: a spurious spike.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from neurosim.devices.closed_forms import crossing_time, voltage_after, voltage_integrals
from neurosim.devices.counter_random import (
    stream_key,
    truncated_normal,
    uniform,
    upper_tail,
)
from neurosim.devices.threshold_switch import Drive, ThresholdSwitch
from neurosim.kernels._jit import compiled

Floats = npt.NDArray[np.float64]

ENERGY_TERMS = (
    "input",  # delivered by the packet's current into the membrane
    "leak_source",  # delivered by the source behind the leak resistor
    "precharge",  # delivered by the precharge supply
    "device_on",  # burnt in the device, ON
    "device_off",  # burnt in the device, OFF
    "output",  # burnt in the output resistor
    "leak",  # burnt in the leak resistor
    "switch",  # burnt in the precharge switch
    "stored",  # change of C V^2 / 2 over the window, before the precharge takes it back
)
COUNT_TERMS = (
    "discharges",  # device turned ON, counted by the counter or not
    "saturated",  # neuron windows with more discharges than levels
    "spurious",  # discharges of neurons without input
    "locked",  # neuron windows that ended in lock-up
    "runaway",  # neuron windows stopped at MAX_CYCLES
)
MAX_CYCLES = 4096
DRAWS_PER_WINDOW = np.uint64(2 * MAX_CYCLES)
_ONE, _TWO = np.uint64(1), np.uint64(2)


class WindowDevice(NamedTuple):
    """A device and its window as plain numbers, SI units; see `window_device`."""

    capacitance: float
    on_resistance: float
    off_resistance: float
    output_resistance: float
    leak_conductance: float
    leak_voltage: float
    set_delay: float
    reset_delay: float
    threshold_spread: float
    hold_spread: float
    start: float
    window: float
    hold_current: float


def window_device(
    switch: ThresholdSwitch,
    window: float,
    threshold_spread: float = 0.0,
    hold_spread: float = 0.0,
    start: float | None = None,
    hold_current: float = math.inf,
) -> WindowDevice:
    """Numbers for `simulate_window`: window length in s, cycle-to-cycle spreads in V.

    start: precharge voltage if not half way of this device (it was designed for another), V.
    hold_current: a supply current from which on a device that is ON stays ON, A; without it only
    V_h and R_on decide.
    """
    if not (math.isfinite(window) and window > 0.0):
        raise ValueError(f"expected a window > 0 s, got {window}")
    if not (0.0 <= threshold_spread < math.inf and 0.0 <= hold_spread < math.inf):
        raise ValueError(f"expected spreads >= 0 V, got {threshold_spread} and {hold_spread}")
    precharge = switch.start if start is None else start
    idle_end = switch.voltage(precharge, window, False, Drive())
    if idle_end >= switch.upper:
        raise ValueError(
            "expected a neuron that is silent without input, but its precharge or leak source "
            f"drives it over V_u = {switch.upper:.6g} V; lower leak_voltage (or the temperature)"
        )
    return WindowDevice(
        switch.capacitance,
        switch.on_resistance,
        switch.off_resistance,
        switch.output_resistance,
        switch.leak_conductance,
        switch.leak_voltage,
        switch.set_delay,
        switch.reset_delay,
        threshold_spread,
        hold_spread,
        precharge,
        window,
        hold_current,
    )


@compiled
def draw_pair(
    mean_threshold: float,
    mean_hold: float,
    spread_threshold: float,
    spread_hold: float,
    key: np.uint64,
    counter: np.uint64,
) -> tuple[float, float]:
    """(V_th, V_h): independent normals with the truncation of device.md 3.4 (a)."""
    hold = mean_hold
    if spread_hold > 0.0:
        u = uniform(key, counter + _ONE)
        hold += spread_hold * truncated_normal(u, -mean_hold / spread_hold)
        hold = max(hold, 1e-9 * mean_hold)
    threshold = mean_threshold
    lowest = hold + 0.1 * (mean_threshold - mean_hold)
    if spread_threshold > 0.0:
        u = uniform(key, counter)
        lower = (lowest - mean_threshold) / spread_threshold
        threshold += spread_threshold * truncated_normal(u, lower)
    return max(threshold, lowest), hold


@compiled
def silent_uniforms(threshold: Floats, device: WindowDevice, silent: Floats) -> None:
    """Per neuron the uniform below which no draw of V_th reaches down to V_0 -> `silent` (N,).

    V_th = mean - spread Phi^-1(u P) with P <= 1, so it is below V_0 only if u > Phi((mean -
    V_0)/spread).
    """
    for i in range(threshold.size):
        gap = threshold[i] * (1.0 + device.output_resistance / device.off_resistance) - device.start
        if gap <= 0.0:
            silent[i] = 0.0
        elif device.threshold_spread == 0.0:
            silent[i] = 1.0
        else:
            gap /= device.threshold_spread * (
                1.0 + device.output_resistance / device.off_resistance
            )
            silent[i] = (1.0 - 1e-12) * (1.0 - upper_tail(gap)) if gap < 8.5 else 1.0


@compiled
def _neuron(
    charge: float,
    mean_threshold: float,
    mean_hold: float,
    device: WindowDevice,
    key: np.uint64,
    counter: np.uint64,
    times: Floats,
) -> tuple[int, int, float, float, float, float, float]:
    """One neuron through one window: discharges, status, end voltage, J1 and J2 for OFF and ON.

    `times`: when the first `times.size` discharges begin, s from the window's start. Status: 0
    ended normally, 1 in lock-up, 2 stopped at MAX_CYCLES.
    """
    capacitance = device.capacitance
    off_branch = device.off_resistance + device.output_resistance
    on_branch = device.on_resistance + device.output_resistance
    off = device.leak_conductance + 1.0 / off_branch
    on = device.leak_conductance + 1.0 / on_branch
    drive = charge / device.window + device.leak_conductance * device.leak_voltage
    left = device.window
    voltage = device.start
    discharges = 0
    off_1 = off_2 = on_1 = on_2 = 0.0
    for _ in range(MAX_CYCLES):
        threshold, hold = draw_pair(
            mean_threshold, mean_hold, device.threshold_spread, device.hold_spread, key, counter
        )
        counter += _TWO
        upper = threshold * (1.0 + device.output_resistance / device.off_resistance)
        lower = hold * (1.0 + device.output_resistance / device.on_resistance)
        if voltage < upper:
            spare = drive - off * upper
            time = crossing_time(upper - voltage, spare, off, capacitance) if spare > 0.0 else left
            fires = spare > 0.0 and time <= left
            time = time if fires else left
            end = upper if fires else voltage_after(voltage, drive, off, capacitance, time)
            first, second = voltage_integrals(voltage, end, drive, off, capacitance, time)
            off_1 += first
            off_2 += second
            voltage = end
            left -= time
            if not fires:
                return discharges, 0, voltage, off_1, off_2, on_1, on_2
        if device.set_delay > 0.0:
            time = min(device.set_delay, left)
            end = voltage_after(voltage, drive, off, capacitance, time)
            first, second = voltage_integrals(voltage, end, drive, off, capacitance, time)
            off_1 += first
            off_2 += second
            voltage = end
            left -= time
        if left <= 0.0:
            return discharges, 0, voltage, off_1, off_2, on_1, on_2
        if voltage <= lower:  # it leaked away during the delay: the switch finds nothing to hold it
            continue
        if discharges < times.size:
            times[discharges] = device.window - left
        discharges += 1
        spare = on * lower - drive
        held = spare <= 0.0 or drive >= device.hold_current
        time = left if held else crossing_time(voltage - lower, spare, on, capacitance)
        releases = not held and time <= left
        time = time if releases else left
        end = lower if releases else voltage_after(voltage, drive, on, capacitance, time)
        first, second = voltage_integrals(voltage, end, drive, on, capacitance, time)
        on_1 += first
        on_2 += second
        voltage = end
        left -= time
        if not releases:
            return discharges, 1 if held else 0, voltage, off_1, off_2, on_1, on_2
        if device.reset_delay > 0.0:
            time = min(device.reset_delay, left)
            end = voltage_after(voltage, drive, on, capacitance, time)
            first, second = voltage_integrals(voltage, end, drive, on, capacitance, time)
            on_1 += first
            on_2 += second
            voltage = end
            left -= time
        if left <= 0.0:
            return discharges, 0, voltage, off_1, off_2, on_1, on_2
    return discharges, 2, voltage, off_1, off_2, on_1, on_2


@compiled
def _book(
    energy: Floats,
    device: WindowDevice,
    neurons: int,
    packet_work: float,
    first: float,
    off_second: float,
    on_second: float,
) -> None:
    """Add a bank's window: `packet_work` = sum Q J1, `first` = sum J1, the rest sums of J2."""
    off_branch = device.off_resistance + device.output_resistance
    on_branch = device.on_resistance + device.output_resistance
    off_work = off_second / (off_branch * off_branch)
    on_work = on_second / (on_branch * on_branch)
    leak = device.leak_conductance
    rest = device.leak_voltage
    held = rest * device.window * neurons
    energy[0] += packet_work / device.window
    energy[1] += leak * rest * (held - first)
    energy[3] += device.on_resistance * on_work
    energy[4] += device.off_resistance * off_work
    energy[5] += device.output_resistance * (off_work + on_work)
    energy[6] += leak * (off_second + on_second - 2.0 * rest * first + rest * held)


@compiled
def _precharge(energy: Floats, device: WindowDevice, end: float, times: float) -> None:
    """Book the reset of the membrane from `end` to V_0, `times` over."""
    capacitance = times * device.capacitance
    drop = device.start - end
    gain = 0.5 * capacitance * drop * (device.start + end)
    energy[8] -= gain
    if drop > 0.0:
        energy[2] += capacitance * device.start * drop
        energy[7] += 0.5 * capacitance * drop * drop
    else:
        energy[7] -= gain


@compiled
def simulate_window(
    charge: Floats,
    signed: bool,
    device: WindowDevice,
    threshold: Floats,
    hold: Floats,
    silent: Floats,
    seed: np.uint64,
    window_index: int,
    neuron_offset: int,
    levels: int,
    spikes: npt.NDArray[np.int8],
    energy: Floats,
    counts: npt.NDArray[np.int64],
    times: Floats | None = None,
) -> None:
    """Run one window of a bank; writes `spikes`, adds to `energy` and `counts`.

    Args:
        charge: net packet of each channel, coulomb, (N,). signed: two neurons per channel (ON =
        2c, OFF = 2c + 1) or one. threshold, hold, silent: each neuron's mean V_th and V_h, V, and
        `silent_uniforms`; (N,) or (2N,). seed, window_index, neuron_offset: the key of the draws;
        neuron n of the bank is
            neuron_offset + n of the chip.
        spikes: result (N,), ON minus OFF when signed, each counter at most `levels`.
        energy, counts: accumulators, `ENERGY_TERMS` in J and `COUNT_TERMS`.
        times: if given, (N, levels): when each channel's discharges begin, s from the window's
            start; of the neuron of the pair that fired more, as many as it counted.
    """
    per_channel = 2 if signed else 1
    counter = np.uint64(window_index) * DRAWS_PER_WINDOW
    off = device.leak_conductance + 1.0 / (device.off_resistance + device.output_resistance)
    idle_drive = device.leak_conductance * device.leak_voltage
    idle_end = voltage_after(device.start, idle_drive, off, device.capacitance, device.window)
    idle_1, idle_2 = voltage_integrals(
        device.start, idle_end, idle_drive, off, device.capacitance, device.window
    )
    sinks = idle_end <= device.start  # then an idle neuron can only fire at once
    idle = 0
    packet_work = first = off_second = on_second = 0.0
    began = np.empty(0 if times is None else levels)
    for channel in range(charge.size):
        total = 0
        most = 0
        for side in range(per_channel):
            neuron = channel * per_channel + side
            packet = max(charge[channel] if side == 0 else -charge[channel], 0.0)
            key = stream_key(seed, np.uint64(neuron_offset + neuron))
            if (
                packet == 0.0
                and sinks
                and (silent[neuron] >= 1.0 or uniform(key, counter) < silent[neuron])
            ):
                idle += 1
                continue
            fired, status, end, off_1, off_2, on_1, on_2 = _neuron(
                packet, threshold[neuron], hold[neuron], device, key, counter, began
            )
            _precharge(energy, device, end, 1.0)
            packet_work += packet * (off_1 + on_1)
            first += off_1 + on_1
            off_second += off_2
            on_second += on_2
            counts[0] += fired
            counts[1] += fired > levels
            counts[2] += fired if packet == 0.0 else 0
            counts[3] += status == 1
            counts[4] += status == 2
            counted = min(fired, levels)
            if times is not None and counted > most:
                times[channel, :counted] = began[:counted]
                most = counted
            total += counted if side == 0 else -counted
        spikes[channel] = total
    _precharge(energy, device, idle_end, float(idle))
    first += idle * idle_1
    off_second += idle * idle_2
    neurons = charge.size * per_channel
    _book(energy, device, neurons, packet_work, first, off_second, on_second)


def new_ledger() -> tuple[Floats, npt.NDArray[Any]]:
    """Zeroed accumulators (energy, counts) for `simulate_window`."""
    return np.zeros(len(ENERGY_TERMS)), np.zeros(len(COUNT_TERMS), dtype=np.int64)
