"""Medians and spread over the seeds of every point of a sweep; as Markdown, JSON or a table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from rich.table import Table

from neurosim.energy.units import with_unit
from neurosim.sweep.reading import Value
from neurosim.sweep.schema import AXES
from neurosim.sweep.store import load_results, read_about

SPREAD = (10.0, 90.0)  # percentiles
SHOWN = ("bits_per_byte", "energy_J_per_token", "token_latency_s", "spike_rate")
HEADINGS = {
    "bits_per_byte": "bits per byte",
    "energy_J_per_token": "energy per token",
    "seconds_per_token": "time per token",
    "spike_rate": "spike rate",
    "token_latency_s": "latency",
}


@dataclass(frozen=True)
class Statistic:
    """Median, 10th and 90th percentile (linear between values) over the seeds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Statistic:
        """Of at least one value."""
        low, median, high = np.percentile(np.asarray(values, float), [SPREAD[0], 50.0, SPREAD[1]])
        return cls(float(median), float(low), float(high))


@dataclass(frozen=True)
class Group:
    """All seeds of one point: its axes, how many finished and failed, column -> statistic."""

    axes: Mapping[str, Value]
    seeds: int
    failed: int
    statistics: Mapping[str, Statistic]
    error: str = ""


@dataclass(frozen=True)
class Summary:
    """A sweep by groups. `keys`: swept chip keys and their units; `units`: of the statistics."""

    name: str
    points: int
    keys: Mapping[str, str]
    units: Mapping[str, str]
    groups: tuple[Group, ...]
    flags: tuple[str, ...]

    @property
    def done(self) -> int:
        """Points that finished or failed."""
        return sum(group.seeds + group.failed for group in self.groups)

    @property
    def failed(self) -> int:
        """Points that failed."""
        return sum(group.failed for group in self.groups)

    def differing(self) -> list[str]:
        """Axes that are not the same in all groups (the first, if all are)."""
        names = [*AXES, *self.keys]
        found = [
            name
            for name in names
            if len({group.axes[name] for group in self.groups if name in group.axes}) > 1
        ]
        return found or ["chip"]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "name": self.name,
            "points": self.points,
            "done": self.done,
            "failed": self.failed,
            "flags": list(self.flags),
            "keys": dict(self.keys),
            "units": dict(self.units),
            "spread": f"percentiles {SPREAD[0]:g} and {SPREAD[1]:g} over the seeds",
            "groups": [
                {
                    **group.axes,
                    "seeds": group.seeds,
                    "failed": group.failed,
                    **({"error": group.error} if group.error else {}),
                    "statistics": {
                        name: {"median": part.median, "low": part.low, "high": part.high}
                        for name, part in group.statistics.items()
                    },
                }
                for group in self.groups
            ],
        }

    def rows(self) -> tuple[list[str], list[list[str]]]:
        """Headings and cells of the table for people."""
        axes = self.differing()
        moved = "varied" in axes
        if moved:  # one key moves at a time: its name and value say it all
            axes = [name for name in axes if name not in self.keys]
        columns = self.shown()
        failures = any(group.failed for group in self.groups)
        headings = [self._heading(name) for name in axes] + (["value"] if moved else [])
        headings += ["seeds", *(["failed"] if failures else [])]
        headings += [HEADINGS.get(name, name) for name in columns]
        cells = []
        for group in self.groups:
            row = [_shown(group.axes[name]) for name in axes]
            row += [self._moved(group)] if moved else []
            row += [str(group.seeds), *([str(group.failed)] if failures else [])]
            row += [self._cell(group, name) for name in columns]
            cells.append(row)
        return headings, cells

    def shown(self) -> list[str]:
        """Columns that the table shows and a plot may take without being asked for."""
        known = dict.fromkeys(name for group in self.groups for name in group.statistics)
        of_populations = [name for part in ("rate.", "cv.") for name in known if part in name[:5]]
        return [*(name for name in SHOWN if name in known), *of_populations]

    def _heading(self, name: str) -> str:
        unit = self.keys.get(name, "")
        return f"{name} ({unit})" if unit not in ("", "1") else name

    def _moved(self, group: Group) -> str:
        key = str(group.axes["varied"])
        if key not in self.keys:
            return ""
        unit = self.keys[key]
        return (
            f"{_shown(group.axes[key])} {unit}"
            if unit not in ("", "1")
            else _shown(group.axes[key])
        )

    def _cell(self, group: Group, name: str) -> str:
        found = group.statistics.get(name)
        if found is None:
            return ""
        unit = self.units[name].partition("/")[0]
        values = (found.median, found.low, found.high)
        median, low, high = (
            with_unit(value, unit)
            if unit in ("J", "s")
            else f"{value:.4g} Hz"
            if unit == "Hz"
            else f"{value:.4f}"
            for value in values
        )
        return median if group.seeds == 1 else f"{median} ({low} to {high})"


def _shown(value: Value) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def summarise(folder: str | Path) -> Summary:
    """The summary of a sweep's folder, of what has finished so far."""
    about, table = read_about(Path(folder)), load_results(folder)
    return Summary(
        about["name"],
        about["points"],
        dict(about["keys"]),
        _units(table),
        tuple(_groups(table, list(about["keys"]))),
        tuple(about["flags"]),
    )


def _units(table: pa.Table) -> dict[str, str]:
    return {
        part.name: part.metadata[b"unit"].decode()
        for part in table.schema
        if part.name not in AXES and part.name != "cpu_s" and pa.types.is_primitive(part.type)
    }


def _groups(table: pa.Table, keys: Sequence[str]) -> list[Group]:
    names = [name for name in AXES if name not in ("point", "seed")] + list(keys)
    measured = list(_units(table))
    members: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in table.to_pylist():
        members.setdefault(tuple(row[name] for name in names), []).append(row)
    groups = []
    for axes, rows in members.items():
        good = [row for row in rows if row["status"] == "ok"]
        values = {
            name: [float(row[name]) for row in good if row.get(name) is not None]
            for name in measured
            if name not in keys
        }
        finite = {name: column for name, column in values.items() if column}
        groups.append(
            Group(
                dict(zip(names, axes, strict=True)),
                len(good),
                len(rows) - len(good),
                {
                    name: Statistic.of(column)
                    for name, column in finite.items()
                    if all(map(math.isfinite, column))
                },
                next((row["error"] for row in rows if row["status"] != "ok"), ""),
            )
        )
    return groups


def to_terminal(summary: Summary) -> Table:
    """A rich table; brackets hold the 10th and 90th percentile over the seeds."""
    headings, cells = summary.rows()
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in cells:
        table.add_row(*row)
    return table


def to_markdown(summary: Summary) -> str:
    """The same table in Markdown, with what it was made with below."""
    headings, cells = summary.rows()
    lines = [
        f"| {' | '.join(part.replace('|', chr(92) + '|') for part in row)} |"
        for row in (headings, ["---"] * len(headings), *cells)
    ]
    notes = [
        f"Sweep `{summary.name}`: {summary.done} of {summary.points} points"
        + (f", {summary.failed} failed" if summary.failed else "")
        + ". Medians over the seeds; in brackets the 10th and 90th percentile.",
        *summary.flags,
    ]
    return "\n".join(lines) + "\n\n" + "\n\n".join(notes) + "\n"
