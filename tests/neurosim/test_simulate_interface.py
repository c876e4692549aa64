"""One interface over the engines: what is chosen, refused, interrupted, saved and resumed."""

from __future__ import annotations

import importlib
import logging
import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
from energy_cases import tiny_network

from neurosim.chip import load_chip
from neurosim.events import Options, Simulator, simulate
from neurosim.events.checkpoint import fingerprint
from neurosim.events.engines import available
from neurosim.events.exact import ExactSimulation
from neurosim.events.simulate import choose_engine
from neurosim.populations import LIF, NetworkBuilder, PoissonSource, SpikingNetwork, cuba


def small(weight: float = 6e-3) -> SpikingNetwork:
    build = NetworkBuilder(seed=1)
    noise = build.population("noise", 50, PoissonSource(40.0))
    cells = build.population("cells", 100, LIF(), voltage=0.0)
    build.connect(noise, cells, weight=weight, delay=1e-3, probability=0.3)
    build.connect(cells, cells, weight=-1e-3, delay=2e-3, probability=0.1)
    return build.network()


def test_layers_run_on_windows_only() -> None:
    network, chip = tiny_network(), load_chip("ag_v2c_w")
    run = simulate(network, [1, 2, 3], chip=chip, seed=4)
    simulator = Simulator(network, chip, 4)
    for token in (1, 2, 3):
        simulator.step(token)
    same = simulator.run()
    assert all(np.array_equal(run.spikes[name], same.spikes[name]) for name in run.spikes)
    with pytest.raises(ValueError, match="layers run on the engine 'windows'.*got engine 'steps'"):
        simulate(network, [1], engine="steps", chip=chip)
    with pytest.raises(ValueError, match="expected tokens and chip="):
        simulate(network, 1.0, chip=chip)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="duration in seconds and another engine"):
        simulate(small(), 0.1, engine="windows")
    with pytest.raises(ValueError, match="duration in seconds"):
        simulate(small(), [1, 2])  # type: ignore[call-overload]


def test_the_cheapest_engine_that_can_is_chosen_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    options, network = Options(), small()
    costs = {
        name: engine.cost(network, options)
        for name, engine in available().items()
        if engine.supports(network, options) is None
    }
    assert len(costs) > 1
    with caplog.at_level(logging.INFO, "neurosim.events"):
        chosen = choose_engine(network, options)
    assert min(costs, key=costs.__getitem__) == chosen.NAME
    assert f"engine {chosen.NAME} for" in caplog.text


def test_an_engine_that_cannot_says_why() -> None:
    with pytest.raises(ValueError, match="expected engine auto, .*got 'quantum'"):
        simulate(small(), 0.1, engine="quantum")
    with pytest.raises(ValueError, match="engine frames cannot carry this network: "):
        simulate(cuba(200), 0.1, engine="frames")


