"""SANA-FE export: a mapped network and an architecture as YAML, so that its users can cross-check.

Format and semantics: SANA-FE 2.2 (Boyle et al., IEEE TCAD 44(8), 2025), its READMEs and its
leaky_integrate_fire model. Time goes in steps. In each, every soma does
    V <- trunc(64 decay V) / 64, V <- V + input of the step before; V > threshold fires: V <- reset
so a synapse takes one step. What that means here:

- a delay of d steps is a chain of d - 1 relay neurons (one for each source neuron);
- potentials start at 0 and have a step behind them when step 0 is over: voltages are counted from
  where the neuron would have been a step before its start, and the way to the resting voltage is a
  bias;
- they are multiplied by a power of two, about 2^20 at the threshold, so that the cut to 1/64 is
  1.5e-8 of it (SANA-FE holds 64 V in 32 bits: |V| must stay below about 32 thresholds);
- "at or above the threshold" is "above the number below it".

The architecture is one tile per core with costs of 0: it checks spikes, not energy. Put your
chip's numbers in.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.files import replace_file
from neurosim.populations import (
    LIF,
    CrossbarSynapses,
    CurrentLIF,
    Population,
    SpikeSource,
    SpikingNetwork,
)

Floats = npt.NDArray[np.float64]
_SCALED_THRESHOLD = 20  # exponent of two
_SMALLEST_DECAY = 1e-3  # a step; below it the state before the start says nothing
_DIRECTIONS = ("north", "east", "south", "west")


@dataclass(frozen=True)
class SanafeExport:
    """Where the files are, and how to read what SANA-FE says.

    `groups`: population -> group; `steps`: time steps to simulate; a spike in step n is at
    n `time_step`; `relays`: neurons that only delay; `notes`: what differs.
    """

    architecture: Path
    network: Path
    groups: dict[str, str]
    time_step: float
    steps: int
    relays: int
    notes: tuple[str, ...]


def export(
    network: SpikingNetwork,
    folder: str | Path,
    *,
    time_step: float,
    duration: float,
    neurons_per_core: int = 1024,
) -> SanafeExport:
    """Write architecture.yaml and network.yaml.

    Args:
        network: populations of LIF (delta synapses) and SpikeSource, delays of whole steps.
        folder: made if missing.
        time_step: s.
        duration: s; input spikes up to then are written.
        neurons_per_core: neurons are mapped to cores in order.

    Raises:
        ValueError: what SANA-FE's leaky_integrate_fire cannot do, by name, with the reason.
    """
    if not (time_step > 0.0 and duration > 0.0 and neurons_per_core > 0):
        raise ValueError(
            "expected time_step and duration > 0 s and neurons_per_core > 0, got "
            f"{time_step}, {duration} and {neurons_per_core}"
        )
    steps = math.floor(duration / time_step + 1e-6) + 1
    check(network, time_step)
    groups = _group_names(network)
    edges, levels = [], dict.fromkeys(groups, 0)
    for projection in network.projections:
        pre, post, weight, late = _synapses(projection, time_step)
        weight = weight * _scale(network[projection.target], time_step)[post]
        levels[projection.source] = max(levels[projection.source], int(late.max(initial=1)) - 1)
        edges.append(
            (groups[projection.source], groups[projection.target], pre, post, weight, late)
        )
    place = Path(folder)
    files = place / "architecture.yaml", place / "network.yaml"
    cores, mappings = _map(network, groups, levels, neurons_per_core)
    lines = ["network:", "  name: neurosim", "  groups:"]
    for population in network:
        lines += _group(population, groups[population.name], time_step, steps)
        for level in range(levels[population.name]):
            name = _relay(groups[population.name], level)
            lines += [
                f"    - name: {name}",
                "      attributes: [threshold: 0.5, reset: 0.0, leak_decay: 0.0]",
                "      neurons:",
                f"        - {_range(population.size)}: []",
            ]
    lines += ["  edges:"]
    for population in network:
        lines += _chain(groups[population.name], levels[population.name], population.size)
    for edge in edges:
        lines += _edges(*edge)
    lines += ["mappings:", *mappings]
    replace_file(files[0], "\n".join(_architecture(cores, neurons_per_core)).encode() + b"\n")
    replace_file(files[1], "\n".join(lines).encode() + b"\n")
    relays = sum(levels[item.name] * item.size for item in network)
    notes = ["costs of the architecture are 0: it checks spikes, not energy"]
    if relays:
        notes.append(f"{relays} relay neurons stand for delays of more than one step")
    return SanafeExport(*files, groups, time_step, steps, relays, tuple(notes))


def check(network: SpikingNetwork, time_step: float) -> None:
    """ValueError with everything of the network that SANA-FE cannot run, by name."""
    if not isinstance(network, SpikingNetwork):
        raise ValueError(
            f"expected populations of spiking neurons, got a {type(network).__name__}: SANA-FE has "
            "no layers in execution order, sums or digital units"
        )
    found = [text for item in network for text in _refusals(item, time_step)]
    found += [
        f"Poisson drive of {drive.target}: SANA-FE's noise is another's; drive it with a "
        "SpikeSource population"
        for drive in network.drives
    ]
    if found:
        raise ValueError(f"SANA-FE cannot run this network: {'; '.join(found)}")
    for projection in network.projections:
        _synapses(projection, time_step)


def _refusals(population: Population, time_step: float) -> list[str]:
    where, model = f"population {population.name}", population.model
    if isinstance(model, SpikeSource):
        places = np.stack([_ticks(model, time_step), model.neurons])
        if np.unique(places, axis=1).shape[1] < places.shape[1]:
            return [
                f"{where}: two spikes of a neuron in one step of {time_step:g} s; SANA-FE's inputs "
                "send one; give a shorter time_step or fewer spikes"
            ]
        return []
    if type(model) is not LIF:
        kind = type(model).__name__
        advice = "give it as a SpikeSource" if population.is_source else "use LIF"
        if isinstance(model, CurrentLIF):
            advice = "its synapses have no currents that fade; use LIF"
        return [f"{where}: {kind} is not a SANA-FE leaky_integrate_fire; {advice}"]
    found = []
    get = population.parameter
    if np.isinf(get("threshold_voltage")).any():
        return [f"{where}: never fires; SANA-FE has spikes only: leave it out"]
    wait = get("refractory_period")
    if wait.any() and not np.array_equal(_origin(population, time_step), get("reset_voltage")):
        found.append(
            f"{where}: SANA-FE's neurons leak in the refractory period; expected resting, reset "
            "and initial voltage to be one"
        )
    if not np.allclose(wait / time_step, np.rint(wait / time_step), atol=1e-6):
        found.append(f"{where}: expected refractory periods of whole steps of {time_step:g} s")
    if (_decay(population, time_step) < _SMALLEST_DECAY).any():
        found.append(f"{where}: forgets within a step of {time_step:g} s; give a shorter time_step")
    return found


def _ticks(source: SpikeSource, time_step: float) -> npt.NDArray[np.int64]:
    return np.asarray(np.rint(source.times / time_step), np.int64)


def _group_names(network: SpikingNetwork) -> dict[str, str]:
    """SANA-FE names a neuron group.number: other signs become underscores."""
    names: dict[str, str] = {}
    for population in network:
        base = name = re.sub(r"\W", "_", population.name)
        number = 2
        while name in names.values():
            name, number = f"{base}_{number}", number + 1
        names[population.name] = name
    return names


def _decay(population: Population, time_step: float) -> Floats:
    """Of the membrane in a step."""
    return np.asarray(np.exp(-time_step / population.parameter("time_constant")))


def _origin(population: Population, time_step: float) -> Floats:
    """The voltage (V) that SANA-FE calls 0: a step before the start."""
    rest = population.parameter("resting_voltage")
    start = population.initial.get("voltage", population.parameter("reset_voltage"))
    return np.asarray(rest + (start - rest) / _decay(population, time_step))


def _scale(population: Population, time_step: float) -> Floats:
    """Powers of two that bring the largest of the voltages to 2^19 to 2^20."""
    get, origin = population.parameter, _origin(population, time_step)
    marks = [get(f"{name}_voltage") - origin for name in ("threshold", "reset", "resting")]
    height = np.abs(np.stack(marks)).max(0)
    return np.asarray(np.exp2(_SCALED_THRESHOLD - np.ceil(np.log2(height))))


def _synapses(projection: Any, time_step: float) -> tuple[Any, Any, Any, Any]:
    """Source, target, weight and delay in steps of every synapse."""
    synapses = projection.synapses
    if isinstance(synapses, CrossbarSynapses):
        synapses = synapses.sparse()
    pre = np.repeat(np.arange(synapses.source_count), np.diff(synapses.offsets))
    late = np.broadcast_to(synapses.delay, len(pre)) / time_step
    whole = np.rint(late).astype(np.int64)
    if len(late) and (np.abs(late - whole).max() > 1e-6 or whole.min() < 1):
        raise ValueError(
            f"projection {projection.source} -> {projection.target}: expected delays of whole "
            f"steps of {time_step:g} s, at least one (a SANA-FE synapse takes a step), got "
            f"{synapses.shortest_delay:g} to {synapses.longest_delay:g} s"
        )
    weight = np.broadcast_to(synapses.weight, len(pre))
    return pre, np.asarray(synapses.targets), weight, whole


def _range(size: int) -> str:
    return f"0..{size - 1}" if size > 1 else "0"


def _relay(group: str, level: int) -> str:
    return f"{group}__late_{level + 1}"


def _group(population: Population, group: str, time_step: float, steps: int) -> Iterator[str]:
    """A group and its neurons."""
    yield f"    - name: {group}"
    yield "      attributes: [log_spikes: true]"
    yield "      neurons:"
    if isinstance(population.model, SpikeSource):
        tick = _ticks(population.model, time_step)
        for neuron in range(population.size):
            train = np.zeros(steps, np.int64)
            mine = tick[population.model.neurons == neuron]
            train[mine[mine < steps]] = 1
            yield f"        - {neuron}: [spikes: {train.tolist()}]"
        return
    get, scale = population.parameter, _scale(population, time_step)
    origin, decay = _origin(population, time_step), _decay(population, time_step)
    threshold = np.nextafter((get("threshold_voltage") - origin) * scale, -np.inf)
    wait = np.rint(get("refractory_period") / time_step).astype(np.int64)
    columns = {
        "threshold": threshold,
        "reset": (get("reset_voltage") - origin) * scale,
        "leak_decay": decay,
        "bias": (1.0 - decay) * (get("resting_voltage") - origin) * scale,
        "refractory_delay": wait,
    }
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    for neuron, row in enumerate(rows):
        values = ", ".join(f"{key}: {value!r}" for key, value in zip(columns, row, strict=True))
        yield f"        - {neuron}: [{values}]"


def _chain(group: str, levels: int, size: int) -> Iterator[str]:
    """Each source neuron to its first relay, and that to the next."""
    names = [group, *(_relay(group, level) for level in range(levels))]
    for source, target in zip(names, names[1:], strict=False):
        for neuron in range(size):
            yield f"    - {source}.{neuron} -> {target}.{neuron}: [weight: 1.0]"


def _edges(source: str, target: str, pre: Any, post: Any, weight: Any, late: Any) -> Iterator[str]:
    columns = (pre.tolist(), post.tolist(), weight.tolist(), late.tolist())
    for neuron, to, value, steps in zip(*columns, strict=True):
        group = source if steps == 1 else _relay(source, steps - 2)
        yield f"    - {group}.{neuron} -> {target}.{to}: [weight: {value!r}]"


def _map(
    network: SpikingNetwork, groups: dict[str, str], levels: dict[str, int], per_core: int
) -> tuple[list[int], list[str]]:
    """Input units of every core, and the mapping of all neurons to cores in order."""
    cores, mappings, used = [0], [], 0
    for population in network:
        group = groups[population.name]
        for name in [group, *(_relay(group, level) for level in range(levels[population.name]))]:
            is_input = population.is_source and name == group
            for neuron in range(population.size):
                if used == per_core:
                    cores.append(0)
                    used = 0
                soma = f"input[{cores[-1]}]" if is_input else "lif"
                cores[-1] += is_input
                used += 1
                mappings.append(
                    f'  - {name}.{neuron}: [core: "{len(cores) - 1}.0", soma: "{soma}"]'
                )
    return cores, mappings


def _architecture(cores: list[int], per_core: int) -> Iterator[str]:
    """One tile and one core each for the input units of `cores`; all costs 0."""
    yield "# Written by neurosim. Every energy (J) and latency (s) is 0: put your chip's in."
    yield "architecture:"
    yield "  name: neurosim"
    yield f"  attributes: {{link_buffer_size: 16, width: {len(cores)}, height: 1}}"
    yield "  tile:"
    for tile, inputs in enumerate(cores):
        yield f"    - name: tile_{tile}"
        hops = ", ".join(f"energy_{d}_hop: 0.0, latency_{d}_hop: 0.0" for d in _DIRECTIONS)
        yield f"      attributes: {{{hops}}}"
        yield "      core:"
        yield f"        - name: core_{tile}"
        yield (
            f"          attributes: {{buffer_position: soma, max_neurons_supported: {per_core}}}"
        )
        yield from _unit("axon_in", "in", "", ("message_in",))
        yield from _unit("synapse", "synapses", "current_based", ("process_spike",))
        yield "          dendrite:"
        yield "            - name: sum"
        yield (
            "              attributes: {model: accumulator, update_every_timestep: true, "
            "energy_update: 0.0, latency_update: 0.0}"
        )
        yield "          soma:"
        soma = ("access_neuron", "update_neuron", "spike_out")
        yield from _unit("", "lif", "leaky_integrate_fire", soma)
        if inputs:
            name = f"input[0..{inputs - 1}]" if inputs > 1 else "input[0]"
            yield from _unit("", name, "input", soma)
        yield from _unit("axon_out", "out", "", ("message_out",))


def _unit(section: str, name: str, model: str, costs: tuple[str, ...]) -> Iterator[str]:
    """A hardware unit of a core."""
    if section:
        yield f"          {section}:"
    parts = [f"model: {model}"] if model else []
    parts += [f"{kind}_{cost}: 0.0" for cost in costs for kind in ("energy", "latency")]
    yield f"            - name: {name}"
    yield f"              attributes: {{{', '.join(parts)}}}"
