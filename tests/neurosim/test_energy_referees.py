"""Our counts and the tools of the field: NeuroBench 2.3 and SpikingJelly 2.0, where installed.

`.ci/referees FOLDER` makes an environment with both; without them these tests are skipped.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from neurosim.energy.lemaire import LemaireEnergy, LemaireLayer, network_energy
from neurosim.energy.operations import InputClass
from neurosim.energy.products import convolution, linear, pairs
from neurosim.energy.published import operations_only

torch = pytest.importorskip("torch", reason="torch is not installed; see .ci/referees")
neurobench = pytest.importorskip(
    "neurobench.metrics.utils.layers", reason="neurobench is not installed"
)
counters = pytest.importorskip(
    "spikingjelly.activation_based.op_counter", reason="spikingjelly is not installed"
)
neurons = pytest.importorskip("spikingjelly.activation_based.neuron")

NETS = 50
CLASSES = ("binary", "ternary", "graded", "real", "scaled")
KINDS = {"binary": InputClass("binary"), "ternary": InputClass("ternary")}


def draw(kind: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Inputs of one class; "scaled" are {0, 0.5}."""
    if kind == "real":
        return rng.standard_normal(shape) * (rng.random(shape) < 0.8)
    low, high = {"binary": (0, 1), "ternary": (-1, 1), "graded": (0, 4), "scaled": (0, 1)}[kind]
    values = rng.integers(low, high + 1, shape).astype(np.float64)
    return values * 0.5 if kind == "scaled" else values


def random_layer(seed: int) -> tuple[Any, dict[str, Any]]:
    """A linear layer or a 1-D convolution with many zero weights, and its input's shape."""
    rng = np.random.default_rng(seed)
    bias = bool(rng.integers(2))
    if seed % 2:
        fan_in, fan_out = (int(n) for n in rng.integers(1, 40, 2))
        layer = torch.nn.Linear(fan_in, fan_out, bias=bias)
        shape: tuple[int, ...] = (int(rng.integers(1, 30)), fan_in)
        settings = {}
    else:
        groups = int(rng.integers(1, 3))
        kernel, stride, dilation = (int(n) for n in rng.integers(1, 4, 3))
        padding = int(rng.integers(0, 3))
        inside, outside = (groups * int(n) for n in rng.integers(1, 7, 2))
        layer = torch.nn.Conv1d(
            inside, outside, kernel, stride, padding, dilation, groups, bias=bias
        )
        shape = (int(rng.integers(1, 4)), inside, int(rng.integers(8, 20)))
        settings = {
            "stride": (stride,),
            "padding": ((padding, padding),),
            "dilation": (dilation,),
            "groups": groups,
        }
    with torch.no_grad():
        layer.weight *= torch.from_numpy((rng.random(layer.weight.shape) < 0.6).astype(np.float32))
    return layer, {"shape": shape, "settings": settings}


def ours(layer: Any, x: np.ndarray, kind: str, settings: dict[str, Any]) -> Any:
    weight = layer.weight.detach().numpy()
    declared = KINDS.get(kind, InputClass())
    if not settings:
        return linear("layer", x, weight, declared, layer.bias is not None)
    return convolution(
        "layer",
        x.transpose(0, 2, 1),
        weight.transpose(0, 2, 1),
        declared,
        layer.bias is not None,
        **settings,
    )


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("seed", range(NETS))
def test_neurobench_counts_the_same_operations(seed: int, kind: str) -> None:
    layer, made = random_layer(seed)
    x = draw(kind, made["shape"], np.random.default_rng(1000 + seed))
    found = ours(layer, x, kind, made["settings"])
    tensor = torch.from_numpy(x.astype(np.float32))
    with torch.no_grad():
        effective, spiking = neurobench.single_layer_MACs(tensor, layer)
        dense, _ = neurobench.single_layer_MACs(tensor, layer, total=True)
    assert found.effective == effective
    assert found.dense == dense
    if kind in KINDS and (x != 0).any():
        assert spiking and found.multiplies == 0


@pytest.mark.parametrize("seed", range(NETS))
def test_spikingjelly_counts_the_same_synaptic_operations(seed: int) -> None:
    layer, made = random_layer(seed)
    x = draw("binary", made["shape"], np.random.default_rng(2000 + seed))
    found = ours(layer, x, "binary", made["settings"])
    counter = counters.SynOpCounter()
    with torch.no_grad(), counters.DispatchCounterMode([counter]):
        layer(torch.from_numpy(x.astype(np.float32)))
    assert found.synaptic_operations == counter.get_total()


