"""Simulate, write CSV, calibrate: how far each parameter is off, in standard errors."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from neurosim.devices import (
    DevicePreset,
    GrowthLaw,
    Hazard,
    Relaxation,
    SelfIntegratingNeuron,
    load_device,
)
from neurosim.devices.calibration import Calibration, calibrate
from neurosim.devices.calibration.simulate import (
    measured_delays,
    measured_relaxation,
    measured_sweeps,
    measured_trains,
    train_conditions,
    write_table,
)
from neurosim.quantity import Quantity

DEVICES, CYCLES = 16, 50
FORGETTING = 20e-3  # tau_r of the growth state, s


@dataclasses.dataclass(frozen=True)
class Truth:
    """A device to recover: its sweeps, delays, relaxation and growth."""

    preset: DevicePreset
    hazard: Hazard
    relaxation: Relaxation
    growth: GrowthLaw
    fire_level: float

    @property
    def neuron(self) -> SelfIntegratingNeuron:
        """The self-integrating device of the pulse trains."""
        return SelfIntegratingNeuron(self.growth, FORGETTING, self.fire_level, off_level=0.3)


def _with(name: str, rho: float, **spreads: float) -> DevicePreset:
    base = load_device(name)
    numbers = {
        key: dataclasses.replace(base.quantities[key], value=value)
        for key, value in spreads.items()
    }
    extras = {"statistics.correlation": Quantity(rho, "1", "round trip", "assumed")}
    changed = base.with_quantities(numbers)
    return dataclasses.replace(changed, extras={**base.extras, **extras})


def _truth(preset: DevicePreset, scale: float, tau: float, p: float, level: float) -> Truth:
    volts = preset["threshold_voltage"]
    return Truth(
        preset,
        Hazard.from_ramp(volts, scale * 1.2825, 1.0),
        Relaxation(tau, exponent=p, spread=0.25),
        GrowthLaw("power", 600.0 / volts, 0.8 * volts),
        level,
    )


SETS = {
    "and_ts": _truth(_with("and_ts", 0.3), 0.0296, 240e-9, 2.0, 0.6),
    "ag_v2c_w": _truth(_with("ag_v2c_w", 0.0), 0.0229, 1e-3, 1.5, 0.45),
    "ag_mxene_gst": _truth(_with("ag_mxene_gst", 0.6), 0.02, 1e-2, 1.0, 0.7),
    "ag_siox_mos2": _truth(_with("ag_siox_mos2", 0.0), 0.03, 233e-9, 2.5, 0.35),
    "demo with spreads": _truth(
        _with(
            "demo",
            0.15,
            threshold_spread_cycle=0.01,
            hold_spread_cycle=0.004,
            threshold_spread_device=0.02,
            hold_spread_device=0.005,
        ),
        0.0078,
        1.0,
        0.5,
        0.75,
    ),
}


def conditions(neuron: SelfIntegratingNeuron, near: bool = True) -> np.ndarray:
    """Strong short pulses with different gaps (k_g, tau_r) and long ones near critical (x_th)."""
    strong = train_conditions(neuron, [2.2, 2.7, 3.2, 4.3], [1e-4, 2e-4, 5e-4], [1e-3, 4e-3, 1e-2])
    long = train_conditions(neuron, [0.97, 1.0, 1.03, 1.08, 1.15], [30e-3, 60e-3], [20e-3])
    return np.concatenate([strong, long]) if near else strong


def measure(truth: Truth, seed: int, folder: Path) -> list[Path]:
    """The four CSV files of one device type, 16 devices x 50 cycles, noise included."""
    volts = truth.preset["threshold_voltage"]
    step = min(0.01, truth.preset["threshold_spread_cycle"] / 3.0)
    tables = (
        measured_sweeps(truth.preset, DEVICES, CYCLES, seed, step),
        measured_delays(truth.hazard, volts * np.linspace(1.0, 1.4, 5), CYCLES, seed),
        measured_relaxation(truth.relaxation, np.array([1e-5, 3e-5, 1e-4]), 17, 25, seed),
        measured_trains(truth.neuron, conditions(truth.neuron), 3, seed),
    )
    return [write_table(table, folder / f"{table.kind}.csv") for table in tables]


def deviations(truth: Truth, found: Calibration) -> dict[str, float]:
    """(estimate - truth) / standard error of every fitted parameter."""
    preset, law = truth.preset, truth.relaxation
    true = {key: preset[key] for key in found.estimates if key in preset.quantities}
    true |= {
        "reset_delay": law.time,
        "statistics.correlation": preset.extra("statistics.correlation").value,
        "relaxation.time": law.time,
        "relaxation.exponent": law.exponent,
        "relaxation.spread": law.spread,
        "hazard.scale": truth.hazard.scale,
        "growth.rate": truth.growth.rate,
        "growth.scale": truth.growth.scale,
        "growth.relaxation_time": FORGETTING,
        "growth.threshold": truth.fire_level,
        "growth.pre_ratio": truth.neuron.pre_conductance / truth.neuron.off_conductance,
    }
    return {
        key: (estimate.value - true[key]) / estimate.error
        for key, estimate in found.estimates.items()
        if estimate.error > 0.0 and key != "reset_delay"
    }


def round_trip(name: str, seed: int, folder: Path) -> dict[str, float]:
    """Deviations in standard errors of one parameter set and seed, through CSV files."""
    seed += 100 * list(SETS).index(name)
    files = measure(SETS[name], seed, folder)
    base = load_device("demo")
    return deviations(SETS[name], calibrate(files, base, "round-trip", seed=seed))
