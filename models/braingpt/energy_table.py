"""The energy per token of BrainGPT for people: one screen, from the report's dictionary alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from neurosim.energy.units import joules

_NAMES = {
    "ann": "ANN",
    "unary": "unary spikes",
    "bit_plane": "bit planes",
    "signed_digit": "signed digits",
    "graded": "graded",
}


def terminal(reports: Sequence[Mapping[str, Any]]) -> Group:
    """Reports of one model at one or several contexts; their dictionaries, see `TokenEnergy`."""
    first = reports[0]
    activity = first["activity"]
    rates = ", ".join(
        f"{_NAMES[code]} {rate:.3g}" for code, rate in activity["events_per_mac"].items()
    )
    moved = first["bytes_per_token"]["weights"]
    lines: list[RenderableType] = [
        Text(f"counted: {first['boundary']}", style="dim"),
        Text(f"not counted: {'; '.join(first['excludes'])}", style="dim"),
        Text(first["kind"], style="dim"),
        Text(),
        Text(f"events per multiply-accumulate ({activity['source']}): {rates}", style="bold"),
        Text(
            f"weights of {first['weight_bits']} bits in {first['memory']}, "
            f"{sum(moved.values()) / 1e6:.4g} MB a token; cache of {first['kv_bits']} bits; "
            f"SiLU {first['silu']}"
        ),
    ]
    for report in reports:
        for arithmetic in report["systems"]:
            lines += [Text(), _table(report, arithmetic)]
    stepping = ", ".join(
        f"{joules(value)} in {name}" for name, value in first["stepping_J"].items()
    )
    lines += [
        Text(),
        *(Text(line, style="bold") for line in first["conclusions"]),
        Text(
            f"not in the tables: neurons that step through 127 slots instead would add {stepping}"
        ),
    ]
    return Group(*lines)


def _table(report: Mapping[str, Any], arithmetic: str) -> Table:
    """One arithmetic at one context: a row per system, a column per mechanism."""
    systems = report["systems"][arithmetic]
    names = dict.fromkeys(name for row in systems.values() for name in row["by_mechanism_J"])
    quantising = [name for name in names if name in ("spike sites", "scales")]
    columns = [name for name in names if name not in quantising]
    table = Table(
        title=f"J/token, context {report['context']}, arithmetic {arithmetic}",
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    table.add_column("")
    for name in (*columns, "quantising", "arithmetic", "of ANN", "total", "of ANN"):
        table.add_column(name, justify="right", overflow="fold")
    ann = systems["ann"]
    for system, row in systems.items():
        parts = row["by_mechanism_J"]
        table.add_row(
            _NAMES[system],
            *(joules(parts.get(name, 0.0)) for name in columns),
            joules(sum(parts.get(name, 0.0) for name in quantising)),
            joules(row["arithmetic_J"]),
            f"{row['arithmetic_J'] / ann['arithmetic_J']:.2f}",
            joules(row["J_per_token"]),
            f"{row['J_per_token'] / ann['J_per_token']:.3f}",
        )
    return table
