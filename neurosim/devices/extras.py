"""Optional numbers of a preset beyond the threshold switch itself, and their class defaults.

A preset's TOML may hold the tables below; what it leaves out comes from `class_defaults.toml`
(device.md 2.4), every value of which is assumed. Three defaults depend on the preset: the hazard's
V_0 = sigma_C2C / 1.2825, the slope of V_th with temperature, and the growth law, whose critical DC
voltage is set to V_th.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from neurosim.quantity import Quantity

TABLES: Mapping[str, Mapping[str, str]] = {
    "statistics": {"correlation": "1"},
    "reverse": {
        "threshold_voltage": "V",
        "hold_voltage": "V",
        "on_resistance": "ohm",
        "threshold_spread_cycle": "V",
        "hold_spread_cycle": "V",
    },
    "hazard": {"scale": "V", "ramp": "V/s"},
    "relaxation": {
        "time": "s",
        "compliance": "A",
        "exponent": "1",
        "energy": "eV",
        "spread": "1",
        "stretch": "1",
    },
    "temperature": {
        "reference": "K",
        "off_energy": "eV",
        "growth_energy": "eV",
        "threshold_slope": "V/K",
    },
    "growth": {
        "rate": "1/s",  # law "power": 1/s at 1 V^p
        "scale": "V",
        "power": "1",
        "relaxation_time": "s",
        "threshold": "1",
        "off_level": "1",
        "series_resistance": "ohm",
        "pre_ratio": "1",
    },
    "limits": {"compliance": "A", "endurance": "1", "forming_voltage": "V", "cycles": "1"},
    "stack": {"thickness_ag": "m", "thickness_v2c": "m", "thickness_w": "m", "area": "m^2"},
}
"""Table -> key -> unit."""
TEXTS = {
    "statistics.shape": ("normal", "lognormal"),
    "relaxation.law": ("herring", "exponential", "stretched"),
    "growth.law": ("power", "sinh", "exp"),
}
"""Dotted key -> allowed words."""


def read_extras(where: str, data: Mapping[str, Any]) -> tuple[dict[str, Quantity], dict[str, str]]:
    """(quantities, texts) by dotted key out of the tables of a parsed TOML file."""
    numbers: dict[str, Quantity] = {}
    texts: dict[str, str] = {}
    for table, entries in data.items():
        if table not in TABLES:
            raise ValueError(
                f"{where}: unknown table [{table}]; known: {', '.join(sorted(TABLES))}"
            )
        for key, entry in entries.items():
            dotted = f"{table}.{key}"
            if dotted in TEXTS:
                if entry not in TEXTS[dotted]:
                    allowed = ", ".join(TEXTS[dotted])
                    raise ValueError(f"{where}, {dotted}: expected one of {allowed}, got {entry!r}")
                texts[dotted] = entry
            elif key in TABLES[table]:
                numbers[dotted] = Quantity.from_dict(f"{where}, {dotted}", entry)
            else:
                known = ", ".join(TABLES[table])
                raise ValueError(f"{where}: unknown keys {key} in [{table}]; known there: {known}")
    check_units(where, numbers)
    return numbers, texts


def check_units(where: str, numbers: Mapping[str, Quantity]) -> None:
    """Refuse a number whose unit is not the one of `TABLES`."""
    for dotted, quantity in numbers.items():
        table, _, key = dotted.partition(".")
        unit = TABLES.get(table, {}).get(key)
        if unit is None or quantity.unit != unit:
            raise ValueError(f"{where}, {dotted}: expected unit {unit!r}, got {quantity.unit!r}")


@cache
def class_defaults() -> tuple[Mapping[str, Quantity], Mapping[str, str]]:
    """Numbers and texts of `class_defaults.toml`."""
    path = Path(__file__).parent / "class_defaults.toml"
    return read_extras(str(path), tomllib.loads(path.read_text(encoding="utf-8")))
