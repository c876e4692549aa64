"""All views of a run in one folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from neurosim.energy.plots import save
from neurosim.events.engine import Simulator
from neurosim.events.recorder import Run
from neurosim.io import write_events, write_trace
from neurosim.viewing.events import METADATA, run_events
from neurosim.viewing.figures import membranes, mesh_map, placement_map
from neurosim.viewing.timeline import run_slices

_MEMBRANES = 4


def write_views(
    run: Run, simulator: Simulator, words: Sequence[str], folder: Path, note: str = ""
) -> list[Path]:
    """events.parquet, trace.json, placement, mesh and (on a device chip) membranes; the paths."""
    placement, network = simulator.placement, simulator.network
    events, trace = folder / "events.parquet", folder / "trace.json"
    about = {"chip": simulator.chip.name, "seed": str(simulator.seed), **METADATA}
    folder.mkdir(parents=True, exist_ok=True)
    write_events(events, run_events(run, placement), about)
    write_trace(trace, run_slices(run, placement, network, list(words)))
    written = [events, trace]
    written += save(placement_map(placement, network, note), folder / "placement")
    tile = simulator.chip.tile
    size = int(tile.rows.value), int(tile.columns.value)
    written += save(mesh_map(placement, size, run.traffic, note), folder / "mesh")
    if not simulator.chip.exact:
        written += save(membranes(_busiest(run, simulator), note), folder / "membranes")
    return written


def _busiest(run: Run, simulator: Simulator) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """In the last token, a neuron of every spike count from the most to none, of one bank."""
    last = {bank: np.abs(rows[-1].astype(np.int64)) for bank, rows in run.spikes.items()}
    bank = max(last, key=lambda name: len(np.unique(last[name])))
    found = []
    for count in sorted(np.unique(last[bank]).tolist(), reverse=True)[:_MEMBRANES]:
        channel = int(np.argmax(last[bank] == count))
        times, volts = simulator.banks[bank].last_membrane(channel, len(run.tokens))
        plural = "" if count == 1 else "s"
        found.append((f"{bank}, channel {channel}: {count} spike{plural} counted", times, volts))
    return found
