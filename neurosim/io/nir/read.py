"""`read_nir`: a NIR graph as a network of populations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from neurosim.io.nir.graph import NEURONS, FlatGraph, load
from neurosim.io.nir.maps import Shape
from neurosim.io.nir.neurons import Neurons, neurons
from neurosim.io.nir.paths import Paths
from neurosim.io.nir.reading import Reading
from neurosim.io.nir.timing import retime, set_back
from neurosim.populations import (
    CrossbarSynapses,
    PoissonSource,
    Population,
    Projection,
    SparseSynapses,
    SpikeSource,
    SpikingNetwork,
)

ORDER = "neurosim_populations"
"""Key of the graph's metadata that keeps the order of our populations: HDF5 sorts by name."""
_HOP = 1e-4
_CONTINUOUS = (
    "read as continuous time, a spike a pulse of area 1 s; for a graph that snnTorch, Norse or "
    "SpikingJelly wrote give their time step (0.1 ms, 1 ms and 0.1 ms by default)"
)


@dataclass(frozen=True)
class ImportedNetwork:
    """A network that came from NIR.

    `inputs`: populations of Input nodes; `outputs`: Output node -> population it reads (of a
    population that never fires, the voltage is the output); `shapes`: population -> shape in NIR,
    numbered in C order; `lags`: population -> s that its spikes come later than in NIR; `notes`:
    what the reader should know, every approximation included.
    """

    network: SpikingNetwork
    inputs: tuple[str, ...]
    outputs: Mapping[str, str]
    shapes: Mapping[str, Shape]
    lags: Mapping[str, float]
    notes: tuple[str, ...]

    def with_inputs(self, sources: Mapping[str, SpikeSource | PoissonSource]) -> ImportedNetwork:
        """The same with spikes at some of the inputs."""
        unknown = sorted(set(sources) - set(self.inputs))
        if unknown:
            raise ValueError(f"expected inputs out of {', '.join(self.inputs)}, got {unknown[0]!r}")
        populations = tuple(
            Population(item.name, item.size, sources[item.name]) if item.name in sources else item
            for item in self.network
        )
        return replace(self, network=replace(self.network, populations=populations))

    def __repr__(self) -> str:
        ends = f"inputs {', '.join(self.inputs) or 'none'}; outputs {', '.join(self.outputs)}"
        return f"ImportedNetwork({self.network!r}; {ends})"


def read_nir(
    source: Any,
    *,
    time_step: float | None = None,
    inputs: Mapping[str, SpikeSource | PoissonSource] | None = None,
    hop_delay: float | None = None,
    loop_delay: float | None = None,
) -> ImportedNetwork:
    """Import a NIR graph.

    Args:
        source: a .nir file, or a `nir.NIRGraph`.
        time_step: None reads NIR's equations in continuous time, a spike as a Dirac pulse of area
            1 s. A number (s) reads them as the training frameworks step them: forward Euler, a
            spike as the number 1 during one step; simulate with the same time step then.
        inputs: Input node -> its spikes; without, an input is silent.
        hop_delay: s, what a spike takes from one population to the next at least; default: the
            time step, or 0.1 ms. NIR's edges take no time, but the engines need some. All ways to
            a population are made equally longer and its start as much later, so that it does what
            it does in NIR, later by `lags`. 0 keeps NIR's delays.
        loop_delay: s, of projections that close a loop and have none; default: the time step, as
            in the frameworks. Spikes that run in a circle in no time would have no order.

    Returns:
        the network, its inputs and outputs, and notes on what was changed.

    Raises:
        ValueError: a damaged file, or what cannot be carried, with the node's name and the reason.
    """
    reading = Reading(time_step)
    graph = load(source)
    paths = Paths(graph)
    names = _ordered(graph, [name for name in graph.nodes if paths.is_population(name)])
    if not names:
        raise ValueError("expected a graph with neurons or inputs, got none")
    signals = {name: paths.entering(name) for name in names if graph.kind(name) in NEURONS}
    hop = (time_step or _HOP) if hop_delay is None else hop_delay
    loop = time_step if loop_delay is None else loop_delay
    lags = retime(signals, _depths(graph, names), hop, loop)
    populations, projections = [], []
    notes = [_CONTINUOUS if time_step is None else _clocked(time_step)]
    if any(lags.values()):
        late = ", ".join(f"{name} {lag * 1e3:g} ms" for name, lag in lags.items() if lag)
        notes.append(f"{late} later than in NIR, whose edges take no time: a hop takes {hop:g} s")
    for name in names:
        shape = paths.shape(name)
        if name not in signals:
            silent = SpikeSource(np.zeros(0), np.zeros(0, np.int64))
            populations.append(Population(name, math.prod(shape), silent))
            continue
        made = _neurons(name, graph, shape, signals[name].bias, reading)
        initial = set_back(made, lags[name])
        if initial is None:
            initial = made.initial
            notes.append(
                f"{name} starts at 0 s, not at {lags[name] * 1e3:g} ms: its drift alone makes it "
                "fire in that time; its first spikes may differ"
            )
        populations.append(Population(name, math.prod(shape), made.model, initial))
        notes += [made.note] if made.note else []
        for source_name in [other for other in names if other in signals[name].parts]:
            part = signals[name].parts[source_name]
            synapses = _synapses(*part, made.jump, math.prod(paths.shape(source_name)))
            if synapses is None:
                notes.append(f"{source_name} -> {name}: all weights are 0; left out")
            else:
                projections.append(Projection(source_name, name, synapses, made.receptor))
    imported = ImportedNetwork(
        SpikingNetwork(tuple(populations), tuple(projections)),
        tuple(name for name in names if name not in signals),
        _outputs(graph, paths),
        {name: paths.shape(name) for name in names},
        lags,
        tuple(notes),
    )
    return imported.with_inputs(inputs) if inputs else imported


