"""One table of events for everything that happens in a simulation, as Parquet.

Columns: time_s (float64, s), neuron (int64), layer (population or layer of the network), kind
(what happened, e.g. "spike"), energy_J (float64, J; null where no device was simulated). The unit
is in each column's metadata, so that `pyarrow.parquet.read_schema` shows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from neurosim.files import replacing

_ROWS = 1 << 20  # of a row group: 30 MB in memory, whatever the batches
_WORDS = pa.dictionary(pa.int32(), pa.string())


def _field(name: str, kind: Any, text: str, unit: str = "") -> Any:
    about = {"description": text, **({"unit": unit} if unit else {})}
    return pa.field(name, kind, metadata=about)


SCHEMA = pa.schema(
    [
        _field("time_s", pa.float64(), "simulated time", "s"),
        _field("neuron", pa.int64(), "number within the layer"),
        _field("layer", _WORDS, "population or layer"),
        _field("kind", _WORDS, "what happened"),
        _field("energy_J", pa.float64(), "energy of the event; null: not simulated", "J"),
    ]
)


@dataclass(frozen=True, eq=False)
class EventBatch:
    """Some events. `time` (K,) s, `neuron` (K,); `layer` and `kind`: one word, or (K,) words;
    `energy` (K,) J, or None where no device was simulated."""

    time: npt.NDArray[np.float64]
    neuron: npt.NDArray[np.int64]
    layer: str | npt.NDArray[np.str_]
    kind: str | npt.NDArray[np.str_]
    energy: npt.NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        count = len(self.time)
        for name in ("time", "neuron", "layer", "kind", "energy"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str) and np.shape(value) != (count,):
                raise ValueError(
                    f"expected {name} of shape ({count},) like time, got {np.shape(value)}"
                )

    def table(self) -> Any:
        """As a pyarrow table of `SCHEMA`."""
        count = len(self.time)

        def words(value: str | npt.NDArray[np.str_]) -> Any:
            if isinstance(value, str):
                codes = pa.array(np.zeros(count, np.int32))
                return pa.DictionaryArray.from_arrays(codes, pa.array([value], pa.string()))
            return pa.array(value, pa.string()).dictionary_encode()

        energy = pa.nulls(count, pa.float64()) if self.energy is None else pa.array(self.energy)
        columns = [
            pa.array(np.asarray(self.time, np.float64)),
            pa.array(np.asarray(self.neuron, np.int64)),
            words(self.layer),
            words(self.kind),
            energy.cast(pa.float64()),
        ]
        return pa.Table.from_arrays(columns, schema=SCHEMA)


def write_events(
    path: str | Path, batches: Iterable[EventBatch], metadata: Mapping[str, str] | None = None
) -> int:
    """Stream batches of events into a Parquet file; returns how many events it has.

    The batches may be of any size and number: one at a time is in memory. The file appears whole or
    not at all (also on a full disk, an error in a batch, Ctrl-C). `metadata`: words about the run,
    e.g. {"engine": "steps", "seed": "0"}, kept in the file.
    """
    words = {str(key): str(value) for key, value in (metadata or {}).items()}
    count = 0
    with (
        replacing(Path(path)) as temporary,
        pq.ParquetWriter(temporary, SCHEMA.with_metadata(words), compression="zstd") as writer,
    ):
        for batch in batches:
            if len(batch.time):
                table = batch.table().replace_schema_metadata(words)
                writer.write_table(table, row_group_size=_ROWS)
            count += len(batch.time)
    return count
