"""Known answers: closed forms, exact engines on the grid, counts, Poisson statistics, refusals."""

from __future__ import annotations

import re

import numpy as np
import pytest
from scipy import integrate, stats
from steps_networks import advanced, mixed_network

from neurosim.devices import load_device
from neurosim.events.simulate import Options, simulate
from neurosim.events.steps.costs import predict
from neurosim.populations import (
    LIF,
    ConductanceLIF,
    CurrentLIF,
    NetworkBuilder,
    PoissonSource,
    Population,
    SparseSynapses,
    SpikeSource,
    SpikingNetwork,
    SwitchNeuron,
    cuba,
)

DT = 1e-4


def one(model, **initial) -> SpikingNetwork:
    return SpikingNetwork((Population("cell", 1, model, initial),), ())


def voltage(network: SpikingNetwork, time: float, dt: float = DT) -> np.ndarray:
    options = Options(dt, trace={"cell": [0]}, trace_step=dt)
    return advanced("steps", network, options, [time]).traces()["cell"][1][:, 0]


def test_free_membrane_follows_its_exponential() -> None:
    found = voltage(one(LIF(20e-3, -70e-3, 0.0, -80e-3), voltage=-50e-3), 0.1)
    times = np.arange(len(found)) * DT
    np.testing.assert_allclose(found, -70e-3 + 20e-3 * np.exp(-times / 20e-3), rtol=1e-12)


@pytest.mark.parametrize("synapse", [5e-3, 20e-3, 20e-3 * (1 + 1e-9)], ids=["5", "equal", "near"])
def test_synaptic_current_follows_its_closed_form(synapse: float) -> None:
    model = CurrentLIF(20e-3, 0.0, 1.0, -1.0, 0.0, synapse, 3e-3)
    found = voltage(one(model, voltage=0.0, excitatory=1e-3), 0.1)
    t = np.arange(len(found)) * DT
    if synapse == 5e-3:
        factor = synapse / (20e-3 - synapse)
        expected = 1e-3 * factor * (np.exp(-t / 20e-3) - np.exp(-t / synapse))
    else:
        expected = 1e-3 * t / 20e-3 * np.exp(-t / 20e-3)
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-16)


def test_conductances_converge_to_the_differential_equation() -> None:
    model = ConductanceLIF(20e-3, -60e-3, 1.0, -1.0, 0.0, 5e-3, 10e-3, 0.0, -80e-3)

    def slope(t, v):
        e, i = 3.0 * np.exp(-t / 5e-3), 2.0 * np.exp(-t / 10e-3)
        return (-60e-3 - v + e * (0.0 - v) + i * (-80e-3 - v)) / 20e-3

    exact = integrate.solve_ivp(slope, (0.0, 0.02), [-60e-3], rtol=1e-10, atol=1e-12).y[0, -1]
    network = one(model, voltage=-60e-3, excitatory=3.0, inhibitory=2.0)
    errors = [abs(voltage(network, 0.02, dt)[-1] - exact) for dt in (2e-4, 1e-4)]
    assert errors[1] < 2e-4 and errors[0] / errors[1] == pytest.approx(2.0, rel=0.1)


def test_tonic_firing_has_the_period_of_the_closed_form() -> None:
    """Crossings are rounded up to a step, and the refractory period is kept."""
    model = LIF(20e-3, 0.0, -10e-3, -20e-3, 2e-3)
    times, _ = advanced("steps", one(model), Options(), [0.2]).spikes()
    climb = 20e-3 * np.log(20e-3 / 10e-3)
    period = np.ceil(climb / DT) * DT + 2e-3
    np.testing.assert_allclose(np.diff(times), period, rtol=1e-9)


def test_on_the_grid_it_equals_the_exact_engine() -> None:
    """Delta synapses, inputs and delays on the grid: no crossing between steps.

    Steps of 2^-13 s make sums of times exact, so that simultaneous is the same for both. The
    refractory period ends between steps, at the resting voltage: its length within one is nothing.
    """
    step = 2.0**-13
    rng = np.random.default_rng(0)
    build = NetworkBuilder(1)
    times = rng.integers(0, 800, 3000) * step
    source = build.population("source", 20, SpikeSource(times, rng.integers(0, 20, 3000)))
    cells = build.population("cells", 50, LIF(20e-3, 0.0, 20e-3, 0.0, 15.5 * step), voltage=0.0)
    build.connect(source, cells, weight=2.1e-3, delay=5 * step, probability=0.5)
    build.connect(cells, cells, weight=-1.3e-3, delay=15 * step, probability=0.3)
    network, options = build.network(), Options(step)
    clock, exact = (
        simulate(network, 0.11, engine=name, options=options) for name in ("steps", "frames")
    )
    assert len(clock.times) > 3500
    np.testing.assert_array_equal(clock.neurons, exact.neurons)
    np.testing.assert_allclose(clock.times, exact.times, atol=1e-12)


