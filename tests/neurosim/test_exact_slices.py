"""Both exact engines: where a simulation is cut, saved or interrupted does not change a bit."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from exact_networks import random_network, run
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

from neurosim.devices import load_device
from neurosim.events import calendar, frames
from neurosim.events.simulate import Options, simulate
from neurosim.populations import (
    LIF,
    CurrentLIF,
    NetworkBuilder,
    PoissonSource,
    SpikeSource,
    SpikingNetwork,
    SwitchNeuron,
)

BELOW = LIF(20e-3, -65e-3, -50e-3, -60e-3, 2.2e-3)
ABOVE = LIF(10e-3, -47e-3, -50e-3, -60e-3, 1.3e-3)


def mixed() -> SpikingNetwork:
    """LIF, currents and drawn switches in one network."""
    build = NetworkBuilder(3)
    rng = np.random.default_rng(3)
    device = load_device("demo")
    lif = build.population("lif", 10, ABOVE)
    current = build.population("current", 10, CurrentLIF(), voltage=10e-3)
    switch = build.population("switch", 8, SwitchNeuron(device, rng.uniform(1e-7, 4e-7, 8), True))
    noise = build.population("noise", 6, PoissonSource(300.0))
    build.connect(noise, lif, weight=4e-3, delay=0.3e-3, probability=0.5)
    build.connect(noise, current, weight=30e-3, delay=0.7e-3, receptor="excitatory")
    build.connect(lif, switch, weight=0.3 * device.switch().quantum, delay=1e-3, probability=0.5)
    build.connect(switch, lif, weight=-2e-3, delay=0.5e-3, probability=0.5)
    build.connect(switch, current, weight=-9e-3, delay=0.5e-3, receptor="inhibitory")
    return build.network()


NETWORKS = {
    "below": (frames, random_network(1, BELOW, own_delays=True, drive=150.0)),
    "above": (frames, random_network(1, ABOVE)),
    "lif": (calendar, random_network(1, ABOVE, own_delays=True, drive=150.0)),
    "mixed": (calendar, mixed()),
}


def same(a: object, b: object) -> None:
    """Equal state, bit for bit, and what is made of it."""
    one, two = a.state(), b.state()  # type: ignore[attr-defined]
    for x, y in zip(a.spikes(), b.spikes(), strict=True):  # type: ignore[attr-defined]
        np.testing.assert_array_equal(x, y)
    assert a.counts() == b.counts()  # type: ignore[attr-defined]
    assert a.energy() == b.energy()  # type: ignore[attr-defined]
    for key in ("cells", "devices", "frame", "ready", "numbers", "drive_trains"):
        if key in one:
            np.testing.assert_array_equal(one[key], two[key])


@examples(15)
@given(cuts=st.lists(st.floats(0.0, 0.05), max_size=8), case=st.sampled_from(sorted(NETWORKS)))
def test_cuts(cuts: list[float], case: str) -> None:
    engine, network = NETWORKS[case]
    whole = run(engine.begin, network, 0.05, seed=2)
    parts = engine.begin(network, Options(seed=2))
    for until in (*sorted(cuts), 0.05):
        parts.advance(until)
    same(whole, parts)
    assert whole.counts()["spikes"] > 100


@pytest.mark.parametrize("case", NETWORKS)
def test_restore(case: str) -> None:
    """A state taken in the middle of a window, put into a new simulation."""
    engine, network = NETWORKS[case]
    first = run(engine.begin, network, 0.01234567, seed=2)
    state = first.state()
    second = engine.begin(network, Options(seed=2))
    second.restore(state)
    first.advance(0.04)
    second.advance(0.04)
    same(first, second)
    with pytest.raises(ValueError, match="state of this simulation"):
        second.restore({"time": np.array(0.0)})


@pytest.mark.parametrize("case", ["above", "mixed"])
def test_checkpoint_file(case: str, tmp_path: Path) -> None:
    """`simulate` goes on from a file with the same result."""
    engine, network = NETWORKS[case]
    whole = simulate(network, 0.04, engine=engine.NAME)
    file = tmp_path / "state.npz"
    simulate(network, 0.017, engine=engine.NAME, checkpoint=file)
    resumed = simulate(network, 0.04, engine=engine.NAME, checkpoint=file)
    np.testing.assert_array_equal(whole.times, resumed.times)
    np.testing.assert_array_equal(whole.neurons, resumed.neurons)
    assert whole.counts == resumed.counts


@pytest.mark.parametrize("engine", [frames, calendar], ids=["frames", "calendar"])
def test_traces(engine: ModuleType) -> None:
    """V after the events of each sample: closed form of a driven membrane, reset while held."""
    build = NetworkBuilder()
    build.population("cell", 1, ABOVE)
    source = build.population("s", 1, SpikeSource(np.array([0.5e-3]), np.array([0])))
    assert source.is_source
    options = Options(trace={"cell": [0]}, trace_step=0.25e-3)
    recording = simulate(build.network(), 0.03, engine=engine.NAME, options=options)
    times, voltages = recording.traces["cell"]
    assert times.size == 121 and voltages.shape == (121, 1)
    period = 10e-3 * np.log(13.0 / 3.0)
    phase = times % (period + 1.3e-3)
    climb = -47e-3 - 13e-3 * np.exp(-phase / 10e-3)  # the first climb begins without a pause
    begun = times < period
    np.testing.assert_allclose(voltages[begun, 0], climb[begun], atol=1e-12)
    since = (times - period) % (period + 1.3e-3)
    later = -47e-3 - 13e-3 * np.exp(-np.maximum(since - 1.3e-3, 0.0) / 10e-3)
    np.testing.assert_allclose(voltages[~begun, 0], later[~begun], atol=1e-12)
    same_spikes = simulate(build.network(), 0.03, engine=engine.NAME)
    np.testing.assert_array_equal(recording.times, same_spikes.times)
    for bad, message in (({"s": [0]}, "no voltage"), ({"cell": [1]}, "neurons 0..0")):
        with pytest.raises(ValueError, match=message):
            simulate(build.network(), 0.01, engine=engine.NAME, options=Options(trace=bad))


def test_threads_do_not_matter() -> None:
    """Exact engines use one; asking for more changes nothing."""
    for engine, network in NETWORKS.values():
        runs = [
            simulate(network, 0.02, engine=engine.NAME, options=Options(threads=threads, seed=1))
            for threads in (1, 2)
        ]
        np.testing.assert_array_equal(runs[0].times, runs[1].times)
        assert runs[0].counts == runs[1].counts


@pytest.mark.parametrize("engine", [frames, calendar], ids=["frames", "calendar"])
def test_poisson_sources_and_drives(engine: ModuleType) -> None:
    """Rates within five standard errors, every train its own, events counted once."""
    build = NetworkBuilder()
    build.population("noise", 200, PoissonSource(np.linspace(0.0, 200.0, 200)))
    cells = build.population("cells", 100, BELOW)
    build.drive(cells, rate=400.0, weight=0.1e-3, receptor="voltage")
    simulation = run(engine.begin, build.network(), 2.0, seed=11)
    counts = simulation.counts()
    assert abs(counts["spikes"] - 200 * 100 * 2) < 5 * np.sqrt(40_000)
    assert abs(counts["drive_events"] - 80_000) < 5 * np.sqrt(80_000)
    times, neurons = simulation.spikes()
    assert (neurons == 0).sum() == 0 and np.unique(times).size == times.size
    gaps = np.diff(times[neurons == 199])
    assert abs(gaps.std() / gaps.mean() - 1.0) < 0.2


@pytest.mark.parametrize("engine", [frames, calendar], ids=["frames", "calendar"])
def test_first_spikes_equal_small_steps(engine: ModuleType) -> None:
    """Clock-driven simulation with 1 us steps: first spikes within a few steps, same rate."""
    build = NetworkBuilder(5)
    rng = np.random.default_rng(5)
    cells = build.population("cells", 60, ABOVE, voltage=rng.uniform(-60e-3, -50e-3, 60))
    build.connect(cells, cells, weight=-0.2e-3, delay=1e-3, probability=0.2)
    exact = simulate(build.network(), 0.05, engine=engine.NAME)
    steps = simulate(build.network(), 0.05, engine="steps", options=Options(time_step=1e-6))
    for k in range(60):
        one, two = exact.times[exact.neurons == k], steps.times[steps.neurons == k]
        assert abs(len(one) - len(two)) <= 1
        assert abs(one[0] - two[0]) < 10e-6
    assert abs(len(exact.times) - len(steps.times)) <= 0.02 * len(exact.times)
