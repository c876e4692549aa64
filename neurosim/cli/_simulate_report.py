"""What `neurosim simulate` says of a recording: numbers, and the table of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from neurosim import __version__
from neurosim.cli._simulate_network import Subject
from neurosim.events import engines
from neurosim.events.recording import Recording
from neurosim.events.simulate import Options

_FEWEST = 3  # intervals of a neuron whose variation counts
_WORDS = {"source_spikes": "of them from sources"}


def variation(recording: Recording, population: str) -> tuple[float | None, int]:
    """Mean over neurons of the coefficient of variation of their inter-spike intervals.

    Only neurons with at least three intervals count; returns None without any, and their number.
    """
    times, neurons = recording.spikes(population)
    order = np.lexsort((times, neurons))
    neurons, gaps = neurons[order], np.diff(times[order])
    same = np.diff(neurons) == 0
    gaps, owner = gaps[same], neurons[1:][same]
    size = recording.network[population].size
    count = np.bincount(owner, minlength=size)
    chosen = count >= _FEWEST
    if not chosen.any():
        return None, 0
    total = np.bincount(owner, gaps, size)
    mean = total / np.maximum(count, 1)
    spread = np.bincount(owner, (gaps - mean[owner]) ** 2, size) / np.maximum(count, 1)
    return float((np.sqrt(spread[chosen]) / mean[chosen]).mean()), int(chosen.sum())


def engine_choices(subject: Subject, options: Options) -> dict[str, Any]:
    """Engine -> predicted CPU seconds a simulated second, or why it cannot."""
    choices: dict[str, Any] = {}
    for name, engine in engines.available().items():
        reason = engine.supports(subject.network, options)
        if reason is None:
            cost = engine.cost(subject.network, options)
            choices[name] = {"predicted_cpu_s_per_s": cost}
        else:
            choices[name] = {"refused": reason}
    return choices


def report(
    subject: Subject,
    recording: Recording,
    options: Options,
    asked: str,
    cpu: dict[str, float],
    clocked: bool,
    resumed: bool,
) -> dict[str, Any]:
    """Everything as plain numbers, for JSON."""
    populations = {}
    for item in recording.network:
        cv, neurons = variation(recording, item.name)
        populations[item.name] = {
            "model": type(item.model).__name__,
            "neurons": item.size,
            "spikes": len(recording.spikes(item.name)[0]),
            "rate_Hz": recording.rate(item.name),
            "isi_cv": cv,
            "isi_cv_neurons": neurons,
        }
    found: dict[str, Any] = {
        "neurosim": __version__,
        "network": subject.name,
        "neurons": recording.network.size,
        "synapses": recording.network.synapse_count,
        "notes": list(subject.notes),
        "duration_s": recording.duration,
        "interrupted": recording.interrupted,
        "engine": recording.engine,
        "engine_asked": asked,
        "read_on_a_clock": clocked,
        "engines": engine_choices(subject, options),
        "time_step_s": options.time_step,
        "precision": options.precision,
        "threads": options.threads,
        "seed": recording.seed,
        "cpu_s": cpu,
        "rtf": None if resumed or not recording.duration else cpu["run"] / recording.duration,
        "counts": {key: int(value) for key, value in recording.counts.items()},
        "energy_J": {name: dict(parts) for name, parts in recording.energy.items()},
        "populations": populations,
    }
    if subject.imported is not None:
        found["outputs"] = dict(subject.imported.outputs)
        found["lags_s"] = dict(subject.imported.lags)
    return found


def why(data: dict[str, Any]) -> str:
    """The engine and the reason it ran."""
    costs = [
        f"{name} {item['predicted_cpu_s_per_s']:.3g}"
        for name, item in data["engines"].items()
        if "refused" not in item
    ]
    if data["engine_asked"] != "auto":
        reason = "asked for"
    elif data["read_on_a_clock"]:
        reason = "equals the framework's network on its clock"
    elif len(costs) == 1:
        reason = "the only one that can carry this network"
    else:
        reason = f"cheapest of {', '.join(costs)} predicted CPU s per simulated s"
    return f"engine {data['engine']}: {reason}"


def show(data: dict[str, Any], console: Console) -> None:
    """The table on the terminal."""
    state = " (interrupted)" if data["interrupted"] else ""
    speed = "resumed" if data["rtf"] is None else f"{data['rtf']:.3g} s per simulated second"
    lines = [
        f"{data['network']}: {data['neurons']} neurons, {data['synapses']} synapses, "
        f"{data['duration_s'] * 1e3:g} ms simulated{state}",
        why(data),
        f"CPU {data['cpu_s']['run']:.3g} s ({speed}), after "
        f"{data['cpu_s']['warm_up']:.3g} s of loading; {data['precision']}, seed {data['seed']}",
        ", ".join(
            f"{value} {_WORDS.get(key, key.replace('_', ' '))}"
            for key, value in data["counts"].items()
        ),
    ]
    for line in [*lines, *(f"note: {note}" for note in data["notes"])]:
        console.print(Text(line), soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    for name in ("population", "model"):
        table.add_column(name)
    for name in ("neurons", "spikes", "rate / Hz", "ISI CV"):
        table.add_column(name, justify="right")
    for name, row in data["populations"].items():
        cv = "-" if row["isi_cv"] is None else f"{row['isi_cv']:.3f}"
        table.add_row(
            Text(name), row["model"], str(row["neurons"]), str(row["spikes"]),
            f"{row['rate_Hz']:.3f}", cv,
        )  # fmt: skip
    console.print(table)
    for name, parts in data["energy_J"].items():
        text = ", ".join(f"{key} {value:.3g} J" for key, value in parts.items())
        console.print(Text(f"energy of {name}: {text}"), soft_wrap=True)
