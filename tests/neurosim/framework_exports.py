"""Small networks of our own in snnTorch, Norse and SpikingJelly: NIR exports and spikes.

Run in an environment that has the three to write tests/data/nir_<name>.npz anew:
    PYTHONPATH=tests/neurosim python tests/neurosim/framework_exports.py
Each file keeps the bytes of the .nir file, the input spikes (T, N) and the framework's own output:
spikes (T, N) of each spiking layer, and the membrane (T, N) of a last layer that never fires.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

DATA = Path(__file__).parents[1] / "data"
TICKS = 60
SNNTORCH_STEP, NORSE_STEP, SPIKINGJELLY_STEP = 1e-4, 1e-3, 1e-4


@dataclass(frozen=True)
class Export:
    """A framework's NIR file (bytes), input, and forward pass."""

    file: np.ndarray
    time_step: float
    spikes_in: np.ndarray
    layers: dict[str, np.ndarray]

    @classmethod
    def load(cls, name: str) -> Export:
        with np.load(DATA / f"nir_{name}.npz") as data:
            layers = {k[6:]: data[k] for k in data.files if k.startswith("layer_")}
            return cls(data["nir"], float(data["time_step"]), data["spikes_in"], layers)

    def save(self, name: str) -> None:
        layers = {f"layer_{key}": value for key, value in self.layers.items()}
        np.savez_compressed(
            DATA / f"nir_{name}.npz",
            nir=self.file,
            time_step=self.time_step,
            spikes_in=self.spikes_in,
            **layers,
        )


def _all_nodes(graph: object) -> list[object]:
    inside = [_all_nodes(n) if hasattr(n, "nodes") else [n] for n in graph.nodes.values()]
    return [node for part in inside for node in part]


def _bytes(graph: object) -> np.ndarray:
    import nir

    for node in _all_nodes(graph):  # Norse's parameters are torch numbers without axes
        for key, value in vars(node).items():
            if hasattr(value, "detach") or (isinstance(value, np.ndarray) and not value.ndim):
                setattr(node, key, np.atleast_1d(np.asarray(value)))
    with tempfile.TemporaryDirectory() as folder:
        nir.write(Path(folder) / "a.nir", graph)
        return np.frombuffer((Path(folder) / "a.nir").read_bytes(), np.uint8)


def _input(seed: int, *shape: int) -> np.ndarray:
    return (np.random.default_rng(seed).random((TICKS, *shape)) < 0.3).astype(np.float32)


def _linear(inputs: int, outputs: int):
    import torch

    layer = torch.nn.Linear(inputs, outputs)
    torch.nn.init.uniform_(layer.weight, -0.3, 0.5)
    torch.nn.init.uniform_(layer.bias, -0.05, 0.05)
    return layer


def snntorch(reset: str = "zero", reset_delay: bool = False) -> Export:
    """Linear, Leaky, Linear, Leaky."""
    import snntorch as snn
    import torch
    from snntorch.export_nir import export_to_nir

    torch.manual_seed(1)
    options = {"reset_mechanism": reset, "reset_delay": reset_delay}
    first = snn.Leaky(beta=torch.full((15,), 0.9), threshold=torch.ones(15), **options)
    second = snn.Leaky(beta=torch.full((6,), 0.8), threshold=torch.ones(6) * 1.5, **options)
    in_first, in_second = _linear(12, 15), _linear(15, 6)
    graph_first = snn.Leaky(
        beta=torch.full((15,), 0.9), threshold=torch.ones(15), init_hidden=True, **options
    )
    graph_second = snn.Leaky(
        beta=torch.full((6,), 0.8),
        threshold=torch.ones(6) * 1.5,
        init_hidden=True,
        output=True,
        **options,
    )
    net = torch.nn.Sequential(in_first, graph_first, in_second, graph_second)
    graph = export_to_nir(net, torch.zeros(1, 12), ignore_dims=[0])
    spikes_in = _input(1, 12)
    state_first, state_second = first.init_leaky(), second.init_leaky()
    found = {"1": [], "3": []}
    with torch.no_grad():
        for row in torch.as_tensor(spikes_in):
            out, state_first = first(in_first(row[None]), state_first)
            found["1"].append(out[0].numpy())
            out, state_second = second(in_second(out), state_second)
            found["3"].append(out[0].numpy())
    return Export(
        _bytes(graph), SNNTORCH_STEP, spikes_in, {k: np.stack(v) for k, v in found.items()}
    )


