"""What `neurosim simulate --out` writes: events, traces, pictures, the report. All or none."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from neurosim.cli import _simulate_plots as plots
from neurosim.events.recording import Recording
from neurosim.events.simulate import Options
from neurosim.files import replacing_all
from neurosim.io.events_parquet import EventBatch, write_events

_BATCH = 1 << 20


def spike_batches(recording: Recording) -> Iterator[EventBatch]:
    """All spikes as event batches; `neuron` counts within the population."""
    names = np.array([item.name for item in recording.network])
    first = np.array([recording.network.first[name] for name in names])
    for start in range(0, len(recording.times), _BATCH):
        part = slice(start, start + _BATCH)
        neurons = recording.neurons[part]
        owner = np.searchsorted(first, neurons, side="right") - 1
        yield EventBatch(recording.times[part], neurons - first[owner], names[owner], "spike")


def write(data: dict[str, Any], recording: Recording, options: Options, folder: Path) -> list[Path]:
    """report.json, events.parquet, the raster, and traces if there are any. All or none."""
    metadata = {key: str(data[key]) for key in ("network", "engine", "seed", "duration_s")}
    with replacing_all(folder) as place:
        (place / "report.json").write_text(json.dumps(data, indent=1) + "\n")
        write_events(place / "events.parquet", spike_batches(recording), metadata)
        if plots.can_fire(recording.network):
            plots.save(plots.raster(recording), place / "raster")
        if recording.traces:
            pq.write_table(_trace_table(recording, options), place / "traces.parquet")
            plots.save(plots.traces(recording, options.trace), place / "traces")
        names = sorted(item.name for item in place.iterdir())
    return [folder / name for name in names]


def _trace_table(recording: Recording, options: Options) -> Any:
    """time_s, population, neuron, voltage_V of every sample."""
    columns: dict[str, list[Any]] = {"time_s": [], "layer": [], "neuron": [], "voltage_V": []}
    for name, (times, values) in recording.traces.items():
        numbers: Sequence[int] = options.trace[name]
        columns["time_s"].append(np.tile(times, len(numbers)))
        columns["layer"].append(np.full(len(times) * len(numbers), name))
        columns["neuron"].append(np.repeat(np.asarray(numbers, np.int64), len(times)))
        columns["voltage_V"].append(values.T.reshape(-1))
    units = {"time_s": {"unit": "s"}, "voltage_V": {"unit": "V"}}
    arrays = {key: pa.array(np.concatenate(parts)) for key, parts in columns.items()}
    schema = pa.schema([pa.field(k, v.type, metadata=units.get(k)) for k, v in arrays.items()])
    return pa.table(list(arrays.values()), schema=schema)
