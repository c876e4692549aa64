"""What every engine has in common: ends of a simulation, counts, sums, refractory periods."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from neurosim.events.engines import available
from neurosim.events.recording import Recording
from neurosim.events.simulate import Options, simulate
from neurosim.populations import (
    LIF,
    CurrentLIF,
    NetworkBuilder,
    PoissonSource,
    SpikeSource,
    SpikingNetwork,
)

CELL = LIF(20e-3, 0.0, 20e-3, 0.0, 2e-3)
STRONG = 25e-3  # one input fires


def source_of(*times: float) -> SpikeSource:
    return SpikeSource(np.array(times), np.zeros(len(times), np.int64))


def relay(*times: float) -> tuple[NetworkBuilder, object]:
    """A spike source that fires one cell 1 ms later."""
    build = NetworkBuilder()
    source = build.population("source", 1, source_of(*times))
    cell = build.population("cell", 1, CELL)
    build.connect(source, cell, weight=STRONG, delay=1e-3, probability=1.0)
    return build, cell


def both_ends() -> SpikingNetwork:
    """Spikes at t = 0 and at the end; one arrives exactly at the end."""
    return relay(0.0, 9e-3, 10e-3)[0].network()


def weak_pair() -> SpikingNetwork:
    """Three projections between the same neurons, whose inputs fire the cell only together."""
    build = NetworkBuilder()
    source = build.population("source", 1, source_of(1e-3))
    cell = build.population("cell", 1, CELL)
    for _ in range(3):
        build.connect(source, cell, weight=7e-3, delay=1e-3, probability=1.0)
    return build.network()


def to_itself(delay: float) -> SpikingNetwork:
    build, cell = relay(1e-3)
    build.connect(cell, cell, weight=STRONG, delay=delay, probability=1.0)  # type: ignore[arg-type]
    return build.network()


def crossbar() -> SpikingNetwork:
    """Half of the weights are 0: the row is read whole."""
    build = NetworkBuilder()
    source = build.population("source", 2, SpikeSource(np.full(2, 1e-3), np.arange(2)))
    cell = build.population("cell", 2, CELL)
    build.connect(source, cell, weight=np.diag([STRONG, STRONG]), delay=1e-3)
    return build.network()


def without_synapses() -> SpikingNetwork:
    build = NetworkBuilder()
    source = build.population("source", 1, source_of(1e-3))
    cell = build.population("cell", 1, CELL, voltage=STRONG)
    build.connect(source, cell, weight=STRONG, delay=1e-3, probability=0.0)
    build.connect(source, cell, weight=np.zeros(0), delay=np.zeros(0), pairs=([], []))
    return build.network()


def own_numbers() -> SpikingNetwork:
    build = NetworkBuilder()
    source = build.population("source", 2, SpikeSource(np.array([1e-3, 2e-3]), np.arange(2)))
    model = LIF(
        np.array([10e-3, 20e-3, np.inf]),
        0.0,
        np.array([10e-3, 19e-3, np.inf]),
        0.0,
        np.array([0.0, 1e-3, 2e-3]),
    )
    cell = build.population("cell", 3, model)
    build.connect(source, cell, weight=12e-3, delay=1e-3)
    return build.network()


Spikes = list[tuple[float, int]]
CASES: dict[str, tuple[Callable[[], SpikingNetwork], Spikes, int]] = {
    "ends": (both_ends, [(0, 0), (1, 1), (9, 0), (10, 0), (10, 1)], 2),
    "sums": (weak_pair, [(1, 0), (2, 1)], 3),
    "end of refractory": (
        lambda: to_itself(2e-3),
        [(1, 0), *((t, 1) for t in (2, 4, 6, 8, 10))],
        5,
    ),
    "in refractory": (lambda: to_itself(1.9e-3), [(1, 0), (2, 1)], 2),
    "crossbar": (crossbar, [(1, 0), (1, 1), (2, 2), (2, 3)], 4),
    "no synapses": (without_synapses, [(0, 1), (1, 0)], 0),
    "own numbers": (own_numbers, [(1, 0), (2, 1), (2, 2), (3, 2), (3, 3)], 6),
}


@pytest.mark.parametrize("case", CASES)
def test_every_engine_says_the_same(case: str) -> None:
    """Spikes (ms, neuron) and counts of 10 ms written by hand; two engines at least carry each."""
    build, wanted, events = CASES[case]
    network, ran = build(), 0
    given = sum(network.populations[0].size > neuron for _, neuron in wanted)
    for name, engine in available().items():
        if engine.supports(network, Options()) is not None:
            continue
        found = simulate(network, 10e-3, engine=name)
        milliseconds = np.round(found.times * 1e3, 9).tolist()
        assert sorted(zip(milliseconds, found.neurons.tolist(), strict=True)) == wanted, name
        counts = {"spikes": len(wanted), "source_spikes": given, "synaptic_events": events}
        assert {key: found.counts[key] for key in counts} == counts, name
        ran += 1
    assert ran >= 2


def test_only_sources_and_silent_ones() -> None:
    for times in ((), (0.0, 5e-3)):
        build = NetworkBuilder()
        build.population("source", 3, source_of(*times))
        for name in ("steps", "frames", "calendar"):
            found = simulate(build.network(), 5e-3, engine=name)
            assert found.times.tolist() == list(times)
            assert found.counts["spikes"] == found.counts["source_spikes"] == len(times)


@pytest.mark.parametrize(
    "model",
    [CELL, CurrentLIF(20e-3, -49e-3, -50e-3, -60e-3, 5e-3)],
    ids=["LIF", "CurrentLIF"],
)
def test_steps_become_exact(model: LIF) -> None:
    """Shorter steps: the same spikes, at times that close in on the exact ones."""
    build = NetworkBuilder(1)
    gap = model.threshold_voltage - model.reset_voltage
    noise = build.population("noise", 20, PoissonSource(200.0))
    cells = build.population("cells", 20, model, voltage=model.reset_voltage)
    first, last = model.receptors[0], model.receptors[-1]
    build.connect(noise, cells, weight=0.2 * gap, delay=1e-3, probability=0.3, receptor=first)
    build.connect(cells, cells, weight=-0.3 * gap, delay=1e-3, probability=0.3, receptor=last)
    network = build.network()
    exact = simulate(network, 0.05, engine="calendar", options=Options(seed=3))
    assert exact.counts["spikes"] - exact.counts["source_spikes"] > 20
    for step in (1e-5, 1e-6):
        options = Options(time_step=step, seed=3)
        found = simulate(network, 0.05, engine="steps", options=options)
        assert found.counts["spikes"] == exact.counts["spikes"]
        for population in ("noise", "cells"):
            mine, theirs = (_by_neuron(item, population) for item in (found, exact))
            np.testing.assert_array_equal(mine[1], theirs[1])
            np.testing.assert_allclose(mine[0], theirs[0], rtol=0.0, atol=20.0 * step)


def _by_neuron(recording: Recording, population: str) -> tuple[np.ndarray, np.ndarray]:
    times, neurons = recording.spikes(population)
    order = np.lexsort((times, neurons))
    return times[order], neurons[order]


@pytest.mark.parametrize("engine", ["steps", "frames", "calendar"])
def test_every_population_and_drive_has_its_own_noise(engine: str) -> None:
    """Twins share no train: coincidences within 0.1 ms are those of independent trains."""
    build = NetworkBuilder()
    for name in ("a", "b"):
        build.population(name, 40, PoissonSource(100.0))
    for name in ("c", "d"):
        cells = build.population(name, 40, LIF(20e-3, 0.0, 1e-3, 0.0))
        for _ in range(2):  # a drive of one train would fire at half the rate, or only in pairs
            build.drive(cells, rate=50.0, weight=2e-3, receptor="voltage")
    found = simulate(build.network(), 2.0, engine=engine, options=Options(seed=1))
    assert found.counts["drive_events"] == pytest.approx(2 * 8000, abs=5 * 8000**0.5 * 2**0.5)
    bins = {}
    for name in "abcd":
        times, neurons = found.spikes(name)
        assert found.rate(name) == pytest.approx(100.0, abs=5 * (100.0 / 80) ** 0.5)
        bins[name] = np.unique(np.round(times / 1e-4).astype(int) * 40 + neurons)
        assert len(times) - len(bins[name]) < 0.02 * len(times)  # nor do two drives of a neuron
    expected = 40 * 20_000 * 0.01**2  # two trains of 100 Hz in bins of 0.1 ms
    for one, other in ("ab", "cd", "ac"):
        shared = np.intersect1d(bins[one], bins[other]).size
        assert abs(shared - expected) < 5.0 * expected**0.5, (one, other, shared)


@pytest.mark.parametrize("engine", ["steps", "calendar"])
def test_rates_and_intervals_of_a_part(engine: str) -> None:
    """Rates are over the simulated time, also where it is shorter than was asked for."""
    network = relay(*np.arange(1, 9) * 1e-3 * 4)[0].network()
    found = simulate(network, 20.5e-3, engine=engine)
    assert found.rate("source") == pytest.approx(5 / 20.5e-3)
    np.testing.assert_allclose(found.intervals("source"), 4e-3)
    part = Recording(
        network, engine, 10e-3, found.times[:4], found.neurons[:4], {}, interrupted=True
    )
    assert part.rate("source") == pytest.approx(np.sum(found.neurons[:4] == 0) / 10e-3)
    assert "interrupted" in repr(part)
    nothing = Recording(network, engine, 0.0, found.times[:0], found.neurons[:0], {})
    assert nothing.rate("source") == 0.0


@pytest.mark.parametrize("engine", ["frames", "calendar"])
def test_traces_are_those_of_the_grid(engine: str) -> None:
    """Sampled after the events of their time, at the first and the last moment too."""
    build, _ = relay(0.0, 3e-3)
    build.population("high", 1, LIF(20e-3, 0.0, 20e-3, -5e-3), voltage=21e-3)
    weak = build.population("weak", 1, CELL)
    build.connect(build.network()["source"], weak, weight=8e-3, delay=1e-3)
    options = Options(trace={"cell": [0], "high": [0], "weak": [0]}, trace_step=5e-4)
    exact = simulate(build.network(), 4e-3, engine=engine, options=options)
    steps = simulate(build.network(), 4e-3, engine="steps", options=options)
    for name, (times, voltages) in steps.traces.items():
        np.testing.assert_allclose(exact.traces[name][0], times, rtol=0.0, atol=1e-15)
        np.testing.assert_allclose(exact.traces[name][1], voltages, rtol=0.0, atol=1e-14)
        assert times[-1] == pytest.approx(4e-3)
    assert exact.traces["high"][1][0, 0] == -5e-3  # it fired at 0 s
    assert exact.traces["weak"][1][-1, 0] > 14e-3  # what arrives at the end is in
