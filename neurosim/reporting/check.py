"""What a report must have before a number of it is shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neurosim.reporting.study import FORMAT


def check_report(report: Mapping[str, Any], where: str = "report") -> None:
    """Refuse a report that would say too little or mix kinds of joules.

    Raises:
        ValueError: another format; no boundary, of the report or of a row; no quality number; a
            baseline with an energy and no quality; a ratio without context, batch or baseline;
            measured joules among modelled.
    """
    if report.get("format") != FORMAT:
        raise ValueError(
            f"{where}: expected a report of `neurosim report --json` ({FORMAT!r}), got "
            f"{report.get('format')!r}"
        )
    boundary = report.get("boundary") or {}
    if not boundary.get("counted") or "excludes" not in boundary:
        raise ValueError(
            f"{where}: no boundary; an energy without what it includes and excludes is not shown"
        )
    quality = report.get("quality") or {}
    if not isinstance(quality.get("ideal_bits_per_byte"), float) or not quality.get("text"):
        raise ValueError(
            f"{where}: no quality number with its text; an energy without quality is not shown"
        )
    for row in report.get("baselines", []):
        if not isinstance(row.get("bits_per_byte"), float):
            raise ValueError(
                f"{where}: baseline {row.get('title')!r} has an energy and no quality; measure its "
                "bits per byte on the same text or drop it"
            )
    for row in report.get("against", []):
        missing = [key for key in ("context", "batch", "baseline", "phase") if not row.get(key)]
        if missing:
            raise ValueError(
                f"{where}: a ratio without {', '.join(missing)}; 'x times less' means nothing "
                "without them"
            )
    for row in [*report.get("systems", []), *report.get("baselines", [])]:
        own = row.get("boundary") or {}
        if not own.get("counted") or not own.get("excludes"):
            raise ValueError(
                f"{where}: {row.get('title')!r} has no boundary of its own; one system's does not "
                "fit another"
            )
        if row.get("kind") != "modelled":
            raise ValueError(
                f"{where}: {row.get('title')!r} is {row.get('kind')}; modelled and measured joules "
                "never share a column, put it under 'measured'"
            )
    measured = report.get("measured")
    if measured is not None and measured.get("kind") != "measured":
        raise ValueError(f"{where}: 'measured' holds {measured.get('kind')!r} joules")
