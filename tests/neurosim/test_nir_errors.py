"""What NIR and we cannot both say is refused by name, and damaged files are named."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np
import pytest
from engine_networks import every_node
from test_nir_round_trip import every_kind

pytest.importorskip("nir", reason="the extra nir is not installed")
import h5py
import nir

from neurosim.devices.preset import load_device
from neurosim.io.nir import read_nir, to_nir, write_nir
from neurosim.network import Accumulator, AttentionUnit, DelayCrossbar, Embedding, NeuronBank
from neurosim.populations import (
    LIF,
    ConductanceLIF,
    CurrentLIF,
    NetworkBuilder,
    PoissonSource,
    SwitchNeuron,
    brunel,
    coba,
    cuba,
)

ONE = np.ones(2)


def lif(**other):
    values = {
        "tau": 0.01 * ONE,
        "r": ONE,
        "v_leak": 0 * ONE,
        "v_threshold": ONE,
        "v_reset": 0 * ONE,
    }
    return nir.LIF(**{**values, **other})  # fmt: skip


def graph(*nodes, edges=None):
    """Named input, n1, n2, ..., output in a chain, unchecked."""
    names = ["input", *(f"n{i + 1}" for i in range(len(nodes))), "output"]
    all_nodes = [nir.Input([2]), *nodes, nir.Output([2])]
    edges = edges or list(zip(names, names[1:], strict=False))
    return nir.NIRGraph(dict(zip(names, all_nodes, strict=True)), edges, type_check=False)


@pytest.mark.parametrize(
    "made, message",
    [
        (graph(nir.Linear(np.full((2, 2), np.nan)), lif()), r"node n1: expected a finite weight"),
        (graph(nir.Linear(np.eye(3)), lif()), r"node n1: expected an input of shape \(3,\)"),
        (graph(nir.Delay(-ONE), lif()), r"node n1: expected delays >= 0 s, got -1"),
        (graph(lif(tau=0 * ONE)), r"node n1 \(LIF\): expected tau > 0 s"),
        (graph(lif(v_reset=2 * ONE)), r"node n1: .*reset_voltage below threshold"),
        (graph(lif(tau=np.array([np.inf, 1]))), r"node n1 \(LIF\): expected a finite tau"),
        (graph(nir.LI(ONE, ONE, ONE), lif()), r"node n1 \(LI\) sends its voltage"),
        (graph(nir.I(ONE), nir.Threshold(ONE)), r"node n1 \(I\) sends its voltage"),
        (graph(lif(), nir.Linear(np.eye(2))), r"output \(Output\) reads n2 \(Linear\)"),
        (graph(nir.Scale(np.ones(5)), lif()), r"node n1: expected scale of shape \(2,\)"),
        (graph(nir.Affine(np.eye(2), np.ones(3)), lif()), r"node n1: expected a bias"),
        (
            graph(nir.Conv2d((1, 2), np.ones((1, 1, 3, 3)), 1, 0, 1, 1, np.zeros(1)), lif()),
            r"node n1: expected an input of 3 axes",
        ),
        (
            graph(nir.Scale(ONE), nir.Scale(ONE), lif(),
                  edges=[("input", "n1"), ("n1", "n2"), ("n2", "n1"), ("n2", "n3")]),
            r"a loop without neurons",
        ),
        (graph(lif(), edges=[("input", "nobody")]), r"no node called nobody"),
        (graph(lif(), edges=[("input", "n1")] * 2), r"input -> n1 is there twice"),
        (graph(lif(), edges=[("input", "n1")]), r"output \(Output\) reads nothing"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_graphs_that_are_refused(made, message):
    with pytest.raises(ValueError, match=message):
        read_nir(made)


def test_a_time_step_longer_than_a_time_constant_is_refused():
    with pytest.raises(ValueError, match=r"node n1 \(LIF\): .*at least the time step 0.02 s"):
        read_nir(graph(lif()), time_step=0.02)


def test_a_nested_graph_with_two_inputs_is_refused():
    inner = nir.NIRGraph(
        {"a": nir.Input([2]), "b": nir.Input([2]), "lif": lif(), "out": nir.Output([2])},
        [("a", "lif"), ("b", "lif"), ("lif", "out")],
    )
    with pytest.raises(ValueError, match="nested graph n1: expected one Input node, got 2"):
        read_nir(graph(inner))


def test_a_node_of_ones_own_is_refused_by_name():
    @dataclass(eq=False)
    class Izhikevich(nir.ir.NIRNode):
        a: np.ndarray

        def __post_init__(self):
            self.input_type, self.output_type = {"input": [2]}, {"output": [2]}

    with pytest.raises(ValueError, match="node n2: NIR type Izhikevich is not carried"):
        read_nir(graph(lif(), Izhikevich(ONE)))


def test_files(tmp_path):
    path = tmp_path / "network.nir"
    with pytest.raises(ValueError, match="no such file"):
        read_nir(path)
    write_nir(every_kind(), path)
    whole = path.read_bytes()
    for length in (0, 100, len(whole) // 2):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"network.nir: cannot be read as NIR"):
            read_nir(path)
    path.write_bytes(whole)
    with h5py.File(path, "a") as file:
        del file["node/nodes/leaky/type"]
        file["node/nodes/leaky/type"] = "Izhikevich"
    with pytest.raises(ValueError, match=r"node leaky: type 'Izhikevich' is unknown to nir"):
        read_nir(path)


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "nir", None)
    with pytest.raises(ValueError, match=r"pip install \"neurosim-memristor\[nir\]\""):
        read_nir("network.nir")


def cells(model, size=2, **initial):
    build = NetworkBuilder()
    noise = build.population("noise", size, PoissonSource(5.0))
    target = build.population("cells", size, model, **initial)
    receptor = model.receptors[0]
    build.connect(noise, target, weight=0.1, delay=0.0, one_to_one=True, receptor=receptor)
    return build, noise, target


@pytest.mark.parametrize(
    "model, message",
    [
        (SwitchNeuron(load_device("ag_v2c_w")), r"population cells: SwitchNeuron: NIR has no"),
        (ConductanceLIF(), r"population cells: ConductanceLIF: NIR's synapses are currents"),
        (LIF(refractory_period=1e-3), r"population cells: a refractory period"),
        (LIF(time_constant=np.array([1.0, np.inf])), r"population cells: some neurons leak"),
        (LIF(threshold_voltage=np.array([1.0, np.inf])), r"population cells: some neurons fire"),
        (CurrentLIF(time_constant=np.inf), r"population cells: synaptic currents without"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_models_that_nir_does_not_have(model, message):
    with pytest.raises(ValueError, match=message):
        to_nir(cells(model)[0].network())


def test_numbers_that_nir_does_not_have():
    build, noise, target = cells(LIF(), voltage=1e-3)
    with pytest.raises(
        ValueError, match=r"population cells: initial voltage.*drop=\(\"initial\",\)"
    ):
        to_nir(build.network())
    assert to_nir(build.network(), drop=["initial"])[1][0] == "states at t = 0: left out as asked"
    build, noise, target = cells(LIF())
    build.drive(target, rate=1.0, weight=1.0, receptor="voltage")
    with pytest.raises(ValueError, match="Poisson drive of cells"):
        to_nir(build.network())
    with pytest.raises(ValueError, match="expected drop out of initial"):
        to_nir(build.network(), drop=["spikes"])
    build, noise, target = cells(LIF(), size=40)
    delays = np.arange(40) * 1e-4
    ids = np.arange(40)
    build.connect(noise, target, weight=1.0, delay=delays, pairs=(ids, ids))
    with pytest.raises(ValueError, match="projection noise -> cells: 40 different delays"):
        to_nir(build.network())
    build, noise, target = cells(CurrentLIF())
    build.connect(noise, target, weight=1.0, delay=0.0, receptor="inhibitory")
    with pytest.raises(ValueError, match="population cells: two synaptic time constants"):
        to_nir(build.network())
    build, _, _ = cells(LIF())
    build.population("a/b", 1, LIF())
    with pytest.raises(ValueError, match='population a/b: a name in HDF5 has no "/"'):
        to_nir(build.network())


def test_a_network_without_inputs_comes_back(tmp_path):
    build = NetworkBuilder()
    alone = build.population("alone", 3, LIF(10e-3, 1.2, 1.0, 0.0))
    build.connect(alone, alone, weight=-0.1, delay=2e-3, one_to_one=True)
    notes = write_nir(build.network(), tmp_path / "a.nir")
    assert notes == ("no Input: nir.read needs type_check=False for such a file",)
    found = read_nir(tmp_path / "a.nir")
    assert found.inputs == () and found.network.synapse_count == 3


def test_nothing_is_written_when_refused(tmp_path):
    for network in (brunel(50), coba(50), cuba(50)):
        with pytest.raises(ValueError, match="NIR cannot express this network"):
            write_nir(network, tmp_path / "a.nir")
    assert list(tmp_path.iterdir()) == []


def test_every_refusal_of_a_network_is_told_at_once():
    with pytest.raises(ValueError) as found:
        to_nir(cuba(50))
    for cell in ("excitatory", "inhibitory"):
        for reason in ("a refractory period", "initial voltage", "two synaptic time constants"):
            assert f"population {cell}: {reason}" in str(found.value)


def test_a_transformer_is_refused_node_by_node():
    with pytest.raises(ValueError) as found:
        to_nir(every_node())
    refused = {line.split(" (")[0].split(": ")[-1] for line in str(found.value).split("; ")}
    kinds = (Embedding, DelayCrossbar, NeuronBank, AttentionUnit, Accumulator)
    assert refused == {node.name for kind in kinds for node in every_node().of(kind)}
