"""SANA-FE export: a mapped network and an architecture as YAML, so that its users can cross-check.

Format and semantics: SANA-FE 2.2 (Boyle et al., IEEE TCAD 44(8), 2025), its READMEs and its
leaky_integrate_fire model. Time goes in steps. In each, every soma does
    V <- trunc(64 decay V) / 64, V <- V + input of the step before; V > threshold fires: V <- reset
so a synapse takes one step. What that means here:

- a delay of d steps is a chain of d - 1 relay neurons (one for each source neuron);
- voltages are counted from the resting voltage and multiplied by a power of two, 2^20 at the
  threshold, so that the cut to 1/64 is 1.5e-8 of it (SANA-FE holds 64 V in 32 bits: |V| stays
  below 32 thresholds);
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

_SCALED_THRESHOLD = 20  # exponent of two
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
    found = [text for item in network for text in _refusals(item, time_step)]
    found += [
        f"Poisson drive of {drive.target}: SANA-FE's noise is another's; drive it with a "
        "SpikeSource population"
        for drive in network.drives
    ]
    if found:
        raise ValueError(f"SANA-FE cannot run this network: {'; '.join(found)}")
    groups = _group_names(network)
    edges, levels = [], dict.fromkeys(groups, 0)
    for projection in network.projections:
        pre, post, weight, late = _synapses(projection, time_step)
        scale = _scale(network[projection.target])
        weight = weight * np.broadcast_to(scale, network[projection.target].size)[post]
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


def _refusals(population: Population, time_step: float) -> list[str]:
    where, model = f"population {population.name}", population.model
    if isinstance(model, SpikeSource):
        return []
    if type(model) is not LIF:
        kind = type(model).__name__
        advice = "give it as a SpikeSource" if population.is_source else "use LIF"
        if isinstance(model, CurrentLIF):
            advice = "its synapses have no currents that fade; use LIF"
        return [f"{where}: {kind} is not a SANA-FE leaky_integrate_fire; {advice}"]
    found = []
    get = population.parameter
    rest, reset = get("resting_voltage"), get("reset_voltage")
    start = population.initial.get("voltage", reset)
    if not np.array_equal(np.broadcast_to(start, population.size), rest):
        found.append(
            f"{where}: SANA-FE's neurons start at rest; give it the initial voltage of its "
            "resting_voltage"
        )
    if (get("threshold_voltage") <= rest).any():
        found.append(f"{where}: rests at or above its threshold; SANA-FE fires from 0 upwards only")
    wait = get("refractory_period")
    if wait.any() and not np.array_equal(rest, reset):
        found.append(f"{where}: leaks in the refractory period; expected it to reset to rest")
    if not np.allclose(wait / time_step, np.rint(wait / time_step), atol=1e-6):
        found.append(f"{where}: expected refractory periods of whole steps of {time_step:g} s")
    if np.isinf(get("threshold_voltage")).any():
        found.append(f"{where}: never fires; SANA-FE has spikes only: leave it out")
    return found


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


def _scale(population: Population) -> npt.NDArray[np.float64]:
    """Powers of two that bring the threshold (from rest) to 2^20."""
    get = population.parameter
    height = get("threshold_voltage") - get("resting_voltage")
    result: npt.NDArray[np.float64] = np.exp2(_SCALED_THRESHOLD - np.ceil(np.log2(height)))
    return result


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
        tick = np.rint(population.model.times / time_step).astype(np.int64)
        for neuron in range(population.size):
            train = np.zeros(steps, np.int64)
            mine = tick[population.model.neurons == neuron]
            train[mine[mine < steps]] = 1
            yield f"        - {neuron}: [spikes: {train.tolist()}]"
        return
    get, scale = population.parameter, _scale(population)
    rest = get("resting_voltage")
    threshold = np.nextafter((get("threshold_voltage") - rest) * scale, -np.inf)
    reset = (get("reset_voltage") - rest) * scale
    decay = np.exp(-time_step / get("time_constant"))
    wait = np.rint(get("refractory_period") / time_step).astype(np.int64)
    threshold, reset, decay = threshold.tolist(), reset.tolist(), decay.tolist()  # plain floats
    for neuron in range(population.size):
        yield (
            (
                f"        - {neuron}: [threshold: {threshold[neuron]!r}, reset: {reset[neuron]!r}, "
                f"leak_decay: {decay[neuron]!r}, refractory_delay: {wait[neuron]}]"
            )
            .replace("np.float64(", "")
            .replace(")", "")
        )


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
