"""Engine "calendar" on threshold-switching neurons: closed forms, draws, packets, energy."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from exact_networks import assert_same, run
from exact_reference import reference
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

from neurosim.devices import DevicePreset, Drive, Population, Stimulus, load_device
from neurosim.events import calendar
from neurosim.events.calendar.ledger import BURNT, DELIVERED
from neurosim.events.simulate import Options, simulate
from neurosim.populations import NetworkBuilder, SpikeSource, SpikingNetwork, SwitchNeuron
from neurosim.quantity import Quantity

DEMO, AND_TS = load_device("demo"), load_device("and_ts")


def variant(device: DevicePreset, **values: float) -> DevicePreset:
    """A device with some numbers replaced."""
    changes = {
        key: Quantity(value, device.quantities[key].unit, "test", "assumed")
        for key, value in values.items()
    }
    return device.with_quantities(changes)


LEAKY = variant(DEMO, output_resistance=1e3, leak_voltage=0.05)
DELAYED = variant(LEAKY, set_delay=2e-6, reset_delay=3e-6)


def imbalance(energy: dict[str, float]) -> float:
    """Relative violation of delivered = burnt + stored."""
    delivered = sum(energy[name] for name in DELIVERED)
    burnt = sum(energy[name] for name in BURNT)
    return abs(delivered - burnt - energy["stored"]) / max(abs(delivered), burnt)


def base_current(device: DevicePreset) -> float:
    """A: rheobase, or 0.1 uA where the neuron has hardly any leak."""
    return max(device.switch().rheobase(), 1e-7)


def oscillators(device: DevicePreset, currents: np.ndarray, stochastic: bool) -> SpikingNetwork:
    build = NetworkBuilder()
    build.population("cells", currents.size, SwitchNeuron(device, currents, stochastic))
    return build.network()


@pytest.mark.parametrize("device", [DEMO, LEAKY, DELAYED, AND_TS], ids=lambda d: d.name)
def test_periods_equal_the_closed_form(device: DevicePreset) -> None:
    """f(I) of device.md 3.2 to 1e-9, from rheobase to lock-up, and silence outside."""
    switch = device.switch()
    low, high = base_current(device), switch.lock_up()
    top = min(0.95 * high, 30.0 * low)  # or the fastest fires a million times in the slowest's 12
    currents = np.concatenate(
        [[0.9 * switch.rheobase()], np.geomspace(1.05 * low, top, 6), [1.1 * high]]
    )
    network = oscillators(device, currents, False)
    duration = 12.0 * max(switch.period(Drive(i)).duration for i in currents[1:-1].tolist())
    simulation = run(calendar.begin, network, duration)
    times, neurons = simulation.spikes()
    assert simulation.counts()["locked"] == 1
    assert (neurons == 0).sum() == 0 and (neurons == 7).sum() == 1
    for k, current in enumerate(currents[1:-1].tolist(), start=1):
        intervals = np.diff(times[neurons == k])
        assert intervals.size >= 9
        np.testing.assert_allclose(intervals, switch.period(Drive(current)).duration, rtol=1e-9)
    first = times[neurons == 3][0]
    wanted = switch.next_crossing(switch.hold_voltage, False, Drive(currents[3]))
    assert first == pytest.approx(wanted + switch.set_delay, rel=1e-9)
    assert imbalance(simulation.energy()["cells"]) < 1e-10


@pytest.mark.parametrize("stochastic", [False, True], ids=["means", "drawn"])
@pytest.mark.parametrize("device", [LEAKY, DELAYED, AND_TS], ids=["leaky", "delayed", "and_ts"])
def test_equals_the_population_engine(device: DevicePreset, stochastic: bool) -> None:
    """Independent neurons: spikes, draws and energies of `devices.Population`."""
    switch = device.switch()
    currents = np.geomspace(1.5, 20.0, 12) * base_current(device)
    network = oscillators(device, currents, stochastic)
    duration = 25.0 * switch.period(Drive(float(currents[2]))).duration
    simulation = run(calendar.begin, network, duration, seed=9)
    population = Population(
        switch,
        12,
        device.statistics() if stochastic else None,
        seed=9,
        voltage=switch.hold_voltage,
    )
    wanted = population.run(Stimulus.of_current([duration], currents[:, None]), record=2_000)
    times, neurons = simulation.spikes()
    for k in range(12):
        crossed = wanted.times[k][np.isfinite(wanted.times[k])] + switch.set_delay
        crossed = crossed[crossed < duration]
        assert crossed.size >= 10 or stochastic
        np.testing.assert_allclose(times[neurons == k], crossed, rtol=1e-9)
    energy = simulation.energy()["cells"]
    for name in (*BURNT, "stored"):
        total = float(wanted.ledger[name].sum())
        assert energy[name] == pytest.approx(total, rel=1e-9, abs=1e-9 * energy["device_on"])
    assert imbalance(energy) < 1e-10


def coupled(
    seed: int, device: DevicePreset, size: int, stochastic: bool, strength: float = 0.4
) -> SpikingNetwork:
    """Oscillators that send each other packets of both signs, with several delays."""
    rng = np.random.default_rng(seed)
    switch = device.switch()
    currents = rng.uniform(1.2, 6.0, size) * base_current(device)
    period = switch.period(Drive(float(currents.max()))).duration
    build = NetworkBuilder(seed)
    start = rng.uniform(switch.lower, switch.upper, size)
    model = SwitchNeuron(device, currents, stochastic)
    cells = build.population("cells", size, model, voltage=start)
    given = SpikeSource(rng.uniform(0.0, 5.0 * period, 2 * size), rng.integers(0, 4, 2 * size))
    source = build.population("given", 4, given)
    for giver in (cells, source):
        count = 3 * size
        pairs = (rng.integers(0, giver.size, count), rng.integers(0, size, count))
        charge = strength * switch.quantum * rng.normal(0.3, 0.7, count)
        delay = period * rng.choice([0.05, 0.1, 0.37], count)
        build.connect(giver, cells, weight=charge, delay=delay, pairs=pairs)
    return build.network()


@pytest.mark.parametrize("stochastic", [False, True], ids=["means", "drawn"])
@pytest.mark.parametrize("device", [LEAKY, DELAYED, AND_TS], ids=["leaky", "delayed", "and_ts"])
def test_coupled_equals_the_reference(device: DevicePreset, stochastic: bool) -> None:
    """Packets in every phase, also the ON phase; the reference steps `ThresholdSwitch` itself."""
    network = coupled(2, device, 10, stochastic)
    switch = device.switch()
    duration = 8.0 * switch.period(Drive(3.0 * base_current(device))).duration
    times, neurons, events = reference(network, duration, seed=4)
    assert (neurons < 10).sum() > 40
    simulation = run(calendar.begin, network, duration, seed=4)
    assert_same(simulation.spikes(), (times, neurons), limit=1e-9 * duration)
    assert simulation.counts()["synaptic_events"] == events
    assert imbalance(simulation.energy()["cells"]) < 1e-10


@examples(30)
@given(seed=st.integers(0, 2**32 - 1), strength=st.floats(0.0, 3.0), delayed=st.booleans())
def test_energy_is_conserved(seed: int, strength: float, delayed: bool) -> None:
    """Any packets, also ones far above a quantum: delivered = burnt + stored."""
    network = coupled(seed, DELAYED if delayed else LEAKY, 6, seed % 2 == 0, strength)
    simulation = run(calendar.begin, network, 3e-4, seed)
    assert imbalance(simulation.energy()["cells"]) < 1e-10


def test_one_packet_fires_once() -> None:
    """A packet above V_u discharges the whole membrane: one spike however large; C V^2/2 burnt."""
    quiet = variant(DEMO, leak_conductance=0.0, leak_voltage=0.0, off_resistance=1e14)
    switch = quiet.switch()
    build = NetworkBuilder()
    source = build.population("s", 1, SpikeSource(np.array([1e-6]), np.array([0])))
    cell = build.population("c", 1, SwitchNeuron(quiet))
    build.connect(source, cell, weight=3.0 * switch.quantum, delay=0.0, one_to_one=True)
    simulation = run(calendar.begin, build.network(), 1e-3)
    times, neurons = simulation.spikes()
    assert times[neurons == 1].tolist() == [1e-6]
    peak = switch.hold_voltage + 3.0 * switch.quantum / switch.capacitance
    energy = simulation.energy()["c"]
    wanted = 0.5 * switch.capacitance * (peak**2 - switch.lower**2)
    assert energy["device_on"] + energy["output"] == pytest.approx(wanted, rel=1e-6)


def test_a_packet_unlocks() -> None:
    """Above lock-up the device stays ON until charge is taken away; the count says so."""
    switch = DEMO.switch()
    build = NetworkBuilder()
    source = build.population("s", 1, SpikeSource(np.array([3e-4]), np.array([0])))
    cell = build.population("c", 1, SwitchNeuron(DEMO, 1.2 * switch.lock_up()))
    build.connect(source, cell, weight=-2.0 * switch.quantum, delay=0.0, one_to_one=True)
    simulation = calendar.begin(build.network(), Options())
    simulation.advance(2.9e-4)
    assert simulation.counts()["locked"] == 1
    simulation.advance(5e-4)
    times, neurons = simulation.spikes()
    assert (neurons == 1).sum() == 2
    assert times[neurons == 1][1] > 3e-4


def test_seed_is_a_run() -> None:
    """Draws depend on (seed, neuron, cycle): same seed same spikes, another seed others."""
    network = coupled(0, AND_TS, 10, True)
    runs = [simulate(network, 2e-4, engine="calendar", options=Options(seed=s)) for s in (1, 1, 2)]
    np.testing.assert_array_equal(runs[0].times, runs[1].times)
    assert runs[0].times.size != runs[2].times.size or (runs[0].times != runs[2].times).any()
    assert runs[0].energy["cells"] == runs[1].energy["cells"]


def test_auto_chooses_the_calendar() -> None:
    """No other engine carries switches."""
    network = oscillators(DEMO, np.full(3, 2e-6), False)
    assert simulate(network, 1e-4).engine == "calendar"
    assert dataclasses.is_dataclass(network)
