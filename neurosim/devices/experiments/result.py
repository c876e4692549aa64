"""What an experiment returns: a table, machine-readable values, its criteria with verdicts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.devices.preset import DevicePreset

Cell = float | int | str | bool | None


@dataclass(frozen=True)
class Check:
    """One pass criterion of device.md section 4: what was found and what it had to be."""

    name: str
    found: float
    wanted: str
    passed: bool

    def __post_init__(self) -> None:
        object.__setattr__(self, "passed", bool(self.passed))


def at_most(name: str, found: float, limit: float, unit: str = "") -> Check:
    """|found| <= limit; NaN fails."""
    return Check(name, float(found), f"<= {limit:g} {unit}".rstrip(), abs(found) <= limit)


def at_least(name: str, found: float, limit: float, unit: str = "") -> Check:
    """found >= limit; NaN fails."""
    return Check(name, float(found), f">= {limit:g} {unit}".rstrip(), found >= limit)


def holds(name: str, count_of_failures: int, cases: int) -> Check:
    """A statement that must hold in every one of `cases` cases, at least one."""
    kept = cases - count_of_failures
    return Check(name, float(kept), f"all of {cases}", cases > 0 and count_of_failures == 0)


@dataclass(frozen=True)
class Experiment:
    """A finished experiment.

    `columns` are (name, unit) of `rows`; `values` goes into JSON at the top level (SI units in the
    key); `series` are the arrays the figure draws; `settings` what was driven, printed under the
    table.
    """

    id: str
    title: str
    device: DevicePreset
    columns: tuple[tuple[str, str], ...]
    rows: tuple[tuple[Cell, ...], ...]
    checks: tuple[Check, ...]
    values: Mapping[str, Any] = field(default_factory=dict)
    series: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    settings: str = ""
    seed: int | None = None

    @property
    def passed(self) -> bool:
        """Whether every criterion is met."""
        return all(check.passed for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: numbers that are not finite become null."""
        return {
            "id": self.id,
            "title": self.title,
            "device": self.device.name,
            "settings": self.settings,
            "seed": self.seed,
            "passed": self.passed,
            "checks": [
                {"name": c.name, "found": plain(c.found), "wanted": c.wanted, "passed": c.passed}
                for c in self.checks
            ],
            "columns": [f"{name} ({unit})" if unit else name for name, unit in self.columns],
            "rows": [[plain(cell) for cell in row] for row in self.rows],
        }

    def __repr__(self) -> str:
        verdict = "passed" if self.passed else "FAILED"
        return f"Experiment({self.id}, {self.device.name}, {len(self.rows)} rows, {verdict})"


def plain(value: Any) -> Any:
    """Numbers of Python out of numpy's, lists out of arrays, None out of NaN and infinity."""
    if isinstance(value, np.ndarray):
        return [plain(item) for item in value.tolist()]
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
