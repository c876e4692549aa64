"""Engine "frames" against the reference, ties and refractory periods included."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from exact_networks import assert_same, random_network, run
from exact_reference import reference
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

from neurosim.events import frames
from neurosim.events.simulate import Options, simulate
from neurosim.populations import LIF, CurrentLIF, NetworkBuilder, SpikeSource, SpikingNetwork

BELOW = LIF(20e-3, -65e-3, -50e-3, -60e-3, 2.2e-3)
ABOVE = LIF(10e-3, -47e-3, -50e-3, -60e-3, 1.3e-3)
NO_REFRACTORY = LIF(20e-3, -52e-3, -50e-3, -60e-3, 0.0)
NO_LEAK = LIF(np.inf, -60e-3, -50e-3, -60e-3, 2.2e-3)
MODELS = {"below": BELOW, "above": ABOVE, "no refractory": NO_REFRACTORY, "no leak": NO_LEAK}


@pytest.mark.parametrize("drive", [0.0, 150.0], ids=["", "driven"])
@pytest.mark.parametrize("own_delays", [False, True], ids=["one delay", "own delays"])
@pytest.mark.parametrize("own_weights", [False, True], ids=["one weight", "own weights"])
@pytest.mark.parametrize("model", MODELS)
def test_equals_the_reference(
    model: str, own_weights: bool, own_delays: bool, drive: float
) -> None:
    """Spikes and events of recurrent networks with sources of both kinds, many at once."""
    network = random_network(
        1, MODELS[model], own_delays=own_delays, own_weights=own_weights, drive=drive, size=12
    )
    times, neurons, events = reference(network, 0.06, seed=5)
    assert times.size > 100
    simulation = run(frames.begin, network, 0.06, seed=5)
    assert_same(simulation.spikes(), (times, neurons))
    assert simulation.counts()["synaptic_events"] == events
    assert simulation.counts()["spikes"] == times.size


def two_inputs(weights: tuple[float, float], model: LIF = BELOW) -> SpikingNetwork:
    """Two sources that reach one neuron at the same time, and one of them another neuron."""
    build = NetworkBuilder()
    source = build.population("source", 2, SpikeSource(np.array([1e-3, 1e-3]), np.array([0, 1])))
    cell = build.population("cell", 1, model)
    build.connect(source, cell, weight=np.array(weights), delay=2e-3, pairs=([0, 1], [0, 0]))
    return build.network()


@pytest.mark.parametrize(("weights", "spikes"), [((30e-3, -25e-3), 0), ((9e-3, 9e-3), 1)])
def test_simultaneous_inputs_sum_first(weights: tuple[float, float], spikes: int) -> None:
    """Excitation that alone would fire is cancelled; two that fire only together do."""
    for order in (weights, weights[::-1]):
        simulation = run(frames.begin, two_inputs(order), 10e-3)
        times, neurons = simulation.spikes()
        assert (neurons == 2).sum() == spikes
        assert times[neurons == 2].tolist() == [1e-3 + 2e-3] * spikes


@examples(60)
@given(
    seed=st.integers(0, 2**32 - 1),
    model=st.sampled_from(sorted(MODELS)),
    grid=st.sampled_from([0.5e-3, 1e-3]),
)
def test_ties(seed: int, model: str, grid: float) -> None:
    """Everything arrives on a grid of times, so that most inputs are simultaneous."""
    rng = np.random.default_rng(seed)
    build = NetworkBuilder(seed)
    times = grid * rng.integers(0, 10, 30)
    source = build.population("source", 6, SpikeSource(times, rng.integers(0, 6, 30)))
    cells = build.population("cells", 5, MODELS[model])
    for giver in (source, cells):
        pairs = (rng.integers(0, giver.size, 40), rng.integers(0, 5, 40))
        delays = grid * rng.integers(1, 4, 40)
        build.connect(giver, cells, weight=rng.normal(3e-3, 6e-3, 40), delay=delays, pairs=pairs)
    network = build.network()
    wanted = reference(network, 12e-3)
    simulation = run(frames.begin, network, 12e-3)
    assert_same(simulation.spikes(), wanted[:2])
    assert simulation.counts()["synaptic_events"] == wanted[2]


def test_repeated_synapses_count_and_sum() -> None:
    """Three synapses between the same neurons are three events and one input."""
    build = NetworkBuilder()
    source = build.population("source", 1, SpikeSource(np.array([0.0]), np.array([0])))
    cell = build.population("cell", 1, BELOW)
    weight = np.array([4e-3, 4e-3, 4e-3])
    build.connect(source, cell, weight=weight, delay=0.0, pairs=([0, 0, 0], [0, 0, 0]))
    simulation = run(frames.begin, build.network(), 1e-3)
    assert simulation.counts() == {
        "spikes": 2,
        "source_spikes": 1,
        "synaptic_events": 3,
        "drive_events": 0,
    }


def test_own_firing_is_exact() -> None:
    """Constant drive: intervals tau ln((V_rest - V_reset) / (V_rest - V_th)) + refractory."""
    build = NetworkBuilder()
    build.population("cell", 1, ABOVE)
    times, _ = run(frames.begin, build.network(), 3.0).spikes()
    period = 10e-3 * np.log(13.0 / 3.0) + 1.3e-3
    np.testing.assert_allclose(np.diff(times), period, rtol=1e-11)
    assert times.size == int((3.0 + 1.3e-3) / period)


def test_starts_above_threshold() -> None:
    """Such a neuron fires at 0 s and sends its spike."""
    build = NetworkBuilder()
    cells = build.population("cell", 2, BELOW, voltage=np.array([-49e-3, -60e-3]))
    build.connect(cells, cells, weight=20e-3, delay=1e-3, pairs=([0], [1]))
    times, neurons = run(frames.begin, build.network(), 5e-3).spikes()
    assert list(zip(times, neurons, strict=True)) == [(0.0, 0), (1e-3, 1)]


def test_silent_for_long() -> None:
    """A membrane decays to rest over thousands of time constants and is as good as new."""
    build = NetworkBuilder()
    source = build.population("s", 1, SpikeSource(np.array([0.0, 40.0]), np.array([0, 0])))
    cell = build.population("cell", 1, LIF(5e-3, -65e-3, -50e-3, -60e-3))
    build.connect(source, cell, weight=16e-3, delay=1e-3, one_to_one=True)
    times, neurons = run(frames.begin, build.network(), 41.0).spikes()
    np.testing.assert_array_equal(times[neurons == 1], [1e-3, 40.0 + 1e-3])


def test_refusals() -> None:
    network = random_network(0, CurrentLIF())
    assert "CurrentLIF" in str(frames.supports(network, Options()))
    build = NetworkBuilder()
    cells = build.population("cells", 2, LIF(np.array([1e-3, 2e-3])))
    assert "different values of time_constant" in str(frames.supports(build.network(), Options()))
    build = NetworkBuilder()
    cells = build.population("cells", 2, LIF())
    build.connect(cells, cells, weight=1e-3, delay=0.0, one_to_one=True)
    assert "without delay" in str(frames.supports(build.network(), Options()))
    with pytest.raises(ValueError, match="without delay"):
        simulate(build.network(), 1.0, engine="frames")
    build = NetworkBuilder()
    build.population("cells", 1, dataclasses.replace(BELOW, refractory_period=3.0))
    assert "refractory" in str(frames.supports(build.network(), Options()))
    assert frames.supports(random_network(0, BELOW), Options()) is None
