"""Columns of a sweep's Parquet files: types, and units in the metadata of every field."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from neurosim.energy.counts import COUNTS

AXES: dict[str, tuple[pa.DataType, str, str]] = {  # type, unit, meaning
    "point": (pa.string(), "", "hash of everything the result depends on"),
    "model": (pa.string(), "", "model folder"),
    "chip": (pa.string(), "", "chip file or preset"),
    "case": (pa.string(), "", "name of the case, empty without cases"),
    "varied": (pa.string(), "", 'the key that moved, in design "each"'),
    "work": (pa.string(), "", "quality (a text is predicted) or generate (a prompt is continued)"),
    "prompt": (pa.string(), "", "the prompt, empty for quality"),
    "seed": (pa.int64(), "", "of the chip's devices and noise"),
}
MEASURED: dict[str, tuple[pa.DataType, str, str]] = {
    "status": (pa.string(), "", "ok or failed"),
    "error": (pa.string(), "", "why it failed"),
    "bits_per_byte": (pa.float64(), "bit/byte", "held-out quality"),
    "text": (pa.string(), "", "prompt and continuation"),
    "phase": (pa.string(), "", "phase that energies and counts belong to: prefill or decode"),
    "tokens": (pa.int64(), "token", "tokens of that phase"),
    "energy_J_per_token": (pa.float64(), "J/token", "modelled energy of that phase"),
    "prefill_J_per_token": (pa.float64(), "J/token", "modelled energy of the prefill"),
    "seconds_per_token": (pa.float64(), "s/token", "simulated time on the chip"),
    "token_latency_s": (pa.float64(), "s", "median from a token's first word to its logits"),
    "packet_latency_s": (pa.float64(), "s", "mean from injection of a spike to its delivery"),
    "packet_latency_p99_s": (pa.float64(), "s", "99th percentile of the same"),
    "congestion": (pa.float64(), "1", "share of packet latency that is waiting"),
    "busiest_link": (pa.float64(), "1", "share of time that the busiest link transmits"),
    "late_packets": (pa.int64(), "1", "spike deliveries after their window"),
    "dropped_packets": (pa.int64(), "1", "deliveries that never happened"),
    "spike_rate": (pa.float64(), "1", "spikes per neuron and window"),
    "tiles": (pa.int64(), "1", "tiles in use"),
    "windows_per_token": (pa.int64(), "1", "sequential windows of one token"),
    "engine": (pa.string(), "", "what advanced the network in time"),
    "simulated_s": (pa.float64(), "s", "simulated time of a network"),
    "cpu_s": (pa.float64(), "s", "CPU time of the point on the host"),
}
_ENERGY, _COUNT = "energy.", "count."
_OF_POPULATIONS = {
    "rate.": ("Hz", "mean rate of the population's neurons"),
    "cv.": ("1", "standard deviation over mean of the population's inter-spike intervals"),
    "joules.": ("J", "energy of the population by mechanism"),
}


def is_measured(name: str) -> bool:
    """Whether a column belongs to a result, not to where its point lies."""
    return name in MEASURED or name.startswith((_ENERGY, _COUNT, *_OF_POPULATIONS))


def field_of(name: str, keys: Mapping[str, str], values: Sequence[Any]) -> pa.Field:
    """The field of one column. `keys`: swept chip keys and their units; `values`: of the column."""
    if name in keys:
        known = [value for value in values if value is not None]
        kind = pa.float64()
        if any(isinstance(value, str) for value in known):
            kind = pa.string()
        elif known and all(isinstance(value, bool) for value in known):
            kind = pa.bool_()
        return _field(name, kind, keys[name], "value of this key on the chip")
    if name in AXES or name in MEASURED:
        return _field(name, *(AXES | MEASURED)[name])
    if name.startswith(_ENERGY):
        return _field(name, pa.float64(), "J/token", "modelled energy of this mechanism")
    if name.startswith(_COUNT):
        meaning = COUNTS.get(name.removeprefix(_COUNT), "counted")
        return _field(name, pa.int64(), "1", f"exact, over the phase: {meaning}")
    for prefix, (unit, meaning) in _OF_POPULATIONS.items():
        if name.startswith(prefix):
            return _field(name, pa.float64(), unit, meaning)
    raise ValueError(f"no column called {name!r} is known")


def _field(name: str, kind: pa.DataType, unit: str, meaning: str) -> pa.Field:
    return pa.field(name, kind, metadata={"unit": unit, "meaning": meaning})


def table_of(rows: Sequence[Mapping[str, Any]], keys: Mapping[str, str]) -> pa.Table:
    """Rows (column -> value) as a typed table; a column missing in a row is null there."""
    names = _ordered({name for row in rows for name in row}, keys)
    columns = {name: [row.get(name) for row in rows] for name in names}
    fields = [field_of(name, keys, columns[name]) for name in names]
    arrays = [pa.array(columns[part.name], part.type) for part in fields]
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def _ordered(names: Iterable[str], keys: Mapping[str, str]) -> list[str]:
    """Axes, swept keys, measured columns, then energies and counts."""
    rank = {name: i for i, name in enumerate([*AXES, *keys, *MEASURED])}
    counts = {f"{_COUNT}{name}": i for i, name in enumerate(COUNTS)}
    return sorted(
        names,
        key=lambda name: (rank.get(name, len(rank)), counts.get(name, -1), name),
    )
