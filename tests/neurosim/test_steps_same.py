"""One result: for both engines, any number of threads, any slices, and across a checkpoint."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from steps_networks import advanced, mixed_network

from neurosim.events import engines
from neurosim.events.simulate import Options, simulate
from neurosim.events.steps import costs
from neurosim.populations import CurrentLIF, NetworkBuilder, PoissonSource, SpikingNetwork, brunel


def same(a, b) -> None:
    """Two simulations have the same spikes, counts and traces."""
    for x, y in zip(a.spikes(), b.spikes(), strict=True):
        np.testing.assert_array_equal(x, y)
    assert a.counts() == b.counts()
    for name, (times, values) in a.traces().items():
        np.testing.assert_array_equal(times, b.traces()[name][0])
        np.testing.assert_array_equal(values, b.traces()[name][1])


def dense_network(seed: int) -> SpikingNetwork:
    """Uniform dense projections from up to hundreds of spikes at once, over 512-neuron words."""
    build = NetworkBuilder(seed)
    rng = np.random.default_rng(seed)
    model = CurrentLIF(10e-3, -48e-3, -50e-3, -60e-3, 1e-3)
    noise = build.population("noise", 300, PoissonSource(float(rng.uniform(10.0, 9e3))))
    cells = [
        build.population(name, size, model, voltage=rng.uniform(-60e-3, -50e-3, size))
        for name, size in (("a", int(rng.integers(1, 1400))), ("b", 513))
    ]
    for source, receptor, weight in (
        (noise, "excitatory", 1e-5),
        (cells[0], "inhibitory", -1e-4),
        (cells[1], "excitatory", 1e-4),
    ):
        for target in cells:
            build.connect(
                source,
                target,
                weight=weight,
                delay=float(rng.integers(1, 6)) * 1e-4,
                receptor=receptor,
                probability=float(rng.uniform(0.02, 1.0)),
            )
    return build.network()


@pytest.fixture
def all_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small networks use all threads asked for."""
    monkeypatch.setattr(costs, "_WORTH_MEETING", 1e-12)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_bitmap_equals_rows(seed: int, precision: str) -> None:
    network, options = dense_network(seed), Options(precision=precision, seed=seed)
    rows, bits = (advanced(name, network, options, [0.03]) for name in ("steps", "bitmap"))
    assert rows.counts()["spikes"] > 0
    same(rows, bits)


@pytest.mark.parametrize("engine", ["steps", "bitmap"])
@pytest.mark.parametrize("threads", [2, 3])
def test_threads_do_not_matter(engine: str, threads: int, all_threads: None) -> None:
    for network in (dense_network(1), mixed_network(4), mixed_network(5, own=True)):
        if engines.available()[engine].supports(network, Options()) is not None:
            continue
        trace = {network.populations[2].name: [0]}
        one, more = (
            advanced(engine, network, Options(threads=n, seed=2, trace=trace), [0.02])
            for n in (1, threads)
        )
        assert more._threads == threads
        same(one, more)


def test_threads_without_enough_work_are_not_used() -> None:
    network = mixed_network(1)
    assert costs.useful_threads(network, Options(threads=2), bitmaps=False) == 1
    assert costs.useful_threads(brunel(), Options(threads=2), bitmaps=False) == 2


@examples(10)
@given(st.integers(0, 1000), st.lists(st.floats(0.0, 0.012), max_size=6))
def test_slices_do_not_matter(seed: int, cuts: list[float]) -> None:
    network = mixed_network(seed)
    trace = {network.populations[-1].name: [0]}
    options = Options(seed=seed, trace=trace, trace_step=3e-4)
    whole = advanced("steps", network, options, [0.012])
    same(whole, advanced("steps", network, options, [*sorted(cuts), 0.012]))


@examples(6)
@given(st.integers(0, 1000), st.floats(0.0, 0.01))
def test_state_goes_on_elsewhere(seed: int, cut: float) -> None:
    network = mixed_network(seed, own=seed % 2 == 0)
    trace = {network.populations[-1].name: [0]}
    options = Options(seed=seed, trace=trace)
    whole = advanced("steps", network, options, [0.01])
    first = advanced("steps", network, options, [cut])
    state = {key: value.copy() for key, value in first.state().items()}
    second = engines.available()["steps"].begin(network, options)
    second.restore(state)
    second.advance(0.01)
    same(whole, second)


def test_a_checkpoint_of_one_thread_is_resumed_by_two(tmp_path, all_threads: None) -> None:
    network, file = dense_network(2), tmp_path / "state.npz"
    simulate(network, 0.004, engine="steps", checkpoint=file)
    resumed = simulate(network, 0.01, engine="steps", checkpoint=file, options=Options(threads=2))
    whole = simulate(network, 0.01, engine="steps")
    np.testing.assert_array_equal(resumed.times, whole.times)
    np.testing.assert_array_equal(resumed.neurons, whole.neurons)
    assert resumed.counts == whole.counts


def test_a_log_that_fills_up_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from neurosim.events.steps import simulation

    network, options = dense_network(1), Options(seed=3)
    large = advanced("steps", network, options, [0.02])
    monkeypatch.setattr(simulation, "_LOG_ROOM", 1)
    monkeypatch.setattr(simulation, "_LOG_STEPS", 0)
    same(large, advanced("steps", network, options, [0.02]))


def test_seeds_differ() -> None:
    network = dense_network(1)
    one, other = (advanced("steps", network, Options(seed=s), [0.02]).spikes() for s in (1, 2))
    assert len(one[0]) != len(other[0]) or not np.array_equal(one[1], other[1])