@pytest.mark.parametrize("duration", [0.0, -1.0, float("nan"), float("inf")])
def test_durations_are_checked(duration: float) -> None:
    with pytest.raises(ValueError, match="duration > 0 s"):
        simulate(small(), duration)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"time_step": 0.0}, "time_step > 0 s"),
        ({"trace_step": -1.0}, "trace_step > 0 s"),
        ({"precision": "float16"}, 'precision "float64" or "float32"'),
        ({"threads": 0}, "at least 1 thread"),
        ({"threads": 1.5}, "at least 1 thread"),
        ({"seed": -1}, "an integer from 0 to"),
        ({"seed": 2**64}, "an integer from 0 to"),
        ({"seed": 1.5}, "an integer from 0 to"),
        ({"trace": {"cells": 0}}, "trace of cells: expected a list of neurons, got 0"),
        ({"trace": {"cells": [0.5]}}, "trace of cells: expected a list of neurons"),
    ],
)
def test_options_are_checked(change: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Options(**change)  # type: ignore[arg-type]


@pytest.mark.parametrize("engine", ["steps", "frames", "calendar"])
def test_an_interrupted_simulation_goes_on_to_the_same_result(engine: str, tmp_path: Path) -> None:
    """Ctrl-C in the middle: what was simulated is returned, the file holds it, the rest follows."""
    network, file = small(), tmp_path / "state.npz"
    whole = simulate(network, 0.4, engine=engine)
    half = simulate(network, 0.2, engine=engine, checkpoint=file)
    assert not half.interrupted and file.exists()
    threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
    part = simulate(network, 400.0, engine=engine, checkpoint=file)
    assert part.interrupted and 0.2 < part.duration < 400.0
    early = part.times < 0.2
    assert np.array_equal(part.times[early], half.times[: early.sum()])
    simulate(network, 0.2, engine=engine, checkpoint=tmp_path / "other.npz")
    resumed = simulate(network, 0.4, engine=engine, checkpoint=tmp_path / "other.npz")
    assert np.array_equal(resumed.times, whole.times)
    assert np.array_equal(resumed.neurons, whole.neurons)
    assert resumed.counts == whole.counts


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "state.npz"
    simulate(small(), 0.1, engine="frames", checkpoint=file)
    kept = file.read_bytes()
    for network, engine in ((small(5e-3), "frames"), (small(), "calendar")):
        with pytest.raises(ValueError, match="a checkpoint of this network, options and engine"):
            simulate(network, 0.2, engine=engine, checkpoint=file)
    with pytest.raises(ValueError, match="has 0.1 s, expected at most the 0.05 s"):
        simulate(small(), 0.05, engine="frames", checkpoint=file)
    assert file.read_bytes() == kept
    file.write_bytes(kept[: len(kept) // 2])
    with pytest.raises(ValueError, match="cannot be read as a checkpoint.*delete it"):
        simulate(small(), 0.2, engine="frames", checkpoint=file)


def test_a_duration_may_be_a_number_of_numpy() -> None:
    wanted = simulate(small(), 0.25, engine="frames")
    for duration in (np.float32(0.25), np.float64(0.25)):
        found = simulate(small(), duration, engine="frames")  # type: ignore[call-overload]
        assert found.duration == 0.25 and np.array_equal(found.times, wanted.times)


def test_a_fingerprint_sees_every_number() -> None:
    """Networks of the same shapes that differ in one number of one array, one option, one name."""

    def network(weight: float = 1e-3, delay: float = 1e-3, start: float = 0.0, name: str = "cells"):
        build = NetworkBuilder()
        cells = build.population(name, 3, LIF(), voltage=np.array([0.0, start, 0.0]))
        weights, delays = np.full(2, 1e-3), np.full(2, 1e-3)
        weights[1], delays[1] = weight, delay
        build.connect(cells, cells, weight=weights, delay=delays, pairs=([0, 1], [1, 2]))
        return build.network()

    whole = [
        fingerprint(network(), Options(), "steps"),
        fingerprint(network(weight=2e-3), Options(), "steps"),
        fingerprint(network(delay=2e-3), Options(), "steps"),
        fingerprint(network(start=1e-3), Options(), "steps"),
        fingerprint(network(name="other"), Options(), "steps"),
        fingerprint(network(), Options(seed=1), "steps"),
        fingerprint(network(), Options(trace={"cells": [1]}), "steps"),
        fingerprint(network(), Options(), "bitmap"),
    ]
    assert len(set(whole)) == len(whole)
    assert fingerprint(network(), Options(), "steps") == whole[0]


def test_slow_slices_become_shorter_without_changing_a_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C and checkpoints wait for a slice: it is halved where it is slow, else doubled."""
    whole = simulate(small(), 0.05, engine="frames")
    cuts: list[float] = []
    advance = ExactSimulation.advance

    def noted(self: ExactSimulation, until: float) -> None:
        cuts.append(until)
        advance(self, until)

    monkeypatch.setattr(ExactSimulation, "advance", noted)
    simulate(small(), 0.05, engine="frames")
    assert len(cuts) == 200 and cuts[-1] == 0.05
    cuts.clear()
    slow = iter(range(10**9))  # every slice takes a second; after the fourth, time stands still
    module = importlib.import_module("neurosim.events.simulate")
    monkeypatch.setattr(module.clock, "monotonic", lambda: min(next(slow), 8))
    found = simulate(small(), 0.05, engine="frames")
    lengths = np.diff([0.0, *cuts])
    halves = 2.0 ** -np.array([0, 1, 2, 3, 4, 3, 2, 1, 0])
    np.testing.assert_allclose(lengths[:9], 0.05 / 200 * halves)
    np.testing.assert_allclose(lengths[9:-1], 0.05 / 200, rtol=1e-6)
    assert np.array_equal(found.times, whole.times) and found.counts == whole.counts
    cuts.clear()
    simulate(small(0.0), 100.0, engine="frames")
    assert cuts[0] == 0.02 and np.diff(cuts).max() <= 0.5 + 1e-9  # a long one begins with little


def test_a_recording_is_sorted_by_time_then_neuron(monkeypatch: pytest.MonkeyPatch) -> None:
    """In whatever order an engine gives its spikes."""
    times = np.array([2e-3, 1e-3, 2e-3, 1e-3, 0.0])
    neurons = np.array([5, 9, 3, 4, 7])
    monkeypatch.setattr(ExactSimulation, "spikes", lambda self: (times, neurons))
    found = simulate(small(), 0.01, engine="frames")
    assert found.times.tolist() == [0.0, 1e-3, 1e-3, 2e-3, 2e-3]
    assert found.neurons.tolist() == [7, 4, 9, 3, 5]
