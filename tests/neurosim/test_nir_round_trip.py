"""write_nir and read_nir invert each other on what both carry."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

pytest.importorskip("nir", reason="the extra nir is not installed")
import nir

from neurosim.events.simulate import simulate
from neurosim.io.nir import read_nir, to_nir, write_nir
from neurosim.populations import (
    LIF,
    CrossbarSynapses,
    CurrentLIF,
    NetworkBuilder,
    PoissonSource,
    SparseSynapses,
    SpikeSource,
    SpikingNetwork,
)

INF = np.inf


def entries(synapses):
    """Sorted (source, target, weight, delay)."""
    if isinstance(synapses, CrossbarSynapses):
        synapses = synapses.sparse()
    count = synapses.count
    pre = np.repeat(np.arange(synapses.source_count), np.diff(synapses.offsets))
    weight, delay = (np.broadcast_to(v, count) for v in (synapses.weight, synapses.delay))
    order = np.lexsort((delay, synapses.targets, pre))
    return tuple(column[order] for column in (pre, synapses.targets, weight, delay))


def assert_same(left, right, rtol=0.0):
    """Populations in order with all their numbers, and every synapse."""
    assert [(p.name, p.size) for p in left] == [(p.name, p.size) for p in right]
    for a, b in zip(left, right, strict=True):
        assert a.is_source == b.is_source
        if a.is_source:
            continue
        assert type(a.model) is type(b.model)
        for key in vars(a.model):
            np.testing.assert_allclose(a.parameter(key), b.parameter(key), rtol, err_msg=key)
        for state in set(a.initial) | set(b.initial) - {"voltage"}:
            values = [np.broadcast_to(p.initial.get(state, 0.0), p.size) for p in (a, b)]
            np.testing.assert_allclose(*values, rtol, err_msg=state)
    assert len(left.projections) == len(right.projections)
    for a, b in zip(left.projections, right.projections, strict=True):
        assert (a.source, a.target, a.receptor) == (b.source, b.target, b.receptor)
        assert isinstance(b.synapses, SparseSynapses | CrossbarSynapses)
        for one, other in zip(entries(a.synapses), entries(b.synapses), strict=True):
            np.testing.assert_allclose(one, other, rtol)


def every_kind():
    """All neurons both sides carry, joined by crossbars, sparse, diagonal and delayed synapses."""
    rng = np.random.default_rng(0)
    build = NetworkBuilder(1)
    silent = SpikeSource(np.zeros(0), np.zeros(0, np.int64))
    source = build.population("z_input", 5, silent)
    leaky = build.population("leaky", 7, LIF(rng.uniform(5e-3, 20e-3, 7), 0.1, 1.0, -0.5))
    current = build.population("current", 7, CurrentLIF(10e-3, 0.1, 1.0, 0.0, 0.0, 3e-3, 3e-3))
    whole = build.population("whole", 7, LIF(INF, 0.0, 1.0, 0.0))
    readout = build.population("readout", 3, LIF(10e-3, 0.25, INF, 0.25))
    late = build.population("a_late", 2, CurrentLIF(9e-3, 0.0, INF, 0.0, 0.0, 4e-3, 4e-3))
    total = build.population("total", 4, LIF(INF, 0.0, INF, 0.0))
    build.connect(source, leaky, weight=rng.normal(size=(5, 7)), delay=0.0)
    build.connect(leaky, leaky, weight=0.1, delay=1e-3, probability=0.5)
    build.connect(leaky, current, weight=0.2, delay=0.0, one_to_one=True, receptor="excitatory")
    pairs = (np.repeat(np.arange(5), 2), np.arange(10) % 7)
    delays = np.array([1e-3, 2e-3] * 5)
    build.connect(current, whole, weight=rng.normal(size=10), delay=delays, pairs=pairs)
    build.connect(whole, readout, weight=rng.normal(size=(7, 3)), delay=0.0)
    build.connect(whole, late, weight=rng.normal(size=(7, 2)), delay=0.0, receptor="excitatory")
    build.connect(whole, total, weight=rng.normal(size=(7, 4)), delay=5e-4)
    return build.network()


@pytest.mark.parametrize("time_step", [None, 1e-4], ids=["continuous", "clocked"])
def test_round_trip(time_step, tmp_path):
    network = every_kind()
    path = tmp_path / "network.nir"
    notes = write_nir(network, path, time_step=time_step)
    found = read_nir(path, time_step=time_step, hop_delay=0.0)
    assert_same(network, found.network, rtol=1e-12 if time_step else 1e-15)
    assert notes == ("z_input: its spikes (SpikeSource) are not in NIR, an Input is",)
    assert found.inputs == ("z_input",)
    assert found.outputs == {f"{n}_output": n for n in ("readout", "a_late", "total")}
    assert len(found.notes) == 1


def test_a_file_we_wrote_is_what_nir_reads(tmp_path):
    path = tmp_path / "network.nir"
    write_nir(every_kind(), path)
    graph = nir.read(path)  # with its own check of types
    kinds = {name: type(node).__name__ for name, node in graph.nodes.items()}
    assert {kinds[name] for name in ("leaky", "whole", "current")} == {"LIF", "IF", "CubaLIF"}
    assert {kinds[name] for name in ("readout", "total", "a_late")} == {"LI", "I", "CubaLI"}
    assert kinds["leaky_to_current"] == "Scale" and kinds["current_to_whole_delay_2"] == "Delay"
    assert graph.nodes["leaky"].v_threshold[0] == np.nextafter(1.0, 0.0)  # NIR fires above it


def test_biases_come_back_as_resting_voltages_and_starting_currents():
    one = np.ones(2)
    graph = nir.NIRGraph.from_list(
        nir.Input([2]),
        nir.Affine(np.eye(2) * 3.0, np.array([0.5, -0.25])),
        nir.LIF(0.01 * one, 2.0 * one, 0.125 * one, one, 0 * one),
        nir.Affine(np.eye(2), np.array([0.5, 0.25])),
        nir.CubaLIF(0.005 * one, 0.01 * one, 2.0 * one, 0.0 * one, one, 0 * one, 4.0 * one),
    )
    network = read_nir(graph, hop_delay=0.0).network
    np.testing.assert_allclose(network["lif"].parameter("resting_voltage"), [1.125, -0.375])
    np.testing.assert_allclose(entries(network.projections[0].synapses)[2], 3.0 * 2.0 / 0.01)
    cuba = network["cubalif"]
    np.testing.assert_allclose(cuba.parameter("resting_voltage"), [4.0, 2.0])
    np.testing.assert_allclose(cuba.initial["excitatory"], [-4.0, -2.0])  # I starts at 0
    np.testing.assert_allclose(entries(network.projections[1].synapses)[2], 2.0 * 4.0 / 0.005)
    again = read_nir(to_nir(network)[0], hop_delay=0.0).network
    assert_same(network, again, rtol=1e-14)


@pytest.mark.parametrize("time_step", [None, 1e-3], ids=["continuous", "clocked"])
def test_an_integrator_with_a_bias_drifts_and_comes_back(time_step):
    one = np.ones(2)
    graph = nir.NIRGraph.from_list(
        nir.Input([2]),
        nir.Affine(np.eye(2), np.array([0.5, -2.0])),
        nir.IF(2.0 * one, one, 0 * one),
    )
    found = read_nir(graph, time_step=time_step, hop_delay=0.0)
    cell = found.network["if"]
    drift = cell.parameter("resting_voltage") / cell.parameter("time_constant")
    np.testing.assert_allclose(drift, [1.0, -4.0])  # R b, V/s
    assert any("node if (IF) has a bias" in note for note in found.notes)
    back, _ = to_nir(found.network, time_step=time_step)
    assert type(back.nodes["if"]).__name__ == "IF"
    again = read_nir(back, time_step=time_step, hop_delay=0.0).network
    assert_same(found.network, again, rtol=1e-12)


@given(
    sizes=st.lists(st.integers(1, 6), min_size=2, max_size=4),
    seed=st.integers(0, 2**32 - 1),
    clocked=st.booleans(),
)
@examples(25)
def test_any_feed_forward_network_comes_back(sizes, seed, clocked):
    rng = np.random.default_rng(seed)
    build = NetworkBuilder(seed)
    before = build.population("p0", sizes[0], PoissonSource(10.0))
    for i, size in enumerate(sizes[1:], 1):
        tau = rng.uniform(1e-3, 50e-3, size)
        if rng.random() < 0.5:
            model = LIF(tau, rng.normal(size=size), 1.0 + rng.random(size), -rng.random(size))
        else:
            synapse = float(rng.uniform(1e-3, 50e-3))
            model = CurrentLIF(tau, 0.0, 1.0 + rng.random(size), 0.0, 0.0, synapse, synapse)
        here = build.population(f"p{i}", size, model)
        weight = np.where(
            rng.random((before.size, size)) < 0.6, rng.normal(size=(before.size, size)), 0
        )
        weight[0, 0] = 1.0
        delay = float(rng.choice([0.0, 1e-3]))
        build.connect(before, here, weight=weight, delay=delay, receptor=model.receptors[0])
        before = here
    network = build.network()
    time_step = 1e-4 if clocked else None
    graph, _ = to_nir(network, time_step=time_step)
    assert_same(network, read_nir(graph, time_step=time_step, hop_delay=0.0).network, rtol=1e-9)


def test_receptors_with_one_time_constant_join(tmp_path):
    build = NetworkBuilder()
    source = build.population("in", 2, PoissonSource(10.0))
    cells = build.population("cells", 2, CurrentLIF(10e-3, 0.0, 1.0, 0.0, 0.0, 5e-3, 5e-3))
    for receptor, weight in (("excitatory", 2.0), ("inhibitory", -1.0)):
        build.connect(source, cells, weight=weight, delay=0.0, one_to_one=True, receptor=receptor)
    found = read_nir(to_nir(build.network())[0]).network
    (projection,) = found.projections
    np.testing.assert_allclose(entries(projection.synapses)[2], 1.0)


def test_nested_graphs_open_and_loops_take_a_step():
    one = np.ones(3)
    inner = nir.NIRGraph(
        {
            "input": nir.Input([3]),
            "lif": nir.LIF(0.01 * one, one, 0 * one, one, 0 * one),
            "w_rec": nir.Linear(0.5 * np.eye(3)),
            "output": nir.Output([3]),
        },
        [("input", "lif"), ("lif", "w_rec"), ("w_rec", "lif"), ("lif", "output")],
    )
    graph = nir.NIRGraph(
        {"input": nir.Input([3]), "fc": nir.Linear(np.eye(3)), "rnn": inner,
         "out": nir.Output([3])},
        [("input", "fc"), ("fc", "rnn"), ("rnn", "out")],
        type_check=False,
    )  # fmt: skip
    found = read_nir(graph, time_step=1e-3, hop_delay=0.0)
    assert [p.name for p in found.network] == ["input", "rnn.lif"]
    delays = {(p.source, p.target): p.synapses.delay for p in found.network.projections}
    assert delays == {("input", "rnn.lif"): 0.0, ("rnn.lif", "rnn.lif"): 1e-3}
    assert found.outputs == {"out": "rnn.lif"}
    with pytest.raises(ValueError, match="closes a loop that takes no time"):
        read_nir(graph)
    loop = read_nir(graph, loop_delay=2e-3, hop_delay=0.0).network.projections[1]
    assert loop.synapses.delay == 2e-3


def test_a_threshold_node_is_a_neuron_that_forgets():
    graph = nir.NIRGraph.from_list(
        nir.Input([2]), nir.Linear(np.array([[1.0, 1.0]])), nir.Threshold(np.array([1.5]))
    )
    with pytest.raises(ValueError, match=r"node threshold \(Threshold\).*time_step="):
        read_nir(graph)
    cell = read_nir(graph, time_step=1e-3).network["threshold"]
    assert np.exp(-1e-3 / cell.parameter("time_constant")) < 1e-21
    assert cell.parameter("threshold_voltage") == np.nextafter(1.5, 2.0)


@pytest.mark.parametrize("kind", ["LIF", "IF", "CubaLIF"])
def test_exactly_at_the_threshold_does_not_fire(kind: str) -> None:
    """NIR fires above the threshold: a voltage equal to it stays, the next number fires."""
    one = np.ones(1)
    node = {
        "LIF": nir.LIF(0.01 * one, one, 0 * one, 0.5 * one, 0 * one),
        "IF": nir.IF(one, 0.5 * one, 0 * one),
        "CubaLIF": nir.CubaLIF(0.01 * one, 0.01 * one, one, 0 * one, 0.5 * one, 0 * one),
    }[kind]
    nodes = {"in": nir.Input([1]), "w": nir.Linear(np.ones((1, 1))), "cell": node}
    nodes["out"] = nir.Output([1])
    edges = [("in", "w"), ("w", "cell"), ("cell", "out")]
    cell = read_nir(nir.NIRGraph(nodes, edges)).network["cell"]
    assert cell.parameter("threshold_voltage") == np.nextafter(0.5, 1.0)
    for voltage, spikes in ((0.5, 0), (np.nextafter(0.5, 1.0), 1)):
        start = replace(cell, initial={"voltage": voltage})
        for engine in ("steps", "calendar"):
            found = simulate(SpikingNetwork((start,), ()), 1e-3, engine=engine)
            assert len(found.times) == spikes, engine
