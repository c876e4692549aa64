"""E1 to E16: every experiment meets its criterion, and a broken device does not."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from neurosim.devices import DevicePreset, load_device
from neurosim.devices import experiments as lab
from neurosim.devices.experiments import energies, rc_neuron, relaxing, sweeps, trains
from neurosim.devices.experiments.figures import PANELS, figure_of

RUNS: dict[str, Callable[[DevicePreset], lab.Experiment]] = {
    "E1": lab.current_voltage,
    "E2": lab.threshold_statistics,
    "E3": lab.ramp_dependence,
    "E4": lab.delay_voltage,
    "E5": lab.relaxation_time,
    "E6": lab.leaky_integration,
    "E7": lab.pulses_to_fire,
    "E8": lab.self_relaxation,
    "E9": lab.strength_frequency,
    "E10": lab.rc_output,
    "E11": lab.frequency_curve,
    "E12": lab.spike_energy,
    "E13": lab.published_trains,
    "E14": lambda preset: lab.jitter(preset, draws=20_000),
    "E15": lambda preset: lab.population(preset, devices=3000),
    "E16": lambda preset: lab.and_ts_neuron(),
}


@pytest.mark.parametrize("device", ["and_ts", "demo", "ag_v2c_w"])
@pytest.mark.parametrize("name", RUNS)
def test_criterion(name: str, device: str) -> None:
    found = RUNS[name](load_device(device))
    assert found.id == name
    assert found.checks and found.passed, [c for c in found.checks if not c.passed]
    assert found.rows and all(len(row) == len(found.columns) for row in found.rows)
    if name in PANELS:
        figure_of([found])


def _off(value: Any, factor: float = 1.02) -> Callable[..., Any]:
    return lambda *a, **k: value(*a, **k) * factor


def test_criteria_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each criterion notices a model that is off by a few percent."""
    demo = load_device("demo")
    monkeypatch.setattr(rc_neuron, "textbook_period", _off(rc_neuron.textbook_period, 1 + 1e-8))
    assert not lab.frequency_curve(demo).passed
    whole = energies.quadrature
    monkeypatch.setattr(energies, "quadrature", lambda *a: (whole(*a)[0], 1.001 * whole(*a)[1]))
    assert not lab.spike_energy(demo).passed
    monkeypatch.setattr(trains, "brute_force", _off(trains.brute_force, 2))
    assert not lab.leaky_integration(demo).passed
    monkeypatch.setattr(trains, "GOLDEN", dataclasses.replace(trains.GOLDEN, threshold=0.65))
    assert not lab.pulses_to_fire(demo).passed
    monkeypatch.setattr(sweeps, "RAMP_SPREAD", 1.35)
    assert not lab.ramp_dependence(load_device("and_ts")).passed
    monkeypatch.setattr(relaxing, "BOLTZMANN_EV", 9e-5)
    assert not lab.relaxation_time(demo).passed


def test_a_seed_is_a_run() -> None:
    device = load_device("and_ts")
    first, again, other = (lab.threshold_statistics(device, seed) for seed in (1, 1, 2))
    assert first.to_dict() == again.to_dict() != other.to_dict()
