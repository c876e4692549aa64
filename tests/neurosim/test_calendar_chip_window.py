"""One window of the chip is the calendar engine on one switch neuron: same device, packet, draws.

The window model (`devices.neuron_window`) lets a packet Q arrive as the current Q / T over the
window T from the precharge voltage on, and keys the draws of window 0 as the calendar does its
first cycles. With device-to-device spread off, spike counts must therefore be equal.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from exact_networks import run
from test_calendar_switch import variant

from neurosim.chip import ChipBank, ChipDescription, load_chip
from neurosim.events import calendar
from neurosim.network import NeuronBank
from neurosim.populations import NetworkBuilder, SpikeSource, SwitchNeuron

REAL = load_chip("ag_v2c_w")
SIZE = 400
CASES = {
    "perfect": {"set_delay": 0.0, "reset_delay": 0.0, "threshold_spread_cycle": 0.0,
                "hold_spread_cycle": 0.0},
    "delays": {"threshold_spread_cycle": 0.0, "hold_spread_cycle": 0.0},
    "drawn": {"set_delay": 0.0, "reset_delay": 0.0},
    "drawn, delays": {},
}  # fmt: skip


def chip_of(changes: dict[str, float]) -> ChipDescription:
    device = variant(REAL.device, threshold_spread_device=0.0, hold_spread_device=0.0, **changes)
    return dataclasses.replace(REAL, device=device)


def counts_of_window(chip: ChipDescription, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Packets in quanta and the chip's spike counts."""
    half = np.full(SIZE, 500)
    bank = NeuronBank("bank", half, np.zeros(SIZE, np.int64), 4, False)
    charge = np.random.default_rng(1).integers(-300, 4200, SIZE)
    return charge / 1000.0, ChipBank(bank, chip, seed).fire(charge, 0)


@pytest.mark.parametrize("case", CASES)
def test_window_equals_calendar(case: str) -> None:
    chip = chip_of(CASES[case])
    switch, window = chip.device.switch(), chip.window.duration.value
    quanta, wanted = counts_of_window(chip, seed=7)
    build = NetworkBuilder()
    current = np.maximum(quanta, 0.0) * switch.quantum / window
    model = SwitchNeuron(chip.device, current, stochastic=True)
    build.population("bank", SIZE, model, voltage=switch.start)
    simulation = run(calendar.begin, build.network(), window, seed=7)
    found = np.bincount(simulation.spikes()[1], minlength=SIZE)
    np.testing.assert_array_equal(np.minimum(found, 4), wanted)
    assert len(set(wanted.tolist())) == 5


def test_many_small_packets_approach_the_window() -> None:
    """The packet in 400 parts, as charge: equal but at the edge between counts, where leak acts."""
    chip = chip_of(CASES["perfect"])
    switch, window = chip.device.switch(), chip.window.duration.value
    quanta, wanted = counts_of_window(chip, seed=0)
    build = NetworkBuilder()
    parts = (np.arange(400) + 0.5) * window / 400
    source = build.population("s", 1, SpikeSource(parts, np.zeros(400, np.int64)))
    cells = build.population("bank", SIZE, SwitchNeuron(chip.device), voltage=switch.start)
    weight = np.maximum(quanta, 0.0)[None, :] * switch.quantum / 400
    build.connect(source, cells, weight=weight, delay=0.0)
    simulation = run(calendar.begin, build.network(), window)
    times, neurons = simulation.spikes()
    found = np.minimum(np.bincount(neurons, minlength=SIZE + 1)[1:], 4)
    remainder = np.abs((quanta + 0.5) % 1.0 - 0.5)  # distance to the nearest half
    differs = found != wanted
    assert differs.mean() < 0.1
    assert np.all(np.abs(found - wanted) <= 1)
    assert np.all(remainder[differs] > 0.4)
    assert times.size == 400 + np.bincount(neurons, minlength=SIZE + 1)[1:].sum()
