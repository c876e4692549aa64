"""The folder of a sweep: results in Parquet as they come, and what they were made with.

    DIR/sweep.json           specification, models, versions, commit and date of every run
    DIR/points.parquet       every point of the specification in its order
    DIR/results/part-*.parquet    finished points, one file a batch; never changed once written
    DIR/.lock                held by the process that writes

Files are written under a temporary name, then renamed: what has a name is whole. A point that was
computed twice (failed, then retried) counts with its last row.
"""

from __future__ import annotations

import fcntl
import io
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from neurosim.files import replace_file
from neurosim.sweep.plan import Plan
from neurosim.sweep.schema import is_measured, table_of

ABOUT, POINTS, RESULTS = "sweep.json", "points.parquet", "results"
BATCH_SECONDS = 5.0


class StoreError(OSError):
    """Results could not be written."""


def read_about(folder: Path) -> dict[str, Any]:
    """sweep.json of a folder."""
    path = folder / ABOUT
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(
            f"{folder}: no {ABOUT}; expected the folder of a sweep (the --out of `neurosim sweep`)"
        ) from error
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error})") from error
    return dict(found)


def read_parts(folder: Path) -> pa.Table | None:
    """All rows on disk, oldest first; None without any."""
    tables = []
    for path in sorted((folder / RESULTS).glob("part-*.parquet")):
        try:
            tables.append(pq.read_table(path, partitioning=None))
        except (pa.ArrowException, OSError) as error:
            raise ValueError(
                f"{path}: not a readable Parquet file ({error}); delete it and run the sweep "
                "again, its points are then computed anew"
            ) from error
    if not tables:
        return None
    return pa.concat_tables(tables, promote_options="permissive")


def load_results(folder: str | Path) -> pa.Table:
    """Finished points of a sweep, in the order of its specification; units in field metadata.

    Rows of the same sweep are equal (but for `cpu_s`) whether it ran in one process or on many,
    at once or in pieces. Points not reached yet are not there; failed ones have status "failed".
    """
    folder = Path(folder)
    keys = dict(read_about(folder)["keys"])
    axes = pq.read_table(folder / POINTS).to_pylist()
    parts = read_parts(folder)
    measured: dict[str, Mapping[str, Any]] = {}
    if parts is not None:
        own = [name for name in parts.column_names if name == "point" or is_measured(name)]
        measured = {row["point"]: row for row in parts.select(own).to_pylist()}
    rows = [{**row, **measured[row["point"]]} for row in axes if row["point"] in measured]
    return table_of(rows or [], keys) if rows else table_of(axes[:1], keys).slice(0, 0)


class Store:
    """Appends rows to a folder; one writer at a time (see `open_store`)."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder, self._keys = folder, plan.keys
        self._axes = {row["point"]: row for row in plan.axes}
        parts = read_parts(folder)
        rows = [] if parts is None else parts.select(["point", "status"]).to_pylist()
        status = {row["point"]: row["status"] for row in rows}
        self.finished = {point for point, state in status.items() if state == "ok"}
        """Points on disk that need not run again; failed ones are tried again."""
        self.known = set(status)
        names = sorted((folder / RESULTS).glob("part-*.parquet"))
        self._next = 1 + (int(names[-1].stem.partition("-")[2]) if names else 0)
        self._waiting: list[dict[str, Any]] = []
        self._flushed = time.monotonic()

    def add(self, row: Mapping[str, Any]) -> None:
        """Keep a result; it is on disk at the latest `BATCH_SECONDS` after the next one."""
        self._waiting.append({**self._axes[row["point"]], **row})
        if time.monotonic() - self._flushed >= BATCH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what waits as one part file."""
        if self._waiting:
            path = self.folder / RESULTS / f"part-{self._next:06d}.parquet"
            table = table_of(self._waiting, self._keys)
            self._waiting = []
            try:
                _write_table(path, table)
            except OSError as error:
                raise StoreError(
                    f"{path}: cannot be written ({error.strerror or error}); "
                    f"{table.num_rows} finished points are lost, those of earlier batches are "
                    f"kept in {self.folder}: make room and give the same command again"
                ) from error
            self._next += 1
        self._flushed = time.monotonic()


def _write_table(path: Path, table: pa.Table) -> None:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    replace_file(path, buffer.getvalue())


def write_about(folder: Path, plan: Plan, run: Mapping[str, Any]) -> None:
    """sweep.json and points.parquet; the runs before this one stay listed."""
    runs = read_about(folder)["runs"] if (folder / ABOUT).is_file() else []
    about = {
        "name": plan.spec.name,
        "summary": plan.spec.summary,
        "points": len(plan.axes),
        "spec": plan.spec.to_dict(),
        "keys": dict(plan.keys),
        "models": {subject.name: subject.sha256 for subject in plan.subjects},
        "seeds": list(plan.spec.seeds),
        "flags": list(plan.flags),
        "runs": [*runs, dict(run)],
    }
    try:
        _write_table(folder / POINTS, table_of(plan.axes, plan.keys))
        replace_file(folder / ABOUT, (json.dumps(about, indent=1) + "\n").encode())
    except OSError as error:
        raise StoreError(f"{folder}: cannot be written ({error.strerror or error})") from error


@contextmanager
def open_store(folder: Path, plan: Plan) -> Iterator[Store]:
    """The folder, locked; refuses one that another process writes to or that holds other points."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"expected a folder for the results, got the file {folder}")
    (folder / RESULTS).mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ValueError(
                f"{folder}: another sweep is writing to it; wait for it or choose another --out"
            ) from error
        store = Store(folder, plan)
        if store.known and not store.known & set(plan.points):
            raise ValueError(
                f"{folder}: holds {len(store.known)} points of another sweep and none of this "
                "one (other models, chips or measures); choose another --out"
            )
        yield store