def recurrent() -> Export:
    """snnTorch again: Linear, RLeaky (all to all: a nested graph in NIR), Linear, Leaky."""
    import snntorch as snn
    import torch
    from snntorch.export_nir import export_to_nir

    torch.manual_seed(4)
    options = {"reset_mechanism": "zero", "reset_delay": False}
    in_first, in_second = _linear(12, 10), _linear(10, 4)
    back = _linear(10, 10)
    beta, threshold = torch.full((10,), 0.9), torch.ones(10)

    def loop(**more: object) -> object:
        layer = snn.RLeaky(
            beta=beta, threshold=threshold, all_to_all=True, linear_features=10, **options, **more
        )
        layer.recurrent = back
        return layer

    last = {"beta": torch.full((4,), 0.8), "threshold": torch.ones(4), **options}
    graph = export_to_nir(
        torch.nn.Sequential(
            in_first, loop(init_hidden=True), in_second,
            snn.Leaky(init_hidden=True, output=True, **last),
        ),
        torch.zeros(1, 12),
        ignore_dims=[0],
    )  # fmt: skip
    first, second = loop(), snn.Leaky(**last)
    spikes_in = _input(4, 12)
    out, state_first = first.init_rleaky()
    state_second = second.init_leaky()
    found = {"1.lif": [], "3": []}
    with torch.no_grad():
        for row in torch.as_tensor(spikes_in):
            out, state_first = first(in_first(row[None]), out, state_first)
            found["1.lif"].append(out[0].numpy())
            spikes, state_second = second(in_second(out), state_second)
            found["3"].append(spikes[0].numpy())
    layers = {key: np.stack(value) for key, value in found.items()}
    return Export(_bytes(graph), SNNTORCH_STEP, spikes_in, layers)


def norse() -> Export:
    """Linear, LIFBox (delta synapses), Linear, LIF (currents), Linear, LIBox (no spikes)."""
    import norse.torch as nt
    import torch
    from norse.torch.utils.export_nir import to_nir

    torch.manual_seed(2)
    parts = [_linear(12, 15), nt.LIFBoxCell(), _linear(15, 10), nt.LIFCell(), _linear(10, 4)]
    with torch.no_grad():
        for part in (parts[0], parts[2]):
            part.weight *= 8.0
    net = nt.SequentialState(*parts, nt.LIBoxCell())
    graph = to_nir(net, torch.zeros(1, 12), dt=1.0)  # 1.1.0 multiplies time constants by dt
    # A spike adds w to the current in Norse, w h / tau_syn in NIR; 1.1.0 leaves w_in at 1.
    graph.nodes["3"].w_in = graph.nodes["3"].tau_syn / NORSE_STEP
    spikes_in = _input(2, 12)
    state: list[object] = [None, None, None]
    found = {"1": [], "3": [], "5": []}
    with torch.no_grad():
        for row in torch.as_tensor(spikes_in):
            out, state[0] = net[1](net[0](row[None]), state[0])
            found["1"].append(out[0].numpy())
            out, state[1] = net[3](net[2](out), state[1])
            found["3"].append(out[0].numpy())
            out, state[2] = net[5](net[4](out), state[2])
            found["5"].append(out[0].numpy())
    return Export(_bytes(graph), NORSE_STEP, spikes_in, {k: np.stack(v) for k, v in found.items()})


def spikingjelly() -> Export:
    """Conv2d, LIF, AvgPool2d, Flatten, Linear, IF, Linear, CUBA LIF."""
    import torch
    from spikingjelly.activation_based import layer, neuron
    from spikingjelly.activation_based.nir_exchange.to_nir import export_to_nir

    torch.manual_seed(3)
    convolution = layer.Conv2d(2, 3, 3, padding=1, stride=2)
    torch.nn.init.uniform_(convolution.weight, -0.5, 1.0)
    dense = layer.Linear(12, 8)
    torch.nn.init.uniform_(dense.weight, -0.5, 1.0)
    last = layer.Linear(8, 5)
    torch.nn.init.uniform_(last.weight, -0.3, 0.8)
    net = torch.nn.Sequential(
        convolution,
        neuron.LIFNode(tau=4.0, decay_input=True),
        layer.AvgPool2d(2),
        layer.Flatten(),
        dense,
        neuron.IFNode(),
        last,
        neuron.CUBALIFNode(c_decay=0.5, v_decay=0.75, v_reset=0.0),
    )
    graph = export_to_nir(net, torch.zeros(1, 2, 8, 8), dt=SPIKINGJELLY_STEP)
    spikes_in = _input(3, 2, 8, 8)
    found = {"_1": [], "_5": [], "_7": []}
    with torch.no_grad():
        for row in torch.as_tensor(spikes_in):
            out = row[None]
            for number, part in enumerate(net):
                out = part(out)
                if f"_{number}" in found:
                    found[f"_{number}"].append(out[0].numpy().ravel())
    layers = {key: np.stack(value) for key, value in found.items()}
    return Export(_bytes(graph), SPIKINGJELLY_STEP, spikes_in.reshape(TICKS, -1), layers)


if __name__ == "__main__":
    for make in (snntorch, recurrent, norse, spikingjelly):
        export = make()
        export.save(make.__name__)
        print(make.__name__, {key: value.sum() for key, value in export.layers.items()})
