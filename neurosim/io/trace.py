"""Chrome trace files (a JSON list of dicts), for https://ui.perfetto.dev and chrome://tracing.

The format counts time in microseconds and groups slices by process and thread; both get names.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neurosim.files import replacing


@dataclass(frozen=True)
class Slice:
    """Something that lasts from `start` (s) for `duration` (s; 0: an instant).

    `process` and `thread` name the lane it is drawn in, e.g. "tile 3" and "crossbar".
    """

    name: str
    start: float
    duration: float
    process: str
    thread: str
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Counter:
    """Values (series -> number) from `start` (s) on, drawn as a graph."""

    name: str
    start: float
    values: Mapping[str, float]
    process: str


def write_trace(path: str | Path, events: Iterable[Slice | Counter]) -> int:
    """Stream events into a trace file; returns how many there are. Whole file or none.

    Raises:
        ValueError: a time or duration that is not a number >= 0 s.
    """
    count = 0
    with replacing(Path(path)) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write("[")
        for count_written, entry in enumerate(_entries(events)):
            file.write(",\n" if count_written else "\n")
            file.write(json.dumps(entry, allow_nan=False))
            count += entry["ph"] != "M"
        file.write("\n]\n")
    return count


def _entries(events: Iterable[Slice | Counter]) -> Iterator[dict[str, Any]]:
    """Trace dicts; a lane's name comes before its first event."""
    processes: dict[str, int] = {}
    threads: dict[tuple[str, str], int] = {}
    for event in events:
        _check(event)
        if event.process not in processes:
            processes[event.process] = len(processes) + 1
            yield _name("process_name", processes[event.process], 0, event.process)
            yield _order("process_sort_index", processes[event.process], 0)
        pid = processes[event.process]
        entry: dict[str, Any] = {"name": event.name, "ts": event.start * 1e6, "pid": pid}
        if isinstance(event, Counter):
            yield {**entry, "ph": "C", "tid": 0, "args": dict(event.values)}
            continue
        lane = (event.process, event.thread)
        if lane not in threads:
            threads[lane] = len(threads) + 1
            yield _name("thread_name", pid, threads[lane], event.thread)
            yield _order("thread_sort_index", pid, threads[lane])
        entry["tid"] = threads[lane]
        if event.details:
            entry["args"] = dict(event.details)
        if event.duration > 0.0:
            yield {**entry, "ph": "X", "dur": event.duration * 1e6}
        else:
            yield {**entry, "ph": "i", "s": "t"}


def _name(kind: str, pid: int, tid: int, name: str) -> dict[str, Any]:
    return {"name": kind, "ph": "M", "ts": 0, "pid": pid, "tid": tid, "args": {"name": name}}


def _order(kind: str, pid: int, tid: int) -> dict[str, Any]:
    """Lanes stand in the order in which they first appear."""
    place = {"sort_index": tid or pid}
    return {"name": kind, "ph": "M", "ts": 0, "pid": pid, "tid": tid, "args": place}


def _check(event: Slice | Counter) -> None:
    times = (event.start,) if isinstance(event, Counter) else (event.start, event.duration)
    if not all(math.isfinite(time) and time >= 0.0 for time in times):
        raise ValueError(f"trace event {event.name!r}: expected times >= 0 s, got {times}")
