"""Tables of `neurosim device`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from neurosim.devices.experiments.result import Cell, Experiment
from neurosim.devices.experiments.style import with_prefix
from neurosim.devices.preset import DevicePreset

_MOST_ROWS = 40


def write_json(options: argparse.Namespace, data: dict[str, Any]) -> None:
    """`data` to where --json says, if anywhere."""
    if options.json is None:
        return
    text = json.dumps(data, indent=1, allow_nan=False)
    if options.json == "-":
        print(text)
    else:
        Path(options.json).parent.mkdir(parents=True, exist_ok=True)
        Path(options.json).write_text(text + "\n", encoding="utf-8")


def _cell(value: Cell, unit: str) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | str):
        return f"{value} {unit}".rstrip() if isinstance(value, int) else value
    return with_prefix(value, unit)


def new_table(title: str, names: Sequence[str], left: int = 1) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for i, name in enumerate(names):
        table.add_column(name, justify="left" if i < left else "right")
    return table


def print_experiment(found: Experiment, console: Console) -> None:
    """The table, what was driven, the flag, and every criterion with its verdict."""
    title = f"{found.id}: {found.title} - {found.device.name}"
    table = new_table(title, [name for name, _ in found.columns])
    for row in found.rows[:_MOST_ROWS]:
        cells = zip(row, found.columns, strict=True)
        table.add_row(*(_cell(value, unit) for value, (_, unit) in cells))
    console.print(table)
    if len(found.rows) > _MOST_ROWS:
        console.print(f"... {len(found.rows) - _MOST_ROWS} rows more (--json has all)")
    if found.settings:
        console.print(found.settings, highlight=False, markup=False)
    if found.seed is not None:
        console.print(f"seed {found.seed}", highlight=False)
    for check in found.checks:
        verdict = "pass" if check.passed else "FAIL"
        line = f"  {verdict}  {check.name}: {check.found:.4g} (wanted {check.wanted})"
        console.print(line, highlight=False, markup=False)
    if found.device.flag:
        console.print(found.device.flag, style="bold", highlight=False, markup=False)
    console.print()


def print_presets(devices: Sequence[DevicePreset], console: Console, whole: bool) -> None:
    """One line a device, or everything about one."""
    if whole:
        for device in devices:
            console.print(str(device), highlight=False, markup=False)
        return
    table = new_table("devices", ("name", "status", "V_th", "V_h", "R_on", "R_off", "evidence"), 2)
    for device in devices:
        table.add_row(
            device.name,
            device.status,
            *(
                with_prefix(device[key], unit)
                for key, unit in (
                    ("threshold_voltage", "V"),
                    ("hold_voltage", "V"),
                    ("on_resistance", "ohm"),
                    ("off_resistance", "ohm"),
                )
            ),
            device.evidence,
        )
    console.print(table)
    for device in devices:
        if device.flag:
            console.print(device.flag, highlight=False, markup=False)
