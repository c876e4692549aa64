"""Write the measured tables into README.md and docs/kernels.md: `python -m benchmarks.table`.

The newest results/*-kernels.jsonl is read; the text between the two marks is replaced.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.goals import DENSITIES, GOALS, Goal

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks/results"
BEGIN, END = "<!-- measured: python -m benchmarks.table -->", "<!-- end measured -->"
Rows = Sequence[Mapping[str, Any]]


def newest(folder: Path = RESULTS) -> Path:
    """The last kernel results by name, which begins with the date."""
    found = sorted(folder.glob("*-kernels.jsonl"))
    if not found:
        raise ValueError(f"expected *-kernels.jsonl in {folder}, got none; run benchmarks.run")
    return found[-1]


def read(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Header and rows of a results file."""
    head, *rows = (json.loads(line) for line in path.read_text().splitlines())
    return head, [row for row in rows if "header" not in row]


def ratio(goal: Goal, rows: Rows, density: float | None) -> float | None:
    """Fastest rival over our fastest, by median CPU time; None where either was not measured."""
    here = [
        row
        for row in rows
        if row["operation"] == goal.operation
        and tuple(row["shape"].values()) == goal.shape
        and row["density"] == density
    ]
    ours = [_median(row) for row in here if row["kind"] == "ours" and row["candidate"] in goal.ours]
    rivals = [
        _median(row)
        for row in here
        if row["kind"] != "ours" and {row["kind"], row["candidate"]} & set(goal.rivals)
    ]
    return min(rivals) / min(ours) if ours and rivals else None


def _median(row: Mapping[str, Any]) -> float:
    return float(row["cpu_us"]["median"])


def _digits(value: float) -> str:
    return f"{value:.0f}" if value >= 9.95 else f"{value:.2g}"


def cell(measured: float | None, goal: float | None) -> str:
    """measured (goal); bold where the goal is met."""
    if measured is None:
        return ""
    text = _digits(measured)
    if goal is None:
        return text
    return f"**{text}** ({goal:g})" if measured >= goal else f"{text} ({goal:g})"


def reached(rows: Rows, goals: Iterable[Goal] = GOALS) -> tuple[int, int]:
    """Goals met and goals measured, each density counted."""
    pairs = [
        (ratio(goal, rows, density), goal.at(density))
        for goal in goals
        for density in (*DENSITIES, None)
    ]
    measured = [found >= wanted for found, wanted in pairs if found and wanted]
    return sum(measured), len(measured)


def by_density(rows: Rows, goals: Iterable[Goal] = GOALS) -> list[str]:
    """Markdown: a row per goal, a column per density."""
    head = "| operation | against | " + " | ".join(f"p = {p:g}" for p in DENSITIES) + " |"
    lines = [head, "| --- | --- |" + " --- |" * len(DENSITIES)]
    for goal in goals:
        found = [ratio(goal, rows, density) for density in DENSITIES]
        if any(value is not None for value in found):
            cells = (cell(v, goal.at(p)) for v, p in zip(found, DENSITIES, strict=True))
            lines.append(f"| {goal.text} | {goal.against} | " + " | ".join(cells) + " |")
    return lines


def at_any(rows: Rows, goals: Iterable[Goal] = GOALS) -> list[str]:
    """Markdown: operations whose time does not depend on density."""
    lines = ["| operation | against | ratio |", "| --- | --- | --- |"]
    for goal in goals:
        found = ratio(goal, rows, None)
        if found is not None:
            lines.append(f"| {goal.text} | {goal.against} | {cell(found, goal.at(None))} |")
    return lines


def stretches(rows: Rows, goals: Iterable[Goal] = GOALS) -> list[str]:
    """Markdown: what was wished for beyond the goals, and what was measured."""
    lines = ["| operation | against | wished | measured |", "| --- | --- | --- | --- |"]
    for goal in goals:
        found = [ratio(goal, rows, density) for density in DENSITIES]
        if goal.stretch and any(value is not None for value in found):
            wished = (goal.stretch_at(p) for p in DENSITIES)
            texts = ["-" if value is None else f"{value:g}" for value in wished]
            got = ["-" if value is None else _digits(value) for value in found]
            lines.append(
                f"| {goal.text} | {goal.against} | {' / '.join(texts)} | {' / '.join(got)} |"
            )
    return lines


