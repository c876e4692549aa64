"""The chip's window, the population engine and the scalar reference are one device."""

import dataclasses

import numpy as np
import pytest

from neurosim.devices import Drive, Population, Stimulus, ThresholdSwitch, load_device, respond
from neurosim.devices.neuron_window import (
    COUNT_TERMS,
    ENERGY_TERMS,
    new_ledger,
    silent_uniforms,
    simulate_window,
    window_device,
)

WINDOW = 50e-6
DEMO = dataclasses.replace(load_device("demo").switch(), capacitance=1e-10)
SWITCHES = {
    "demo": DEMO,
    "integrated": load_device("ag_v2c_w").switch(),
    "delays": dataclasses.replace(DEMO, set_delay=1e-6, reset_delay=1e-7),
    "output": dataclasses.replace(DEMO, output_resistance=1e3, leak_voltage=0.02),
}


def window(switch: ThresholdSwitch, charge: np.ndarray) -> tuple[np.ndarray, dict[str, float], int]:
    """Spike counts, energies (J) and discharges of one window without spread, chip code."""
    device = window_device(switch, WINDOW)
    means = [np.full(charge.size, v) for v in (switch.threshold_voltage, switch.hold_voltage)]
    silent = np.empty(charge.size)
    silent_uniforms(means[0], device, silent)
    spikes = np.empty(charge.size, dtype=np.int8)
    energy, counts = new_ledger()
    simulate_window(
        charge, False, device, *means, silent, np.uint64(1), 0, 0, 100, spikes, energy, counts
    )
    named = dict(zip(ENERGY_TERMS, energy.tolist(), strict=True))
    return spikes, named, int(counts[COUNT_TERMS.index("discharges")])


@pytest.mark.parametrize("name", SWITCHES)
def test_window_population_and_reference_agree(name: str) -> None:
    switch = SWITCHES[name]
    charge = np.random.default_rng(1).uniform(0.05, 8.0, 200) * switch.quantum
    spikes, energy, discharges = window(switch, charge)
    population = Population(switch, charge.size, voltage=switch.start)
    run = population.run(Stimulus.of_current([WINDOW], charge[:, None] / WINDOW))
    turned_on = run.spikes.copy()
    if switch.set_delay > 0.0:  # the chip counts a discharge when it begins, after the delay
        waiting = population.state[:, 1] == 1.0
        turned_on -= waiting
    np.testing.assert_array_equal(spikes, turned_on)
    assert discharges == turned_on.sum() > 400
    ledger = {term: float(values.sum()) for term, values in run.ledger.items()}
    assert ledger["device_on"] == pytest.approx(energy["device_on"], rel=1e-10)
    assert ledger["device_off"] == pytest.approx(energy["device_off"], rel=1e-10)
    for term in ("output", "leak", "stored"):
        assert ledger[term] == pytest.approx(energy[term], rel=1e-9, abs=1e-25), term
    delivered = energy["input"] + energy["leak_source"]
    assert ledger["delivered"] == pytest.approx(delivered, rel=1e-10)
    for k in range(0, charge.size, 20):
        response = respond(switch, [(Drive(float(charge[k]) / WINDOW), WINDOW)], switch.start)
        assert len(response.spikes) == run.spikes[k]
        assert response.voltage == pytest.approx(run.voltage[k], rel=1e-10)
