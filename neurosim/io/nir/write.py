"""`write_nir`: a network of populations as a NIR graph. What NIR cannot say is refused."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.files import replacing
from neurosim.io.nir.neurons import LONG
from neurosim.io.nir.package import nir_package
from neurosim.io.nir.read import ORDER
from neurosim.io.nir.reading import Reading
from neurosim.io.nir.refusals import DROPS, refusals, transformer_refusals
from neurosim.network import Network
from neurosim.populations import (
    LIF,
    CrossbarSynapses,
    CurrentLIF,
    PoissonSource,
    Population,
    Projection,
    SpikeSource,
    SpikingNetwork,
)

Floats = npt.NDArray[np.float64]
_MOST_WEIGHTS = 1 << 26  # of one Linear node, which is dense: 512 MB
_MOST_DELAYS = 32  # different ones of a projection: each is a Linear and a Delay of its own


def write_nir(
    network: SpikingNetwork | Network,
    path: str | Path,
    *,
    time_step: float | None = None,
    drop: Iterable[str] = (),
    outputs: Sequence[str] | None = None,
) -> tuple[str, ...]:
    """Write a NIR file; see `to_nir`. Whole or not at all; returns the notes."""
    graph, notes = to_nir(network, time_step=time_step, drop=drop, outputs=outputs)
    with replacing(Path(path)) as temporary:
        nir_package().write(temporary, graph)
    return notes


def to_nir(
    network: SpikingNetwork | Network,
    *,
    time_step: float | None = None,
    drop: Iterable[str] = (),
    outputs: Sequence[str] | None = None,
) -> tuple[Any, tuple[str, ...]]:
    """A `nir.NIRGraph` of the network, and notes on what is not in it.

    Args:
        network: populations of LIF, CurrentLIF (CubaLIF), of LIF without leak (IF), of neurons
            that never fire (LI, CubaLI, I), and spike sources (Input).
        time_step: None writes for continuous time (a spike is a pulse of area 1 s); a number (s)
            for frameworks with that clock, where a spike is the number 1 in a step. The same as
            in `read_nir`.
        drop: what may be lost: "initial", "refractory_period", "drives".
        outputs: populations that get an Output node; default: those that lead nowhere.

    Raises:
        ValueError: everything NIR cannot express, by name, with the reason. A lowered transformer
            (`neurosim.network.Network`) is refused node by node.
    """
    if isinstance(network, Network):
        reasons = transformer_refusals(network)
        raise ValueError(f"NIR cannot express this network: {'; '.join(reasons)}")
    dropped = frozenset(drop)
    if not dropped <= set(DROPS):
        raise ValueError(f"expected drop out of {', '.join(DROPS)}, got {sorted(dropped)}")
    found = refusals(network, dropped)
    if found:
        raise ValueError(f"NIR cannot express this network: {'; '.join(found)}")
    nir, reading = nir_package(), Reading(time_step)
    notes = [f"{DROPS[key]}: left out as asked" for key in sorted(dropped)]
    nodes: dict[str, Any] = {}
    edges: list[tuple[str, str]] = []
    biases: dict[str, Floats] = {}
    for population in network:
        nodes[population.name], biases[population.name] = _population(nir, population, reading)
        if isinstance(population.model, SpikeSource | PoissonSource):
            what = type(population.model).__name__
            notes.append(f"{population.name}: its spikes ({what}) are not in NIR, an Input is")
    for projection in network.projections:
        bias = biases.pop(projection.target, np.zeros(0))
        _projection(nir, projection, bias, nodes, edges)
    for name, bias in biases.items():
        if bias.any():
            raise ValueError(f"population {name}: a constant drive needs a projection to carry it")
    _outputs(nir, network, outputs, nodes, edges)
    order = "\n".join(population.name for population in network)
    checked = any(isinstance(node, nir.Input) for node in nodes.values())
    if not checked:
        notes.append("no Input: nir.read needs type_check=False for such a file")
    graph = nir.NIRGraph(nodes, edges, metadata={ORDER: order}, type_check=checked)
    return graph, tuple(notes)


def _population(nir: Any, population: Population, reading: Reading) -> tuple[Any, Floats]:
    """Its node, and the bias that its first projection must bring (neurons,)."""
    model, size = population.model, population.size
    none = np.zeros(size)
    if not isinstance(model, LIF):
        return nir.Input(np.array([size])), none
    get = population.parameter
    tau, rest, reset = get("time_constant"), get("resting_voltage"), get("reset_voltage")
    fires = bool(np.isfinite(get("threshold_voltage")).all())
    threshold = np.nextafter(get("threshold_voltage"), -np.inf)  # NIR fires above it
    if isinstance(model, CurrentLIF):
        return _current(nir, population, reading, fires, threshold)
    if np.isinf(tau).all():
        resistance = np.full(size, 1.0 / reading.area)
        return (nir.IF(resistance, threshold, reset) if fires else nir.I(resistance)), none
    if (tau == LONG).all():  # as an integrator with a bias is read
        resistance = np.full(size, 1.0 / reading.area)
        bias = rest / (LONG * resistance)
        return (nir.IF(resistance, threshold, reset) if fires else nir.I(resistance)), bias
    written = reading.discrete(tau)
    resistance = written / reading.area
    if fires:
        return nir.LIF(written, resistance, rest, threshold, reset), none
    return nir.LI(written, resistance, reset), (rest - reset) / resistance


def _current(
    nir: Any, population: Population, reading: Reading, fires: bool, threshold: Floats
) -> tuple[Any, Floats]:
    """CubaLIF or CubaLI. A current that starts at -g is a bias of g and so much less leak."""
    get, one = population.parameter, np.ones(population.size)
    used_by_both = get("excitatory_time_constant")
    tau, synapse = (reading.discrete(value) for value in (get("time_constant"), used_by_both))
    weight = 1.0 / reading.current_jump(one, synapse, tau)  # w_in that makes weights ours
    start = np.broadcast_to(np.asarray(population.initial.get("excitatory", 0.0)), one.shape)
    bias = -start * reading.area / synapse
    leak = get("resting_voltage") - weight * bias
    if fires:
        return nir.CubaLIF(synapse, tau, one, leak, threshold, get("reset_voltage"), weight), bias
    if not np.allclose(leak, get("reset_voltage"), rtol=1e-9, atol=1e-15):
        raise ValueError(
            f"population {population.name}: never fires and starts away from its rest; a NIR "
            "CubaLI starts at v_leak"
        )
    return nir.CubaLI(synapse, tau, one, leak, weight), bias


def _projection(
    nir: Any,
    projection: Projection,
    bias: Floats,
    nodes: dict[str, Any],
    edges: list[tuple[str, str]],
) -> None:
    """One Scale or Linear (Affine with a bias) for each delay, and its Delay."""
    synapses = projection.synapses
    where = f"projection {projection.source} -> {projection.target}"
    pre, post, weight, delay = _entries(synapses)
    shape = (synapses.target_count, synapses.source_count)
    different = np.unique(delay)
    if len(different) > _MOST_DELAYS:
        raise ValueError(
            f"{where}: {len(different)} different delays; NIR delays whole layers, and at most "
            f"{_MOST_DELAYS} of them are written for a projection; round the delays"
        )
    diagonal = shape[0] == shape[1] == len(pre) and np.array_equal(pre, post)
    diagonal = diagonal and len(different) == 1 and len(np.unique(pre)) == len(pre)
    if not diagonal and shape[0] * shape[1] > _MOST_WEIGHTS:
        raise ValueError(
            f"{where}: {shape[0]} x {shape[1]} weights; NIR's Linear is dense, and at most "
            f"{_MOST_WEIGHTS} weights are written for one; split the populations"
        )
    for value in different if len(different) else np.zeros(1):
        chosen = delay == value
        if diagonal and not bias.any():
            scale = np.zeros(shape[0])
            scale[pre] = weight
            node = nir.Scale(scale)
        else:
            matrix = np.zeros(shape)
            np.add.at(matrix, (post[chosen], pre[chosen]), weight[chosen])
            node = nir.Affine(matrix, bias) if bias.any() else nir.Linear(matrix)
            bias = np.zeros(0)
        chain = [node] if value == 0.0 else [node, nir.Delay(np.full(shape[0], value))]
        names = [_free(nodes, f"{projection.source}_to_{projection.target}", item, chain)
                 for item in chain]  # fmt: skip
        path = [projection.source, *names, projection.target]
        edges += itertools.pairwise(path)


def _free(nodes: dict[str, Any], base: str, node: Any, chain: list[Any]) -> str:
    """Enter the node under a new name."""
    name = base if node is chain[0] else f"{base}_delay"
    for number in itertools.count(1):
        full = name if number == 1 else f"{name}_{number}"
        if full not in nodes:
            break
    nodes[full] = node
    return full


def _entries(synapses: Any) -> tuple[Any, Any, Floats, Floats]:
    """Source, target, weight and delay of every synapse."""
    if isinstance(synapses, CrossbarSynapses):
        synapses = synapses.sparse()
    pre = np.repeat(np.arange(synapses.source_count), np.diff(synapses.offsets))
    size = len(pre)
    weight = np.broadcast_to(np.asarray(synapses.weight, np.float64), (size,))
    delay = np.broadcast_to(np.asarray(synapses.delay, np.float64), (size,))
    return pre, np.asarray(synapses.targets, np.int64), weight, delay


def _outputs(
    nir: Any,
    network: SpikingNetwork,
    outputs: Sequence[str] | None,
    nodes: dict[str, Any],
    edges: list[tuple[str, str]],
) -> None:
    """Output nodes of the named populations, or of those that lead nowhere, or of all neurons."""
    if outputs is None:
        sending = {item.source for item in network.projections}
        neurons = [item.name for item in network if not item.is_source]
        outputs = [name for name in neurons if name not in sending] or neurons
    for name in outputs:
        size = network[name].size
        output = "output" if len(outputs) == 1 else f"{name}_output"
        while output in nodes:
            output += "_"
        nodes[output] = nir.Output(np.array([size]))
        edges.append((name, output))
