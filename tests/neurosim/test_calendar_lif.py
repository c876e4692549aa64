"""Engine "calendar" on LIF neurons: the reference, the engine "frames", closed-form crossings."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from exact_networks import assert_same, random_network, run
from exact_reference import reference, voltage
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

from neurosim.devices.synaptic_current import crossing_double
from neurosim.events import calendar, frames
from neurosim.events.calendar.three_exponentials import first_crossing, voltage_and_slope
from neurosim.events.simulate import Options
from neurosim.populations import LIF, ConductanceLIF, CurrentLIF, NetworkBuilder, SpikeSource

BELOW = LIF(20e-3, -65e-3, -50e-3, -60e-3, 2.2e-3)
ABOVE = LIF(10e-3, -47e-3, -50e-3, -60e-3, 1.3e-3)
MODELS = {
    "below": BELOW,
    "above": ABOVE,
    "no refractory": LIF(20e-3, -52e-3, -50e-3, -60e-3, 0.0),
    "no leak": LIF(np.inf, -60e-3, -50e-3, -60e-3, 2.2e-3),
}
CUBA = CurrentLIF(20e-3, -49e-3, -50e-3, -60e-3, 5e-3, 5e-3, 10e-3)


@pytest.mark.parametrize("drive", [0.0, 150.0], ids=["", "driven"])
@pytest.mark.parametrize("own_delays", [False, True], ids=["one delay", "own delays"])
@pytest.mark.parametrize("model", MODELS)
def test_equals_reference_and_frames(model: str, own_delays: bool, drive: float) -> None:
    """Three ways to the same spikes and counts."""
    network = random_network(3, MODELS[model], own_delays=own_delays, drive=drive, size=12)
    times, neurons, events = reference(network, 0.05, seed=5)
    found = [run(engine.begin, network, 0.05, seed=5) for engine in (calendar, frames)]
    for simulation in found:
        assert_same(simulation.spikes(), (times, neurons))
        assert simulation.counts()["synaptic_events"] == events
    assert found[0].counts() == found[1].counts()


@pytest.mark.parametrize("model", ["below", "above"])
@pytest.mark.parametrize("delay", [0.4e-3, 2e-3])
def test_equals_frames_on_a_larger_network(model: str, delay: float) -> None:
    """300 neurons, thousands of spikes, ties included: equal numbers, times to 1e-9 s."""
    build = NetworkBuilder(2)
    rng = np.random.default_rng(2)
    cells = build.population("a", 300, MODELS[model], voltage=rng.uniform(-65e-3, -50e-3, 300))
    noise = build.population(
        "n", 50, SpikeSource(rng.uniform(0, 0.2, 800), rng.integers(0, 50, 800))
    )
    build.connect(cells, cells, weight=0.31e-3, delay=delay, probability=0.15)
    build.connect(cells, cells, weight=-0.9e-3, delay=2.5 * delay, probability=0.03)
    build.connect(noise, cells, weight=4.7e-3, delay=0.0, probability=0.2)
    build.drive(cells, rate=300.0, weight=1.3e-3, receptor="voltage")
    found = [run(engine.begin, build.network(), 0.2) for engine in (calendar, frames)]
    assert found[0].counts() == found[1].counts()
    assert found[0].counts()["spikes"] > 2000
    assert_same(found[0].spikes(), found[1].spikes())


@examples(40)
@given(seed=st.integers(0, 2**32 - 1), model=st.sampled_from(sorted(MODELS)))
def test_ties(seed: int, model: str) -> None:
    """Everything arrives on a grid of times, so that most inputs are simultaneous."""
    rng = np.random.default_rng(seed)
    build = NetworkBuilder(seed)
    times = 1e-3 * rng.integers(0, 10, 30)
    source = build.population("source", 6, SpikeSource(times, rng.integers(0, 6, 30)))
    cells = build.population("cells", 5, MODELS[model])
    for giver in (source, cells):
        pairs = (rng.integers(0, giver.size, 40), rng.integers(0, 5, 40))
        delays = 1e-3 * rng.integers(1, 4, 40)
        build.connect(giver, cells, weight=rng.normal(3e-3, 6e-3, 40), delay=delays, pairs=pairs)
    wanted = reference(build.network(), 12e-3)
    for engine in (calendar, frames):
        simulation = run(engine.begin, build.network(), 12e-3)
        assert_same(simulation.spikes(), wanted[:2])
        assert simulation.counts()["synaptic_events"] == wanted[2]


def test_own_parameters() -> None:
    """Every number per neuron, which "frames" refuses."""
    rng = np.random.default_rng(0)
    model = LIF(
        rng.uniform(5e-3, 30e-3, 12),
        rng.uniform(-70e-3, -45e-3, 12),
        rng.uniform(-52e-3, -48e-3, 12),
        rng.uniform(-62e-3, -58e-3, 12),
        rng.uniform(0.0, 3e-3, 12),
    )
    build = NetworkBuilder(0)
    source = build.population("s", 8, SpikeSource(rng.uniform(0, 0.05, 60), rng.integers(0, 8, 60)))
    cells = build.population("c", 12, model)
    pairs = (rng.integers(0, 12, 60), rng.integers(0, 12, 60))
    build.connect(cells, cells, weight=rng.normal(1e-3, 3e-3, 60), delay=1e-3, pairs=pairs)
    build.connect(source, cells, weight=rng.normal(4e-3, 3e-3, (8, 12)), delay=0.5e-3)
    assert frames.supports(build.network(), Options()) is not None
    wanted = reference(build.network(), 0.06)
    assert wanted[0].size > 90
    simulation = run(calendar.begin, build.network(), 0.06)
    assert_same(simulation.spikes(), wanted[:2])
    assert simulation.counts()["synaptic_events"] == wanted[2]


@pytest.mark.parametrize("resting", [-49e-3, -58e-3], ids=["above", "below"])
@pytest.mark.parametrize("constants", [(5e-3, 10e-3), (7e-3, 3e-3), (20e-3, 31e-3)], ids=str)
def test_currents_equal_the_reference(constants: tuple[float, float], resting: float) -> None:
    """Polynomials, general ratios, equal rates: crossings within 1e-9 s of a fine search."""
    model = dataclasses.replace(
        CUBA,
        resting_voltage=resting,
        excitatory_time_constant=constants[0],
        inhibitory_time_constant=constants[1],
    )
    network = random_network(4, model, size=8, own_delays=True, drive=300.0, strength=4.0)
    times, neurons, events = reference(network, 0.04)
    assert (neurons < 12).sum() > 20
    simulation = run(calendar.begin, network, 0.04)
    assert_same(simulation.spikes(), (times, neurons))
    assert simulation.counts()["synaptic_events"] == events


@examples(200)
@given(
    level=st.floats(1e-3, 20e-3),
    start=st.floats(-20e-3, 20e-3),
    rest=st.floats(-10e-3, 25e-3),
    excitatory=st.floats(-60e-3, 60e-3),
    inhibitory=st.floats(-60e-3, 60e-3),
    constants=st.sampled_from(
        [(10e-3, 5e-3), (5e-3, 10e-3), (7e-3, 3e-3), (50e-3, 8e-3), (20e-3,) * 2]
    ),
)
def test_no_crossing_is_missed(
    level: float,
    start: float,
    rest: float,
    excitatory: float,
    inhibitory: float,
    constants: tuple[float, float],
) -> None:
    """Against a fine grid: the level is met at the crossing and not before, or nowhere."""
    r, rates = 50.0, (1.0 / constants[0], 1.0 / constants[1])
    powers = tuple(float(round(s / r)) if abs(s / r - round(s / r)) < 1e-9 else 0.0 for s in rates)
    arguments = (start, rest, r, excitatory, rates[0], powers[0], inhibitory, rates[1], powers[1])
    found = first_crossing(level, *arguments)
    size = abs(start) + abs(rest) + abs(excitatory) + abs(inhibitory)
    grid = np.concatenate([np.linspace(0.0, 0.1, 2001), np.linspace(0.1, 1.5, 700)])
    values = voltage(grid, start, rest, r, (excitatory, inhibitory), rates)
    before = values[grid < found * (1.0 - 1e-9)]
    assert np.all(before < level + 1e-12 * size)
    if math.isfinite(found) and found > 0.0:
        value, slope = voltage_and_slope(found, *arguments)
        assert abs(value - level) <= 1e-9 * abs(slope) + 1e-14 * size


def test_quadratic_closed_form() -> None:
    """tau_s = tau_m / 2: the quadratic of device.md 3.3."""
    tau = 20e-3
    for gain in (0.9, 1.5, 4.0, 30.0):
        wanted = crossing_double(10e-3, 1e-3, tau, gain)
        arguments = (1e-3, 0.0, 1 / tau, gain * tau, 2 / tau, 2.0, 0.0, 1 / tau, 1.0)
        assert first_crossing(10e-3, *arguments) == pytest.approx(wanted, rel=1e-12)


def test_quartic_closed_form() -> None:
    """tau_e = tau_m / 4, tau_i = tau_m / 2: the root of a quartic in e^(-t / tau_m) nearest 1."""
    rng = np.random.default_rng(0)
    tau, crossed = 20e-3, 0
    for _ in range(200):
        start, rest = rng.uniform(-10e-3, 9e-3), rng.uniform(-5e-3, 15e-3)
        e, i = rng.uniform(0, 60e-3), rng.uniform(-60e-3, 0)
        linear = start - rest + e / 3.0 + i
        roots = np.roots([-e / 3.0, 0.0, -i, linear, rest - 10e-3])
        inside = [x.real for x in roots if abs(x.imag) < 1e-9 and 0.0 < x.real < 1.0]
        found = first_crossing(10e-3, start, rest, 1 / tau, e, 4 / tau, 4.0, i, 2 / tau, 2.0)
        wanted = -tau * math.log(max(inside)) if inside else math.inf
        assert found == pytest.approx(wanted, rel=1e-9)
        crossed += bool(inside)
    assert 50 < crossed < 200


def test_refuses_conductances() -> None:
    network = random_network(0, ConductanceLIF())
    assert "no closed form" in str(calendar.supports(network, Options()))
