"""The network `neurosim simulate` runs: a .nir file, an example, or a function of the reader's."""

from __future__ import annotations

import argparse
import inspect
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from neurosim.populations import (
    PoissonSource,
    Population,
    SpikeSource,
    SpikingNetwork,
    examples,
)
from neurosim.populations.builders import find_builder, finished_network

if TYPE_CHECKING:  # importing it loads scipy.sparse
    from neurosim.io.nir import ImportedNetwork

EXAMPLES = ("cuba", "coba", "brunel")


@dataclass(frozen=True)
class Subject:
    """What is simulated: a network, where it came from, and notes for the reader."""

    name: str
    network: SpikingNetwork
    notes: tuple[str, ...] = ()
    imported: ImportedNetwork | None = None


def subject(options: argparse.Namespace) -> Subject:
    """The network the options ask for, with its inputs."""
    if (options.file is None) == (options.example is None):
        raise ValueError("expected a FILE.nir or --example NAME, one of the two")
    if options.file is not None:
        if options.size is not None:
            raise ValueError("--size is for examples; a .nir file has its own")
        from neurosim.io.nir import read_nir

        step = None if options.nir_step_ms is None else options.nir_step_ms * 1e-3
        found = read_nir(options.file, time_step=step)
        made = Subject(str(options.file), found.network, found.notes, found)
        inputs = list(found.inputs)
    else:
        if options.nir_step_ms is not None:
            raise ValueError("--nir-step-ms is for .nir files")
        made = Subject(options.example, _example(options.example, options.size, options.seed))
        inputs = [item.name for item in made.network if isinstance(item.model, SpikeSource)]
    return _with_inputs(made, inputs, options.input, options.rate)


def _example(name: str, size: int | None, seed: int) -> SpikingNetwork:
    if size is not None and size < 5:
        raise ValueError(f"expected --size of at least 5 neurons, got {size}")
    if name in EXAMPLES:
        build = getattr(examples, name)
    elif ":" in name:
        build = find_builder(name, Path.cwd())
    else:
        raise ValueError(
            f"expected an example {', '.join(EXAMPLES)} or MODULE:FUNCTION, got {name}"
        )
    takes = inspect.signature(build).parameters
    arguments = {"size": size, "seed": seed}
    if size is not None and "size" not in takes:
        raise ValueError(f"{name}: takes no size; leave out --size")
    known = {key: value for key, value in arguments.items() if key in takes and value is not None}
    try:
        made = build(**known)
    except Exception as error:  # the reader's code may raise anything
        if name in EXAMPLES:
            raise
        raise ValueError(f"{name} failed: {type(error).__name__}: {error}") from error
    return finished_network(name, made)


def _silent(population: Population) -> bool:
    return isinstance(population.model, SpikeSource) and not len(population.model.times)


def _with_inputs(made: Subject, inputs: list[str], files: list[str], rate: float | None) -> Subject:
    """Spikes of files, [NAME=]FILE[:LAYER], and Poisson trains at all other inputs."""
    sources: dict[str, SpikeSource | PoissonSource] = {}
    for text in files:
        from neurosim.io.spike_files import read_spikes

        name, equals, rest = text.partition("=")
        if not equals:
            rest, name = text, inputs[0] if len(inputs) == 1 else ""
        if name not in inputs:
            known = ", ".join(inputs) or "none"
            raise ValueError(f"--input {text}: expected NAME=FILE with an input out of {known}")
        path, layer = rest, None
        if not Path(path).exists() and ":" in path:
            path, _, layer = path.rpartition(":")
        sources[name] = read_spikes(path, layer)
    if rate is not None:
        if not inputs:
            raise ValueError(f"--rate: {made.name} has no inputs to drive")
        sources = {**{name: PoissonSource(rate) for name in inputs}, **sources}
    populations = []
    for item in made.network:
        try:
            new = Population(item.name, item.size, sources.get(item.name, item.model), item.initial)
        except ValueError as error:
            raise ValueError(f"--input: {error}") from error
        populations.append(new)
    notes = list(made.notes)
    silent = [item.name for item in populations if _silent(item)]
    if silent:
        notes.append(f"input {', '.join(silent)} is silent; give --input FILE or --rate HZ")
    network = replace(made.network, populations=tuple(populations))
    return replace(made, network=network, notes=tuple(notes))
