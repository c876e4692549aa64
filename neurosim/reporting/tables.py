"""The report as tables: rows for the terminal, for CSV files and for the page, made once."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neurosim.energy.units import joules, percent, times, with_unit
from neurosim.files import replace_file


def quality_of(report: Mapping[str, Any]) -> str:
    """Bits per byte, ideal and on the chip."""
    quality = report["quality"]
    line = f"{quality['ideal_bits_per_byte']:.3f} bits per byte in exact integers"
    chips = list(quality["chip_bits_per_byte"].values())
    if chips:
        line += f", {min(chips):.3f} to {max(chips):.3f} on {report['chip']['name']}"
        line += f" ({len(chips)} chips)"
    return f"{line}; {quality['tokens']} tokens, {quality['text']}"


def answer(report: Mapping[str, Any]) -> list[str]:
    """The answer in sentences, the first system first."""
    main = report["main_context"]
    lines = []
    for system in report["systems"]:
        row = next(row for row in system["curve"] if row["context"] == main)
        lines.append(
            f"{system['title']}: {joules(row['decode_J_per_token'])} a decoded token, "
            f"{joules(row['prefill_J_per_token'])} a prompt token, "
            f"{with_unit(row['decode_seconds_per_token'], 's')} each "
            f"(context {main}, batch {report['batch']}; static "
            f"{percent(system['main']['static_share'])}, evidence {system['main']['evidence']})"
        )
    first = report["systems"][0]["key"]
    rows = [row for row in report["against"] if row["system"] == first]
    strongest = min(rows, key=lambda row: row["ratio"])
    title = title_of(report, strongest["baseline"])
    band = strongest["uncertainty"]["ratio"]
    theirs = next(r for r in report["baselines"] if r["key"] == strongest["baseline"])
    lines.append(
        f"the strongest baseline, {title}, needs {times(strongest['ratio'])} the energy of "
        f"{report['systems'][0]['title']} (decode, context {main}, batch {report['batch']}; 5 to "
        f"95 % of the price bands {times(band['p5'])} to {times(band['p95'])}; without static "
        f"power {times(strongest['ratio_without_static'])}), at "
        f"{theirs['bits_per_byte']:.3f} against {_system_quality(report, first)} bits per byte"
    )
    return lines


def title_of(report: Mapping[str, Any], key: str) -> str:
    """Title of a baseline."""
    return str(next(row["title"] for row in report["baselines"] if row["key"] == key))


def context_rows(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """J per decoded token: one row a system or baseline, one column a context."""
    rows: list[dict[str, Any]] = []
    for system in report["systems"]:
        rows.append(
            {
                "row": f"{system['title']}, spiking",
                "bits_per_byte": _system_quality(report, system["key"]),
                "side": "spiking",
                "joules": [point["decode_J_per_token"] for point in system["curve"]],
            }
        )
    for row in report["baselines"]:
        for key, memory in (("", "SRAM"), ("_cache_in_dram", "DRAM")):
            rows.append(
                {
                    "row": f"{row['title']}, cache in {memory}",
                    "bits_per_byte": f"{row['bits_per_byte']:.3f}",
                    "side": "ANN",
                    "joules": [point[f"decode_J_per_token{key}"] for point in row["curve"]],
                }
            )
    return rows


def _system_quality(report: Mapping[str, Any], key: str) -> str:
    quality = report["quality"]
    chips = sorted(quality["chip_bits_per_byte"].values())
    if key == "chip" and chips:
        return f"{chips[len(chips) // 2]:.3f}"
    return f"{quality['ideal_bits_per_byte']:.3f}"


def prefill_rows(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Row title and point of the curve: prefill of one text, systems and baselines."""
    rows = [
        {"row": f"{item['title']}{side}", **point}
        for key, side in (("systems", ", spiking"), ("baselines", ""))
        for item in report[key]
        for point in item["curve"]
    ]
    return [row for row in rows if "prefill_J" in row]


def boundary_rows(report: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """(titles, boundary): every boundary once, with the systems or baselines it holds for."""
    rows: list[tuple[str, Mapping[str, Any]]] = []
    for item in report["systems"]:
        rows.append((item["title"], item["boundary"]))
    if report["baselines"]:
        rows.append(("every ANN twin", report["baselines"][0]["boundary"]))
    return rows


def mechanism_rows(system: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Mechanism, J, share; largest first, what is zero left out."""
    parts: dict[str, float] = {}
    for mechanisms in system["main"]["by_layer_and_mechanism_J"].values():
        for name, value in mechanisms.items():
            parts[name] = parts.get(name, 0.0) + value
    total = sum(parts.values())
    order = sorted((name for name in parts if parts[name] > 0), key=lambda name: -parts[name])
    return [{"mechanism": n, "joules": parts[n], "share": parts[n] / total} for n in order]


def to_csv(report: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """File name -> rows; every number of the report's tables, in SI units."""
    contexts = [
        {"system": system["key"], "side": "spiking", **point}
        for system in report["systems"]
        for point in system["curve"]
    ] + [
        {"system": row["key"], "side": "ANN", **point}
        for row in report["baselines"]
        for point in row["curve"]
    ]
    breakdown = [
        {"system": system["key"], "layer": layer, "mechanism": name, "J_per_token": value}
        for system in report["systems"]
        for layer, parts in system["main"]["by_layer_and_mechanism_J"].items()
        for name, value in parts.items()
    ]
    against = [
        {key: value for key, value in row.items() if not isinstance(value, dict | list)}
        | {f"ratio_{p}": value for p, value in row["uncertainty"]["ratio"].items()}
        for row in report["against"]
    ]
    counts = [{"count": k, "per_token": v} for k, v in report["counts_per_token"].items()]
    prices = [
        {**row, "low": (row["band"] or [None])[0], "high": (row["band"] or [None])[-1]}
        for row in report["prices"]
    ]
    for row in prices:
        del row["band"]
    return {
        "contexts.csv": contexts,
        "breakdown.csv": breakdown,
        "ratios.csv": against,
        "counts.csv": counts,
        "sites.csv": report["sites"],
        "break_even.csv": report["break_even"],
        "thresholds.csv": report["verdicts"],
        "prices.csv": prices,
    }


def write_csv(report: Mapping[str, Any], folder: Path) -> list[Path]:
    """One CSV file a table; each whole or not at all."""
    written = []
    for name, rows in to_csv(report).items():
        columns = list(dict.fromkeys(key for row in rows for key in row))
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        replace_file(folder / name, buffer.getvalue().encode())
        written.append(folder / name)
    return written
