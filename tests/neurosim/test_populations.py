"""The contract of networks of populations: builder, synapses, random connections, errors."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

from neurosim.devices.preset import load_device
from neurosim.events.checkpoint import fingerprint
from neurosim.populations import (
    LIF,
    ConductanceLIF,
    CrossbarSynapses,
    CurrentLIF,
    NetworkBuilder,
    PoissonDrive,
    PoissonSource,
    Population,
    Projection,
    SparseSynapses,
    SpikeSource,
    SpikingNetwork,
    SwitchNeuron,
    brunel,
    coba,
    cuba,
)


def two(model=None, sizes=(3, 4)):
    build = NetworkBuilder(5)
    source = build.population("source", sizes[0], PoissonSource(10.0))
    return build, source, build.population("cells", sizes[1], model or LIF())


def pairs_of(synapses):
    return np.repeat(np.arange(synapses.source_count), np.diff(synapses.offsets)), synapses.targets


@pytest.mark.parametrize("probability", [0.0, 0.02, 0.5, 1.0])
def test_random_connections_have_the_binomial_number(probability):
    """Total, in- and out-degrees within 5 standard deviations; no pair twice."""
    shape = (300, 400)
    synapses = SparseSynapses.random(*shape, probability, 1.0, 1e-3, seed=3)
    spread = math.sqrt(shape[0] * shape[1] * probability * (1.0 - probability))
    assert abs(synapses.count - shape[0] * shape[1] * probability) <= 5.0 * spread
    pre, post = pairs_of(synapses)
    assert len({*zip(pre.tolist(), post.tolist(), strict=True)}) == synapses.count
    for ids, size, other in ((pre, *shape), (post, *shape[::-1])):
        degree = np.bincount(ids, minlength=size)
        width = math.sqrt(other * probability * (1.0 - probability))
        assert abs(degree - other * probability).max() <= 5.0 * width
        if 0.0 < probability < 1.0:  # variance of the degrees as of independent pairs
            assert degree.var() == pytest.approx(width**2, rel=6.0 * math.sqrt(2.0 / size))


def test_neighbouring_pairs_are_independent():
    synapses = SparseSynapses.random(500, 500, 0.3, 1.0, 1e-3, seed=4)
    joined = np.zeros((500, 500))
    joined[pairs_of(synapses)] = 1.0
    for a, b in ((joined[:, :-1], joined[:, 1:]), (joined[:-1], joined[1:])):
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 5.0 / math.sqrt(a.size)


def test_no_neuron_reaches_itself_when_told_so():
    synapses = SparseSynapses.random(200, 200, 0.9, 1.0, 1e-3, seed=0, to_itself=False)
    pre, post = pairs_of(synapses)
    assert not np.any(pre == post)
    every = SparseSynapses.random(50, 50, 1.0, 1.0, 1e-3, seed=0, to_itself=False)
    assert every.count == 50 * 49


def test_a_seed_is_a_network():
    assert fingerprint(cuba(100, seed=1)) == fingerprint(cuba(100, seed=1))
    assert fingerprint(cuba(100, seed=1)) != fingerprint(cuba(100, seed=2))
    first, second = cuba(200, seed=1).projections[:2]
    assert not np.array_equal(first.synapses.targets[:50], second.synapses.targets[:50])


@given(
    rows=st.integers(1, 8),
    columns=st.integers(1, 70000),
    count=st.integers(0, 30),
    seed=st.integers(0, 2**32 - 1),
)
@examples(50)
def test_pairs_come_back_whatever_their_order(rows, columns, count, seed):
    rng = np.random.default_rng(seed)
    pre, post = rng.integers(0, rows, count), rng.integers(0, columns, count)
    weight, delay = rng.normal(size=count), rng.random(count)
    synapses = SparseSynapses.from_pairs(pre, post, weight, delay, rows, columns)
    found_pre, found_post = pairs_of(synapses)
    found = zip(found_pre, found_post, synapses.weight, synapses.delay, strict=True)
    assert sorted(found) == sorted(zip(pre, post, weight, delay, strict=True))
    assert all(np.all(np.diff(found_post[found_pre == row]) >= 0) for row in range(rows))
    assert synapses.targets.dtype == (np.uint16 if columns <= 65536 else np.int32)
    assert synapses.shortest_delay == (delay.min() if count else math.inf)


def test_a_crossbar_is_its_sparse_form_without_zeros():
    weight = np.array([[1.0, 0.0, -2.0], [0.0, 0.0, 3.0]])
    crossbar = CrossbarSynapses(weight, 1e-3)
    sparse = crossbar.sparse()
    pre, post = pairs_of(sparse)
    assert (crossbar.count, sparse.count) == (6, 3)
    again = np.zeros((2, 3))
    again[pre, post] = sparse.weight
    np.testing.assert_array_equal(again, weight)


def test_the_builder_makes_each_kind():
    build, source, cells = two()
    assert isinstance(
        build.connect(source, cells, weight=1.0, delay=1e-3).synapses, CrossbarSynapses
    )
    some = build.connect(source, cells, weight=1.0, delay=1e-3, pairs=([0, 2], [3, 0])).synapses
    assert isinstance(some, SparseSynapses) and some.uniform and some.count == 2
    chance = build.connect(source, cells, weight=1.0, delay=1e-3, probability=0.5)
    assert isinstance(chance.synapses, SparseSynapses) and chance.receptor == "voltage"
    other = build.population("other", 4, LIF())
    line = build.connect(cells, other, weight=np.arange(4.0), delay=0.0, one_to_one=True).synapses
    np.testing.assert_array_equal(pairs_of(line), [range(4)] * 2)
    build.drive(cells, rate=5.0, weight=1e-3, receptor="voltage")
    network = build.network()
    assert network.first == {"source": 0, "cells": 3, "other": 7}
    assert (network.size, network.synapse_count) == (11, 12 + 2 + chance.synapses.count + 4)
    assert (network.shortest_delay, network.longest_delay) == (0.0, 1e-3)


@pytest.mark.parametrize(
    "words, message",
    [
        ({"pairs": ([0, 3], [0, 0])}, r"expected source neurons 0..2, got 0..3"),
        ({"pairs": ([0], [-1])}, r"expected target neurons 0..3, got -1..-1"),
        ({"pairs": ([0.5], [0])}, r"expected source neurons as integers, got float64"),
        ({"pairs": ([0, 1], [0])}, r"expected sources and targets \(K,\)"),
        ({"pairs": ([0], [0]), "weight": np.nan}, r"expected every weight finite, got nan"),
        ({"weight": np.full((3, 4), np.nan)}, r"expected every weight finite, got nan"),
        ({"pairs": ([0], [0]), "delay": -1e-3}, r"expected every delay finite and >= 0 s"),
        ({"probability": 0.5, "delay": -1e-3}, r"expected every delay finite and >= 0 s"),
        ({"delay": math.inf}, r"expected every delay finite"),
        ({"probability": 1.5}, r"expected a probability from 0 to 1, got 1.5"),
        ({"probability": 0.5, "weight": np.ones(3)}, r"expected one weight and one delay"),
        ({"probability": 0.5, "one_to_one": True}, r"expected one of probability, pairs"),
        ({"one_to_one": True}, r"one_to_one: expected equal sizes, got \(3, 4\)"),
        ({"weight": np.ones((4, 3))}, r"expected weights \(3, 4\), got \(4, 3\)"),
        ({"delay": np.ones(12)}, r"a crossbar has one delay"),
        ({"receptor": "charge"}, r"expected a receptor out of voltage, got 'charge'"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_bad_connections(words, message):
    build, source, cells = two()
    with pytest.raises(ValueError, match=message):
        build.connect(source, cells, **{"weight": 1.0, "delay": 1e-3, **words})
        build.network()


def test_bad_networks():
    build, source, cells = two(CurrentLIF())
    with pytest.raises(
        ValueError, match="expected a receptor out of excitatory, inhibitory, got none"
    ):
        build.connect(source, cells, weight=1.0, delay=0.0)
    with pytest.raises(ValueError, match="expected a new population name, got 'cells' twice"):
        build.population("cells", 3, LIF())
    back = Projection("cells", "source", CrossbarSynapses(np.ones((4, 3)), 0.0), "voltage")
    with pytest.raises(ValueError, match="source is a spike source and takes no input"):
        SpikingNetwork((source, cells), (back,))
    wrong = Projection("source", "cells", CrossbarSynapses(np.ones((3, 3)), 0.0), "excitatory")
    with pytest.raises(ValueError, match=r"source -> cells: expected synapses 3 -> 4, got 3 -> 3"):
        SpikingNetwork((source, cells), (wrong,))
    lost = Projection("nobody", "cells", CrossbarSynapses(np.ones((3, 4)), 0.0), "excitatory")
    with pytest.raises(
        ValueError, match="expected a population out of source, cells, got 'nobody'"
    ):
        SpikingNetwork((source, cells), (lost,))
    with pytest.raises(ValueError, match="expected populations with unique names"):
        SpikingNetwork((), ())
    with pytest.raises(ValueError, match="expected one finite rate >= 0 Hz"):
        PoissonDrive("cells", -1.0, 1.0, "excitatory")
    with pytest.raises(ValueError, match=r"join a PoissonSource\(rates\) one to one"):
        PoissonDrive("cells", np.ones(4), 1.0, "excitatory")  # type: ignore[arg-type]
    alone = NetworkBuilder()
    cells = alone.population("cells", 4, LIF())
    with pytest.raises(ValueError, match="to_itself=False goes with probability="):
        alone.connect(cells, cells, weight=1.0, delay=1e-3, to_itself=False)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: LIF(time_constant=0.0), "LIF.time_constant"),
        (lambda: LIF(time_constant=np.array([1.0, np.nan])), "LIF.time_constant"),
        (lambda: LIF(threshold_voltage=-np.inf), "LIF.threshold_voltage"),
        (lambda: LIF(resting_voltage=np.inf), "LIF.resting_voltage"),
        (lambda: LIF(reset_voltage=1.0), "reset_voltage below threshold_voltage"),
        (lambda: LIF(refractory_period=-1e-3), "LIF.refractory_period"),
        (lambda: CurrentLIF(inhibitory_time_constant=0.0), "CurrentLIF.inhibitory_time_constant"),
        (lambda: CurrentLIF(excitatory_time_constant=np.inf), "excitatory_time_constant"),
        (lambda: ConductanceLIF(inhibitory_reversal=np.nan), "ConductanceLIF.inhibitory_reversal"),
        (lambda: PoissonSource(-1.0), "PoissonSource.rate"),
        (lambda: SwitchNeuron(load_device("ag_v2c_w"), current=np.nan), "SwitchNeuron.current"),
        (lambda: SpikeSource(np.ones(2), np.zeros(1, int)), "times"),
        (lambda: SpikeSource(np.ones(1), np.zeros(1)), "integer neuron numbers"),
        (lambda: SpikeSource(-np.ones(1), np.zeros(1, int)), "finite times >= 0 s"),
        (lambda: Population("", 3, LIF()), "a name and at least 1 neuron"),
        (lambda: Population("a", 0, LIF()), "at least 1 neuron"),
        (lambda: Population("a", True, LIF()), "at least 1 neuron"),
        (lambda: Population("a", 1, LIF), "expected a model, e.g. LIF"),
        (lambda: Population("a", 1, "LIF"), "expected a model, e.g. LIF"),
        (lambda: NetworkBuilder(-1), "a seed, an integer >= 0, got -1"),
        (lambda: Population("a", 3, LIF(np.ones(2))), r"time_constant of shape \(3,\), got \(2,\)"),
        (lambda: Population("a", 3, LIF([1.0, 2.0])), r"time_constant of shape \(3,\), got \(2,\)"),
        (lambda: Population("a", 3, LIF(), {"current": 1.0}), "unknown initial state 'current'"),
        (lambda: Population("a", 3, LIF(), {"voltage": np.ones(2)}), "a finite initial voltage"),
        (lambda: Population("a", 1, SpikeSource(np.ones(1), np.ones(1, int))), "neurons 0..0"),
    ],
)  # fmt: skip
def test_bad_models_and_populations(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_integrators_and_readouts_are_allowed():
    model = LIF(time_constant=np.array([np.inf, 1e-2]), threshold_voltage=np.inf)
    population = Population("readout", 2, model)
    np.testing.assert_array_equal(population.parameter("threshold_voltage"), np.inf)
    np.testing.assert_array_equal(population.parameter("time_constant"), [np.inf, 1e-2])


def test_spike_sources_are_sorted_by_time_then_neuron():
    source = SpikeSource(np.array([0.2, 0.1, 0.1]), np.array([0, 2, 1]))
    np.testing.assert_array_equal(source.times, [0.1, 0.1, 0.2])
    np.testing.assert_array_equal(source.neurons, [1, 2, 0])


def test_lists_are_numbers_per_neuron_and_may_be_empty():
    assert Population("a", 2, LIF([1.0, 2.0])).parameter("time_constant").tolist() == [1.0, 2.0]
    assert len(SpikeSource([], []).times) == 0 and SpikeSource([], []).neurons.dtype == np.int64


def test_the_examples_are_those_of_the_papers():
    for made in (cuba(), coba()):
        sizes = {item.name: item.size for item in made}
        assert sizes == {"excitatory": 3200, "inhibitory": 800}
        expected = 4000 * 80
        assert abs(made.synapse_count - expected) < 5.0 * math.sqrt(expected)
        assert {p.receptor for p in made.projections} == {"excitatory", "inhibitory"}
    made = brunel(2000)
    assert {item.size for item in made} == {1600, 400}
    assert made.shortest_delay == made.longest_delay == 1.5e-3
    assert [drive.rate for drive in made.drives] == [pytest.approx(20_000.0)] * 2
    weights = {p.source: p.synapses.weight for p in made.projections}
    assert weights == {"excitatory": 0.1e-3, "inhibitory": pytest.approx(-0.5e-3)}
