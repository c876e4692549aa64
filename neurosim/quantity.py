"""A number with its unit, its source and how well it is known."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

EVIDENCE = ("measured", "cited", "derived", "assumed")  # strongest first


@dataclass(frozen=True)
class Quantity:
    """A value in SI units (or the stated unit), where it comes from, its evidence class and band.

    `band` is the plausible (low, high), None where nobody gave one.
    """

    value: float
    unit: str
    source: str
    evidence: str
    band: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.evidence not in EVIDENCE:
            raise ValueError(
                f"expected evidence to be one of {', '.join(EVIDENCE)}, got {self.evidence!r}"
            )
        if not math.isfinite(self.value):
            raise ValueError(f"expected a finite value, got {self.value}")

    @classmethod
    def from_dict(cls, where: str, entry: object) -> Quantity:
        """Read {value, unit, source, evidence[, band]}; `where` (file and key) goes into errors."""
        if not isinstance(entry, Mapping):
            raise ValueError(
                f"{where}: expected {{ value, unit, source, evidence }}, got {entry!r}"
            )
        data: dict[str, Any] = dict(entry)
        missing = [key for key in ("value", "unit", "source", "evidence") if key not in data]
        unknown = sorted(set(data) - {"value", "unit", "source", "evidence", "band"})
        if missing or unknown:
            problem = f"missing {', '.join(missing)}" if missing else f"unknown {unknown}"
            raise ValueError(f"{where}: {problem}; expected value, unit, source, evidence, band")
        if isinstance(data["value"], bool) or not isinstance(data["value"], int | float):
            raise ValueError(f"{where}: expected a number as value, got {data['value']!r}")
        value = float(data["value"])
        try:
            return cls(
                value=value,
                unit=str(data["unit"]),
                source=str(data["source"]),
                evidence=str(data["evidence"]),
                band=_band(value, data.get("band")),
            )
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error


def _band(value: float, entry: object) -> tuple[float, float] | None:
    """[low, high] around the value, or None."""
    if entry is None:
        return None
    ends = list(entry) if isinstance(entry, list | tuple) else []
    if len(ends) != 2 or not all(
        isinstance(end, int | float) and not isinstance(end, bool) for end in ends
    ):
        raise ValueError(f"expected band = [low, high], got {entry!r}")
    low, high = float(ends[0]), float(ends[1])
    if not low <= value <= high:
        raise ValueError(
            f"expected a band around the value {value:g}, got [{low:g}, {high:g}]; "
            "correct the value or the band"
        )
    return low, high


def weakest(evidence: list[str]) -> str:
    """The weakest evidence class of several: what a result that used them all may claim."""
    return max(evidence, key=EVIDENCE.index)
