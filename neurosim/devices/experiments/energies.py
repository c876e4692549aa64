"""E12, E16: charge and energy of a spike, and the golden AND-TS neuron."""

from __future__ import annotations

import dataclasses

import numpy as np

from neurosim.devices.experiments.result import Experiment, at_most
from neurosim.devices.preset import DevicePreset, load_device
from neurosim.devices.threshold_switch import Drive, Ledger, ThresholdSwitch

_NODES = 64  # Gauss-Legendre: exact to rounding for a few time constants


def quadrature(
    switch: ThresholdSwitch, start: float, time: float, on: bool, drive: Drive
) -> tuple[float, float]:
    """(device charge in C, device energy in J) of a segment by Gauss-Legendre quadrature of V(t).

    The interval is cut into pieces of one time constant, 64 nodes each.
    """
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    tau = switch.capacitance / switch.conductance(on, drive)
    pieces = max(1, min(200, int(np.ceil(time / tau))))
    width = time / pieces
    first = second = 0.0
    for k in range(pieces):
        moments = width * (k + 0.5 * (nodes + 1.0))
        values = np.array([switch.voltage(start, float(t), on, drive) for t in moments])
        first += 0.5 * width * float(weights @ values)
        second += 0.5 * width * float(weights @ values**2)
    resistance = switch.on_resistance if on else switch.off_resistance
    branch = resistance + switch.output_resistance
    return first / branch, resistance * second / branch**2


def middle_current(switch: ThresholdSwitch) -> float:
    """Geometric mean of rheobase and lock-up: well inside the firing range, A."""
    return float(np.sqrt(switch.rheobase() * switch.lock_up()))


def _imbalance(ledger: Ledger) -> float:
    scale = max(abs(ledger.delivered), ledger.burnt, abs(ledger.stored))
    return (ledger.delivered - ledger.burnt - ledger.stored) / scale


def spike_energy(preset: DevicePreset, current: float | None = None) -> Experiment:
    """E12: where charge and energy of one spike go, exactly; and the isolated discharge's limit.

    Checks J1 and J2 against quadrature, delivered = burnt + stored, and that an isolated discharge
    burns C (V_u^2 - V_d^2)/2.
    """
    switch = preset.switch()
    current = middle_current(switch) if current is None else current
    drive = Drive(current)
    period = switch.period(drive)
    peak = switch.voltage(switch.upper, switch.set_delay, False, drive)
    charge, energy = quadrature(switch, peak, period.on_time, True, drive)
    still = dataclasses.replace(switch, set_delay=0.0, reset_delay=0.0, leak_voltage=0.0)
    alone_time = still.next_crossing(still.upper, True, Drive())
    alone = still.segment(still.upper, alone_time, True, Drive(), end=still.lower)
    limit = 0.5 * switch.capacitance * (switch.upper**2 - switch.lower**2)
    names = ("device", "output", "leak", "delivered", "stored")
    rows = [
        (
            name,
            *(getattr(ledger, name) for ledger in (period.off, period.on)),
            getattr(period.off, name) + getattr(period.on, name),
        )
        for name in names
    ]
    return Experiment(
        "E12",
        "charge and energy of a spike",
        preset,
        (("energy", ""), ("OFF", "J"), ("ON", "J"), ("cycle", "J")),
        tuple(rows),
        (
            at_most("charge against quadrature", period.on.device_charge / charge - 1.0, 1e-12),
            at_most("energy against quadrature", period.on.device / energy - 1.0, 1e-12),
            at_most("delivered - burnt - stored, OFF", _imbalance(period.off), 1e-10),
            at_most("delivered - burnt - stored, ON", _imbalance(period.on), 1e-10),
            at_most(
                "isolated discharge against C (V_u^2 - V_d^2)/2", alone.burnt / limit - 1, 1e-12
            ),
        ),
        {
            "current_A": current,
            "capacitance_F": switch.capacitance,
            "spike_charge_C": period.on.device_charge,
            "spike_device_energy_J": period.on.device,
            "cycle_energy_J": period.on.burnt + period.off.burnt,
            "isolated_discharge_J": limit,
        },
        {
            "names": np.array([row[0] for row in rows[:3]]),
            "off": np.array([row[1] for row in rows[:3]], float),
            "on": np.array([row[2] for row in rows[:3]], float),
        },
        f"I {current:.4g} A, C {switch.capacitance:.4g} F (C sets the number); on the device alone "
        f"(i) {period.on.device:.5g} J per spike, with leak and output (ii) "
        f"{period.on.burnt + period.off.burnt:.5g} J",
    )


def and_ts_neuron() -> Experiment:
    """E16: AND-TS with 22 nF and 0.6 V through 100 kohm, against the numbers of section 4."""
    preset = load_device("and_ts")
    switch = dataclasses.replace(
        preset.switch(), threshold_voltage=0.267, set_delay=0.0, reset_delay=0.0
    )
    period = switch.period(Drive(drivers=((1e-5, 0.6),)))
    found = (
        ("period", "s", period.duration, 1.002479e-3, 5e-10),
        ("ON time", "s", period.on_time, 21.969e-6, 5e-10),
        ("charge", "C", period.on.device_charge, 4.2119e-9, 5e-14),
        ("ON energy", "J", period.on.device, 0.72828e-9, 5e-15),
    )
    return Experiment(
        "E16",
        "AND-TS RC neuron, reference cycle without delays",
        preset,
        (("quantity", ""), ("found", ""), ("specification", ""), ("unit", "")),
        tuple(
            (name, f"{value:.8g}", f"{wanted:.8g}", unit) for name, unit, value, wanted, _ in found
        ),
        tuple(
            at_most(f"{name} against the printed digits", value - wanted, half, unit)
            for name, unit, value, wanted, half in found
        ),
        {
            "and_ts_period_s": period.duration,
            "and_ts_on_time_s": period.on_time,
            "and_ts_spike_charge_C": period.on.device_charge,
            "and_ts_spike_energy_J": period.on.device,
        },
        {},
        "C 22 nF, 0.6 V through 100 kohm, V_th 0.267 V",
    )
