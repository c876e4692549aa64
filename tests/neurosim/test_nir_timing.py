"""Hops that take time, lags, and starts put off: the same network, later."""

from __future__ import annotations

import numpy as np
import pytest
from clock_reference import spike_trains
from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from scipy.linalg import expm

pytest.importorskip("nir", reason="the extra nir is not installed")
import nir

from neurosim.events.simulate import Options, simulate
from neurosim.io.nir import read_nir
from neurosim.io.nir.neurons import neurons
from neurosim.io.nir.reading import Reading
from neurosim.io.nir.timing import set_back
from neurosim.populations import SpikeSource

STEP, TICKS = 1e-3, 80


def layers(seed):
    """in -> a -> b -> c (CubaLIF) and in -> c directly, all with biases; a Delay on a -> b."""
    rng = np.random.default_rng(seed)
    one = np.ones(5)

    def affine():
        return nir.Affine(rng.normal(size=(5, 5)) + 0.4, rng.uniform(0.0, 0.3, 5))

    def lif(leak):
        return nir.LIF(0.01 * one, 2.0 * one, leak * one, one, -0.2 * one)

    nodes = {
        "in": nir.Input([5]),
        "to_a": affine(),
        "a": lif(0.3),
        "to_b": affine(),
        "late": nir.Delay(np.array([2e-3, 3e-3, 2e-3, 5e-3, 2e-3])),
        "b": lif(-0.1),
        "to_c": affine(),
        "skip": nir.Linear(rng.normal(size=(5, 5))),
        "c": nir.CubaLIF(0.004 * one, 0.01 * one, one, 0.1 * one, one, 0 * one, 3.0 * one),
        "out": nir.Output([5]),
    }
    edges = ["in to_a", "to_a a", "a to_b", "to_b late", "late b", "b to_c", "to_c c", "in skip",
             "skip c", "c out"]  # fmt: skip
    return nir.NIRGraph(nodes, [tuple(edge.split()) for edge in edges])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_layer_does_the_same_later(seed):
    inputs = np.random.default_rng(seed + 10).random((TICKS, 5)) < 0.25
    inputs[0] = False
    at_once = read_nir(layers(seed), time_step=STEP, hop_delay=0.0)
    wanted, _ = spike_trains(at_once.network, {"in": inputs.astype(float)}, STEP, TICKS)
    assert not any(at_once.lags.values())
    found = read_nir(layers(seed), time_step=STEP)
    ticks, who = np.nonzero(inputs)
    driven = found.with_inputs({"in": SpikeSource(ticks * STEP, who)})
    recording = simulate(
        driven.network, (TICKS + 5) * STEP, engine="steps", options=Options(time_step=STEP)
    )
    lags = {name: round(lag / STEP) for name, lag in found.lags.items()}
    assert lags == {"in": 0, "a": 1, "b": 0, "c": 1}  # a -> b has 2 steps already
    for name in ("a", "b", "c"):
        assert not any(note.startswith(f"{name} starts at 0 s") for note in found.notes)
        times, neuron = recording.spikes(name)
        spikes = np.zeros((TICKS + 6, 5))
        spikes[np.rint(times / STEP).astype(int), neuron] = 1.0
        assert wanted[name].any()
        late = spikes[lags[name] : lags[name] + TICKS]
        np.testing.assert_array_equal(late, wanted[name], err_msg=name)


@given(
    leak=st.floats(-0.5, 0.5),
    bias=st.floats(-0.1, 0.1),
    tau=st.floats(2e-3, 50e-3),
    lag=st.floats(1e-4, 3e-3),
    synapse=st.none() | st.floats(2e-3, 50e-3),
)
@examples(60)
def test_set_back_undoes_the_time_between(leak, bias, tau, lag, synapse):
    """The matrix exponential carries the states at 0 s to those at the lag."""
    one, given_bias = np.ones(1), np.full(1, bias)
    if synapse is None:
        node, kind = nir.LIF(tau * one, one, leak * one, 9.0 * one, 0 * one), "LIF"
    else:
        node = nir.CubaLIF(synapse * one, tau * one, one, leak * one, 9.0 * one, 0 * one)
        kind = "CubaLIF"
    made = neurons("n", kind, node, (1,), given_bias, Reading())
    states = set_back(made, lag)
    assert states is not None
    fades = 0.0 if synapse is None else 1.0 / synapse
    rates = np.array(  # of V, g and the constant 1
        [[-1.0 / tau, 1.0 / tau, made.model.resting_voltage / tau], [0.0, -fades, 0.0], [0.0] * 3]
    )
    start = [np.asarray(states.get(key, 0.0)).item() for key in ("voltage", "excitatory")]
    voltage, current, _ = expm(rates * lag) @ [*start, 1.0]
    assert voltage == pytest.approx(0.0, abs=1e-9)
    wanted = np.asarray(made.initial.get("excitatory", 0.0)).item()
    assert current == pytest.approx(wanted, abs=1e-9)


def test_a_neuron_that_would_fire_before_starts_at_once():
    one = np.ones(2)
    graph = nir.NIRGraph.from_list(
        nir.Input([2]), nir.LIF(1e-3 * one, one, -one, 0.5 * one, 0.4 * one)
    )
    found = read_nir(graph, hop_delay=1e-3)
    assert any(note.startswith("lif starts at 0 s, not at 1 ms") for note in found.notes)
    assert found.network["lif"].initial == {}


def test_loops_of_several_layers_need_a_delay_for_each_hop():
    one = np.ones(2)

    def lif():
        return nir.LIF(0.01 * one, one, 0 * one, one, 0 * one)

    graph = nir.NIRGraph(
        {"in": nir.Input([2]), "a": lif(), "b": lif(), "out": nir.Output([2])},
        [("in", "a"), ("a", "b"), ("b", "a"), ("b", "out")],
    )
    with pytest.raises(ValueError, match="a loop of several populations takes less than 0.001 s"):
        read_nir(graph, time_step=1e-3)
    found = read_nir(graph, time_step=1e-3, loop_delay=2e-3)
    delays = {(p.source, p.target): p.synapses.delay for p in found.network.projections}
    assert delays["a", "b"] + delays["b", "a"] == pytest.approx(2e-3)
    assert min(delays.values()) >= 1e-3 * (1 - 1e-9)


@pytest.mark.parametrize("name", ["hop_delay", "loop_delay"])
def test_bad_delays(name):
    with pytest.raises(ValueError, match=f"expected {name} >= 0 s, got -1"):
        read_nir(layers(0), **{name: -1.0})


@pytest.mark.parametrize("step", [0.0, -1e-3, np.inf, np.nan])
def test_bad_time_steps(step):
    with pytest.raises(ValueError, match="expected a time step > 0 s"):
        read_nir(layers(0), time_step=step)
