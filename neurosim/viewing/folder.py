"""All views of a run in one folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from neurosim.energy.plots import save
from neurosim.events.engine import Simulator
from neurosim.events.recorder import Run
from neurosim.io import write_events, write_trace
from neurosim.network import DigitalUnit
from neurosim.viewing.events import METADATA, energy_without_spikes, run_events
from neurosim.viewing.figures import membranes, mesh_map, placement_map
from neurosim.viewing.timeline import run_slices

_MEMBRANES = 4


def write_views(
    run: Run, simulator: Simulator, words: Sequence[str], folder: Path, note: str = ""
) -> list[Path]:
    """events.parquet, trace.json, placement, mesh and (on a device chip) membranes; the paths."""
    placement, network = simulator.placement, simulator.network
    if network.of(DigitalUnit):
        raise ValueError(
            "expected a network of neurons, got digital units: when their spikes fire is not "
            "simulated, so there are no events to write; read Run.spikes and Run.phases instead"
        )
    events, trace = folder / "events.parquet", folder / "trace.json"
    about = {
        "chip": simulator.chip.name,
        "seed": str(simulator.seed),
        **METADATA,
        "energy_without_spikes_J": repr(energy_without_spikes(run)),
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_events(events, run_events(run, placement), about)
    write_trace(trace, run_slices(run, placement, network, list(words)))
    written = [events, trace]
    faults, slots = simulator.chip.faults, placement.mesh_tiles
    dead = faults.dead_tiles(slots, simulator.seed), faults.dead_links(slots, simulator.seed)
    written += save(placement_map(placement, network, note, dead[0]), folder / "placement")
    tile = simulator.chip.tile
    size = int(tile.rows.value), int(tile.columns.value)
    written += save(mesh_map(placement, size, run.traffic, note, *dead), folder / "mesh")
    if not simulator.chip.exact:
        written += save(membranes(_busiest(run, simulator), note), folder / "membranes")
    return written


def _busiest(run: Run, simulator: Simulator) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """In the last token, a neuron of every spike count from the most down, of one bank."""
    last = {bank: np.abs(rows[-1].astype(np.int64)) for bank, rows in run.spikes.items()}
    bank = max(last, key=lambda name: len(np.unique(last[name])))
    found = []
    for count in sorted(np.unique(last[bank]).tolist(), reverse=True)[:_MEMBRANES]:
        channel = int(np.argmax(last[bank] == count))
        neurons = simulator.banks[bank]
        times, volts, fired = neurons.last_membrane(channel, len(run.tokens))
        side = " (OFF neuron)" if run.spikes[bank][-1, channel] < 0 else ""
        plural = "" if fired.size == 1 else "s"
        title = f"{bank}, channel {channel}{side}: {fired.size} discharge{plural}"
        if fired.size > count:
            title += f", {count} counted (the network has {neurons.levels} levels)"
        found.append((title, times, volts))
    return found