def _neurons(name: str, graph: FlatGraph, shape: Shape, bias: Any, reading: Reading) -> Neurons:
    try:
        return neurons(name, graph.kind(name), graph.nodes[name], shape, bias, reading)
    except ValueError as error:
        text = str(error)
        raise ValueError(text if text.startswith("node") else f"node {name}: {text}") from error


def _clocked(time_step: float) -> str:
    return (
        f"read as forward Euler on a clock of {time_step * 1e3:g} ms, a spike the number 1 during "
        "a step; it equals the framework's network on that clock (engine steps) only"
    )


def _ordered(graph: FlatGraph, names: list[str]) -> list[str]:
    """Our own order where the file has it; else inputs first, then by distance from them."""
    kept = graph.metadata.get(ORDER)
    if kept is not None:
        text = kept.decode() if isinstance(kept, bytes) else str(kept)
        wanted = [name for name in text.split("\n") if name in names]
        if sorted(wanted) == sorted(names):
            return wanted
    depth = _depths(graph, names)
    return sorted(names, key=lambda name: depth[name])


def _depths(graph: FlatGraph, names: list[str]) -> dict[str, int]:
    """Populations on the shortest way from an input, which has 0; unreached ones come last."""
    targets: dict[str, list[str]] = {}
    for source, target in graph.edges:
        targets.setdefault(source, []).append(target)
    chosen = set(names)
    depth = {name: 0 for name in names if graph.kind(name) == "Input"}
    front = [(name, 0) for name in depth]
    seen = set(depth)
    while front:
        name, level = front.pop(0)
        for target in targets.get(name, []):
            if target not in seen:
                seen.add(target)
                here = level + (target in chosen)
                if target in chosen:
                    depth[target] = here
                front.append((target, here))
    return {name: depth.get(name, len(names)) for name in names}


def _synapses(
    matrix: Any, ids: Any, delays: Any, jump: Any, source_size: int
) -> SparseSynapses | CrossbarSynapses | None:
    """Weights in the receptor's unit; a crossbar where every pair is joined with one delay."""
    entries = matrix.tocoo()
    target, column = entries.coords
    if not len(target):
        return None
    weight = entries.data * jump[target]
    pre, delay = ids[column], delays[column]
    one_delay = float(delay[0]) if np.all(delay == delay[0]) else None
    size = (source_size, matrix.shape[0])
    if one_delay is not None and len(target) == size[0] * size[1] > 1:
        full = np.zeros(size)
        full[pre, target] = weight
        return CrossbarSynapses(full, one_delay)
    same = bool(np.all(weight == weight[0]))
    return SparseSynapses.from_pairs(
        pre,
        target,
        float(weight[0]) if same else weight,
        delay if one_delay is None else one_delay,
        *size,
    )


def _outputs(graph: FlatGraph, paths: Paths) -> dict[str, str]:
    """Output node -> population; anything between the two cannot be carried."""
    outputs = {}
    leads_on = {source for source, _ in graph.edges}
    for name in graph.nodes:
        if graph.kind(name) != "Output" or name in leads_on:
            continue
        found = _behind(graph, paths, name)
        if len(found) != 1:
            what = f"reads {' and '.join(found)}" if found else "reads nothing"
            raise ValueError(
                f"node {name} (Output) {what}: expected the output of one node with neurons; end "
                "weights with a LIF or a LI"
            )
        outputs[name] = found[0]
    return outputs


def _behind(graph: FlatGraph, paths: Paths, name: str) -> list[str]:
    """Populations an Output reads, through the borders of nested graphs and Flatten only."""
    found: list[str] = []
    for source in graph.sources(name):
        if paths.is_population(source):
            found.append(source)
        elif graph.kind(source) in ("Input", "Output", "Flatten"):
            found += _behind(graph, paths, source)
        else:
            found.append(f"{source} ({graph.kind(source)})")
    bad = [item for item in found if item.endswith(")")]
    if bad:
        raise ValueError(
            f"node {name} (Output) reads {bad[0]}, weighted spikes without neurons: end them with "
            "a LIF, or with a LI to have their sum"
        )
    return found