def test_counts_are_spikes_times_fan_out() -> None:
    """Of every spike whose delay has passed; the ring of own delays is counted on arrival."""
    for seed in range(4):
        network = mixed_network(seed)
        simulation = advanced("steps", network, Options(seed=seed), [0.0123])
        times, neurons = simulation.spikes()
        last, events = 123, 0
        for projection in network.projections:
            synapses = projection.synapses
            first = network.first[projection.source]
            for time, neuron in zip(times, neurons - first, strict=True):
                if not 0 <= neuron < synapses.source_count:
                    continue
                if isinstance(synapses, SparseSynapses):
                    row = slice(synapses.offsets[neuron], synapses.offsets[neuron + 1])
                    delays = np.broadcast_to(synapses.delay, synapses.count)[row]
                else:
                    delays = np.full(synapses.target_count, synapses.delay)
                arrivals = np.rint(time / DT) + np.floor(delays / DT + 0.5)
                events += int((arrivals <= last).sum())
        assert simulation.counts()["synaptic_events"] == events


@pytest.mark.parametrize("rate", [3.0, 900.0, 20e3, 130e3])
def test_drive_is_poisson(rate: float) -> None:
    """Counts of 4,000 neurons x 250 steps, read from the jumps of leakless membranes."""
    model = LIF(1e9, 0.0, 1e9, -1.0)
    build = NetworkBuilder()
    cells = build.population("cell", 4000, model, voltage=0.0)
    build.drive(cells, rate=rate, weight=1.0, receptor="voltage")
    options = Options(DT, seed=7, trace={"cell": range(4000)}, trace_step=DT)
    simulation = advanced("steps", build.network(), options, [250 * DT])
    counts = np.rint(np.diff(simulation.traces()["cell"][1], axis=0)).astype(int)
    assert simulation.counts()["drive_events"] == counts.sum()
    mean = rate * DT
    low, high = stats.poisson.ppf([1e-5, 1 - 1e-5], mean).astype(int)
    edges = np.arange(low, high + 1)
    expected = stats.poisson.pmf(edges, mean) * counts.size
    observed = np.array([(counts == k).sum() for k in edges])
    kept = expected > 10
    chi = ((observed - expected) ** 2 / expected)[kept].sum()
    assert stats.chi2.sf(chi, kept.sum()) > 1e-4
    deviations = (counts - mean) / np.sqrt(mean)
    for pairs in (
        deviations[1:] * deviations[:-1],
        deviations[:, 1:] * deviations[:, :-1],
        deviations[:, 16:] * deviations[:, :-16],
    ):
        assert abs(pairs.mean()) * np.sqrt(pairs.size) < 4.5
    for axis in (0, 1):
        sums = deviations.sum(axis=axis) / np.sqrt(counts.shape[axis])
        assert sums.var() == pytest.approx(1.0, abs=5.0 * np.sqrt(2.0 / len(sums)))


def test_sources_fire_at_their_rate() -> None:
    network = SpikingNetwork((Population("noise", 500, PoissonSource(12e3)),), ())
    recording = simulate(network, 0.1, engine="steps")
    assert recording.counts["source_spikes"] == pytest.approx(6e5, abs=5 * 6e5**0.5)
    assert recording.counts["spikes"] == recording.counts["source_spikes"]


def test_silence_costs_no_denormal_numbers() -> None:
    """Conductances that decay for 100 time constants end at 0, not at the smallest number."""
    model = CurrentLIF(20e-3, -60e-3, -50e-3, -61e-3, 0.0, 1e-3, 1e-3)
    network = one(model, voltage=-60e-3, excitatory=1e-3)
    simulation = advanced("steps", network, Options(precision="float32"), [0.12])
    state = simulation.state()["state"]
    assert not np.any((state != 0.0) & (np.abs(state) < 1e-30))


def _with_delay(delay: float) -> SpikingNetwork:
    build = NetworkBuilder()
    cells = build.population("cells", 3, LIF())
    build.connect(cells, cells, weight=1e-3, delay=delay, one_to_one=True)
    return build.network()


REFUSED = {
    "less than half a time step": _with_delay(0.04e-3),
    "at most 65535 steps": _with_delay(7.0),
    "no time step is exact for SwitchNeuron": one(SwitchNeuron(load_device("demo"))),
    "initial excitatory conductances >= 0": one(ConductanceLIF(reset_voltage=-1.0), excitatory=-1),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_cannot_be_carried_is_refused(reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        simulate(REFUSED[reason], 0.01, engine="steps")


def test_bad_traces_and_bitmaps_are_refused() -> None:
    network = cuba(100)
    with pytest.raises(ValueError, match=r"trace of excitatory: expected neurons 0\.\.79"):
        simulate(network, 0.01, engine="steps", options=Options(trace={"excitatory": [80]}))
    with pytest.raises(ValueError, match="expected a population out of"):
        simulate(network, 0.01, engine="steps", options=Options(trace={"nobody": [0]}))
    cells = Population("cells", 2, LIF())
    synapses = SparseSynapses.from_pairs([0, 0], [1, 1], 1e-3, 1e-3, 2, 2)
    build = NetworkBuilder()
    build.population("cells", 2, LIF())
    build.connect(cells, cells, weight=1e-3, delay=1e-3, pairs=([0, 0], [1, 1]))
    assert synapses.count == 2
    with pytest.raises(ValueError, match="join the same two neurons"):
        simulate(build.network(), 0.01, engine="bitmap")


def test_cost_grows_with_what_is_done() -> None:
    small, large = cuba(1000), cuba(4000)
    assert predict(small, Options(), False) < predict(large, Options(), False)
    slow, fast = ({"excitatory": rate, "inhibitory": rate} for rate in (1.0, 50.0))
    assert predict(large, Options(), False, slow) < predict(large, Options(), False, fast)
    assert predict(large, Options(), False) < predict(large, Options(5e-5), False)