def times(rows: Rows) -> list[str]:
    """Markdown: our candidates' times, rates and share of the roofline at two densities."""
    lines = [
        "| operation | shape | ours | p | CPU time | best dense | int8 | SOP/s | roofline |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        if row["kind"] != "ours" or "group" not in row or row["density"] not in (None, 0.05, 0.2):
            continue
        shape = " ".join(f"{letter}{size}" for letter, size in row["shape"].items())
        rate, fraction = row.get("synaptic_operations_per_s"), row.get("roofline_fraction")
        cells = [
            f"`{row['operation']}`",
            shape,
            row["candidate"],
            "" if row["density"] is None else f"{row['density']:g}",
            _time(row),
            *(_times(row.get(f"{kind}_ratio")) for kind in ("dense", "int8")),
            "" if rate is None else f"{rate / 1e9:.3g} G",
            "" if fraction is None else f"{100 * fraction:.0f} %",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _time(row: Mapping[str, Any]) -> str:
    median = _median(row)
    return f"{median:.3g} us" if median < 1000 else f"{median / 1000:.3g} ms"


def _times(value: float | None) -> str:
    return "" if value is None else f"{_digits(value)}x"


def conditions(head: Mapping[str, Any]) -> str:
    """Machine, versions, date and load, one sentence."""
    machine, versions = head["machine"], head["versions"]
    names = ("numpy", "torch", "mlx", "numba")
    parts = ", ".join(f"{name} {versions[name]}" for name in names if name in versions)
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {head['threads']} thread, load "
        f"{machine['load']:.1f}; {parts}; {head['date'][:10]}, commit {head['commit'][:8]}."
    )


def readme_block(head: Mapping[str, Any], rows: Rows) -> str:
    """For the README: ratios with their goals."""
    note = (
        "Time of the fastest rival over ours, median CPU time of one thread, lists built anew for "
        "every call; in brackets the goal, bold where it is met. Densities p are independent "
        "spikes. "
    )
    met, total = reached(rows)
    summary = f"{met} of {total} goals are met. "
    tables = ["", *by_density(rows, _varying()), "", *at_any(rows)]
    return "\n".join([note + summary + conditions(head), *tables])


def docs_block(head: Mapping[str, Any], rows: Rows) -> str:
    """For docs/kernels.md: also the stretch goals and the times."""
    levels = head["roofline"]["read_and_add_GB_per_s"]
    rates = ", ".join(f"{part['GB_per_s']:.3g} GB/s {name}" for name, part in levels.items())
    products = head["roofline"]["sgemm_GMAC_per_s"]
    roof = f"Measured limits of one thread: read and add {rates}; sgemm {products:.3g} GMAC/s."
    parts = [
        readme_block(head, rows), "", roof, "", "Wished for beyond the goals, by p:", "",
        *stretches(rows), "", "Times; x is the rival's time over ours:", "", *times(rows),
    ]  # fmt: skip
    return "\n".join(parts)


def _varying() -> list[Goal]:
    return [goal for goal in GOALS if not goal.operation.startswith("lif_")]


def replaced(text: str, block: str, name: str) -> str:
    """The text with what stands between the marks replaced."""
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(f"expected one {BEGIN} before one {END} in {name}")
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{block}\n{END}{rest.split(END)[1]}"


def pages(head: Mapping[str, Any], rows: Rows) -> dict[str, str]:
    """File -> what it should contain."""
    blocks = {"README.md": readme_block(head, rows), "docs/kernels.md": docs_block(head, rows)}
    return {
        name: replaced((ROOT / name).read_text(), block, name) for name, block in blocks.items()
    }


def main() -> int:
    """Rewrite both pages."""
    path = newest()
    for name, text in pages(*read(path)).items():
        (ROOT / name).write_text(text)
        print(f"{name} from {path.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
