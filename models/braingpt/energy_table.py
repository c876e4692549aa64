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
_CODES = (
    "codes of the same integers: unary, one spike a unit; bit planes, one a binary digit; signed "
    "digits, one a digit of the form with the fewest; graded, one spike that carries the number"
)
_SHORT = {
    "ann": "ANN",
    "unary": "unary",
    "bit_plane": "planes",
    "signed_digit": "digits",
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
        Text(f"events per multiply-accumulate ({activity['source']}): {rates}", style="bold"),
        Text(
            f"weights of {first['weight_bits']} bits in {first['memory']}, "
            f"{sum(moved.values()) / 1e6:.4g} MB a token; cache of {first['kv_bits']} bits; "
            f"SiLU {first['silu']}"
        ),
    ]
    lines += [Text(line, style="bold") for line in first["conclusions"]]
    for report in reports:
        lines += [Text(), _systems(report), *_moved(report)]
    lines += [Text(), _mechanisms(reports[0])]
    stepping = ", ".join(
        f"{joules(value)} in {name}" for name, value in first["stepping_J"].items()
    )
    lines += [
        Text(),
        Text(
            f"not in the tables: neurons that step through {first['slots']} slots instead would "
            f"add {stepping}"
        ),
    ]
    lines += [
        Text(),
        Text(f"counted: {first['boundary']}", style="dim"),
        Text(f"not counted: {'; '.join(first['excludes'])}", style="dim"),
        Text(first["kind"], style="dim"),
        Text(_CODES, style="dim"),
    ]
    return Group(*lines)


def _grid(title: str, names: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("")
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _systems(report: Mapping[str, Any]) -> Table:
    """Arithmetic of a token in every number format: a row per system."""
    formats = report["systems"]
    columns = [name for each in formats for name in (each, "of ANN")]
    table = _grid(f"J/token of arithmetic, context {report['context']}", columns)
    for system in formats["fp32"]:
        cells = []
        for rows in formats.values():
            value = rows[system]["arithmetic_J"]
            cells += [joules(value), f"{value / rows['ann']['arithmetic_J']:.2f}"]
        table.add_row(_NAMES[system], *cells)
    return table


def _moved(report: Mapping[str, Any]) -> list[Text]:
    """What memory adds to every row, and what is then left of the differences."""
    rows = report["systems"]["int8"]
    ann = rows["ann"]
    moved = ann["by_mechanism_J"]
    shares = ", ".join(
        f"{_NAMES[name]} {row['J_per_token'] / ann['J_per_token']:.3f}"
        for name, row in rows.items()
        if name != "ann"
    )
    text = (
        f"and the same for every row: weights moved {joules(moved['weights moved'])}, key-value "
        f"cache moved {joules(moved['key-value cache moved'])}; with them, of the ANN in int8: "
    )
    return [Text(text + shares)]


def _mechanisms(report: Mapping[str, Any]) -> Table:
    """Where the arithmetic is, in int8: a row per mechanism."""
    systems = report["systems"]["int8"]
    title = f"arithmetic by mechanism, int8 linear layers, context {report['context']}"
    table = _grid(title, [_SHORT[system] for system in systems])
    names = dict.fromkeys(name for row in systems.values() for name in row["by_mechanism_J"])
    for name in names:
        if not name.endswith("moved") and name != "routing":
            parts = (row["by_mechanism_J"].get(name) for row in systems.values())
            table.add_row(name, *("" if part is None else joules(part) for part in parts))
    return table