def test_spikingjelly_counts_the_same_coincidences() -> None:
    rng = np.random.default_rng(0)
    a, b = draw("binary", (3, 7, 5), rng), draw("binary", (3, 5, 6), rng)
    found = pairs("attention", "scores", a, b, KINDS["binary"], KINDS["binary"])
    counter = counters.SynOpCounter()
    with torch.no_grad(), counters.DispatchCounterMode([counter]):
        torch.bmm(torch.from_numpy(a).float(), torch.from_numpy(b).float())
    assert found.effective == counter.get_total()


def test_weight_bias_and_state_bytes_are_those_of_spikingjelly() -> None:
    """At one row per weight fetch: 4 bytes for each synaptic operation, bias and membrane."""
    rng = np.random.default_rng(1)
    layer, neuron = torch.nn.Linear(9, 6), neurons.IFNode(step_mode="s")
    x = draw("binary", (5, 9), rng)
    found = linear("fc", x, layer.weight.detach().numpy(), KINDS["binary"], bias=True)
    net = torch.nn.Sequential(layer, neuron)
    counter = counters.NeuromorphicMemoryAccessCounter()
    with torch.no_grad(), counters.ModuleCounterMode([counter], model=net):
        net(torch.from_numpy(x).float())
    total = counter.get_counts()["Global"]
    assert total["weight_read_bytes"] == 4 * found.synaptic_operations
    assert total["bias_read_bytes"] == 4 * found.bias_additions
    assert total["neuron_state_read_bytes"] == total["neuron_state_write_bytes"] == 4 * 5 * 6


def spiking_run(seed: int, leaky: bool) -> tuple[Any, list[LemaireLayer], Any]:
    """A network of linear layers and neurons, what its layers saw, and its input."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    sizes = [int(n) for n in rng.integers(3, 300, 3)]
    batch, bias = int(rng.integers(1, 5)), bool(rng.integers(2))
    node = neurons.LIFNode if leaky else neurons.IFNode
    parts = []
    for fan_in, fan_out in zip(sizes[:-1], sizes[1:], strict=True):
        parts += [torch.nn.Linear(fan_in, fan_out, bias=bias), node(v_threshold=0.2)]
    x = torch.from_numpy(draw("binary", (batch, sizes[0]), rng)).float()
    layers, value = [], x
    with torch.no_grad():
        for i in range(0, len(parts), 2):
            out = parts[i + 1](parts[i](value))
            layers.append(
                LemaireLayer(
                    parts[i].in_features,
                    parts[i].out_features,
                    batch,
                    bias,
                    int(value.sum()),
                    int(out.sum()),
                    leaky=leaky,
                )
            )
            value = out
            parts[i + 1].reset()
    return torch.nn.Sequential(*parts), layers, x


@pytest.mark.parametrize("leaky", [False, True])
@pytest.mark.parametrize("seed", range(10))
def test_lemaire_energy_is_that_of_spikingjelly(seed: int, leaky: bool) -> None:
    net, layers, x = spiking_run(seed, leaky)
    theirs = counters.estimate_lemaire_energy(net, x)
    mine = network_energy(layers)
    for name, part in (
        ("ops_pj", mine.operations),
        ("addressing_pj", mine.addressing),
        ("inout_pj", mine.inputs_outputs),
        ("params_pj", mine.parameters),
        ("potential_pj", mine.potentials),
    ):
        assert part * 1e12 == pytest.approx(theirs.breakdown_pj[name], rel=1e-9), name
    assert mine.total * 1e12 == pytest.approx(theirs.total_pj, rel=1e-9)


def test_lemaire_energy_of_a_dense_network_is_that_of_spikingjelly() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(40, 30), torch.nn.Linear(30, 7, bias=False))
    x = torch.randn(6, 40)
    theirs = counters.estimate_lemaire_energy(net, x)
    mine = network_energy([LemaireLayer(40, 30, 6, True), LemaireLayer(30, 7, 6)])
    assert isinstance(mine, LemaireEnergy)
    assert mine.total * 1e12 == pytest.approx(theirs.total_pj, rel=1e-9)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_operations_only_is_the_simple_profile_of_spikingjelly(precision: str) -> None:
    cost = getattr(counters.SimpleEnergyCostConfig, precision)()
    config = counters.SimpleEnergyConfig(cost_config=cost)
    layer, rng = torch.nn.Linear(12, 5, bias=False), np.random.default_rng(3)
    spikes, reals = draw("binary", (4, 12), rng), draw("real", (4, 12), rng)
    for x, kind in ((spikes, "binary"), (reals, "real")):
        theirs = counters.estimate_simple_energy(layer, torch.from_numpy(x).float(), config=config)
        found = linear("fc", x, layer.weight.detach().numpy(), KINDS.get(kind, InputClass()))
        macs, additions = (0, found.synaptic_operations) if kind == "binary" else (found.dense, 0)
        mine = operations_only(macs, additions, precision)
        assert mine * 1e12 == pytest.approx(theirs.energy_compute_pj, rel=1e-9)
