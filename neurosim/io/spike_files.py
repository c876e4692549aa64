"""Lists of spikes from Parquet, CSV or npz files: what feeds an input."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from neurosim.populations.models import SpikeSource

_TIMES = ("time_s", "times", "time")
_NEURONS = ("neuron", "neurons")


def read_spikes(path: str | Path, layer: str | None = None) -> SpikeSource:
    """The spikes of a file: columns (or npz arrays) `time_s` (s) and `neuron`.

    `times` and `neurons` are also understood. `layer` picks the rows of one population out of a
    table that `write_events` wrote; it must be given if the file has several.
    """
    file = Path(path)
    if not file.is_file():
        raise ValueError(f"{file}: no such file; expected spikes as .parquet, .csv or .npz")
    readers = {".npz": _from_npz, ".parquet": _from_table, ".csv": _from_table}
    if file.suffix not in readers:
        raise ValueError(f"{file}: expected .parquet, .csv or .npz, got {file.suffix or 'no'!r}")
    times, neurons = readers[file.suffix](file, layer)
    times = np.asarray(times)
    if not np.issubdtype(times.dtype, np.number):
        raise ValueError(f"{file}: expected times as numbers of s, got {times.dtype}")
    try:
        return SpikeSource(times.astype(np.float64), np.asarray(neurons))
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


def _key(file: Path, names: list[str], wanted: tuple[str, ...]) -> str:
    for name in wanted:
        if name in names:
            return name
    raise ValueError(f"{file}: expected a column {wanted[0]!r}, got {', '.join(names) or 'none'}")


def _from_npz(file: Path, layer: str | None) -> tuple[Any, Any]:
    if layer is not None:
        raise ValueError(f"{file}: an .npz has no layers; expected no layer, got {layer!r}")
    try:
        with np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, EOFError, ValueError, AttributeError, zipfile.BadZipFile) as error:
        raise ValueError(f"{file}: cannot be read as .npz ({error}); write it again") from error
    names = list(arrays)
    return arrays[_key(file, names, _TIMES)], arrays[_key(file, names, _NEURONS)]


def _from_table(file: Path, layer: str | None) -> tuple[Any, Any]:
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    try:
        if file.suffix == ".csv":
            table = pyarrow.csv.read_csv(file)
        else:
            table = pyarrow.parquet.read_table(file)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(
            f"{file}: cannot be read as {file.suffix} ({error}); write it again"
        ) from error
    names = table.column_names
    times, neurons = _key(file, names, _TIMES), _key(file, names, _NEURONS)
    if "layer" in names:
        layers = np.asarray(table["layer"].to_pylist(), dtype=object)
        found = sorted({str(name) for name in layers})
        if layer is None and len(found) > 1:
            raise ValueError(
                f"{file}: has spikes of several layers ({', '.join(found)}); name one as "
                f"{file.name}:{found[0]}"
            )
        if layer is not None:
            if layer not in found:
                raise ValueError(f"{file}: expected a layer out of {found}, got {layer!r}")
            table = table.filter(pa.array(layers == layer))
    elif layer is not None:
        raise ValueError(f"{file}: has no column 'layer'; expected no layer, got {layer!r}")
    for name in (times, neurons):
        if table[name].null_count:
            raise ValueError(f"{file}: expected no empty cells in {name}, got some")
    return table[times].to_numpy(), table[neurons].to_numpy()
