"""The form of device.md 8.1: numbers read off a paper, turned into a preset.

A filled form replaces what it states and leaves the rest of the base preset as it is, flagged as
assumed. Status "calibrated" needs V_th, V_h, R_on and R_off (or the ratio); with less the preset
stays a placeholder. The growth law is not fitted here: pulses_to_fire and frequency are handed on
(`Form.table`) to the calibration.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from neurosim.devices.preset import DevicePreset, load_device, read_toml
from neurosim.quantity import Quantity

FORM_FOLDER = Path(__file__).parent / "forms"
NOT_STATED = "not stated"
UNITS = {
    "thickness_ag": "m",
    "thickness_v2c": "m",
    "thickness_w": "m",
    "area": "m^2",
    "forming_voltage": "V",
    "compliance": "A",
    "threshold_mean": "V",
    "threshold_std": "V",
    "hold_mean": "V",
    "hold_std": "V",
    "cycles": "1",
    "on_resistance": "ohm",
    "off_resistance": "ohm",
    "on_off_ratio": "1",
    "off_conduction": "law",
    "delay": "[V, s]",
    "relaxation_time": "s",
    "pulse_amplitude": "V",
    "pulse_width": "s",
    "pulse_interval": "s",
    "pulses_to_fire": "[V, 1]",
    "frequency": "[V, Hz]",
    "spike_energy": "J",
    "endurance": "1",
}
_SWITCH = {  # form entry -> number of the preset
    "threshold_mean": "threshold_voltage",
    "threshold_std": "threshold_spread_cycle",
    "hold_mean": "hold_voltage",
    "hold_std": "hold_spread_cycle",
    "on_resistance": "on_resistance",
    "off_resistance": "off_resistance",
    "relaxation_time": "reset_delay",
}
_EXTRA = {
    "thickness_ag": "stack.thickness_ag",
    "thickness_v2c": "stack.thickness_v2c",
    "thickness_w": "stack.thickness_w",
    "area": "stack.area",
    "forming_voltage": "limits.forming_voltage",
    "cycles": "limits.cycles",
    "relaxation_time": "relaxation.time",
    "endurance": "limits.endurance",
}
_LISTS = ("compliance", "pulse_amplitude")
_TABLES = tuple(key for key, unit in UNITS.items() if unit.startswith("["))


@dataclass(frozen=True)
class Form:
    """A form as read: `values` has the stated entries, `where` their place in the paper."""

    path: Path
    base: str
    citation: str
    values: Mapping[str, Any]
    where: Mapping[str, str]

    @property
    def missing(self) -> tuple[str, ...]:
        """Entries without which the device is no calibrated one."""
        needed = [key for key in ("threshold_mean", "hold_mean", "on_resistance")]
        needed = [key for key in needed if key not in self.values]
        if not {"off_resistance", "on_off_ratio"} & set(self.values):
            needed.append("off_resistance")
        return tuple(needed)

    def table(self, key: str) -> tuple[tuple[float, float], ...]:
        """A stated table (delay, pulses_to_fire, frequency) as pairs; empty if not stated."""
        if key not in _TABLES:
            raise ValueError(f"expected a table out of {', '.join(_TABLES)}, got {key!r}")
        return tuple((float(x), float(y)) for x, y in self.values.get(key, ()))

    def _quantity(self, key: str, value: float, unit: str, evidence: str = "cited") -> Quantity:
        place = self.where.get(key, "")
        return Quantity(value, unit, f"{self.citation}{', ' + place if place else ''}", evidence)

    def preset(self) -> DevicePreset:
        """The base preset with the stated numbers in place."""
        base = load_device(self.base)
        changes = {
            target: self._quantity(key, float(self.values[key]), base.quantities[target].unit)
            for key, target in _SWITCH.items()
            if key in self.values
        }
        if "on_off_ratio" in self.values and "off_resistance" not in self.values:
            on = changes.get("on_resistance", base.quantities["on_resistance"]).value
            ohms = on * float(self.values["on_off_ratio"])
            changes["off_resistance"] = self._quantity("on_off_ratio", ohms, "ohm", "derived")
        if delays := self.table("delay"):
            shortest = min(delays, key=lambda pair: pair[1])
            changes["set_delay"] = self._quantity("delay", shortest[1], "s")
        extras = {
            target: self._quantity(key, float(self.values[key]), UNITS[key])
            for key, target in _EXTRA.items()
            if key in self.values
        }
        if "compliance" in self.values:
            amperes = self.values["compliance"]
            highest = max(amperes) if isinstance(amperes, list) else float(amperes)
            for target in ("limits.compliance", "relaxation.compliance"):
                extras[target] = self._quantity("compliance", float(highest), "A")
        return replace(
            base,
            status=base.status if self.missing else "calibrated",
            citation=self.citation,
            quantities={**base.quantities, **changes},
            extras={**base.extras, **extras},
        )


def _stated(where: str, key: str, entry: object) -> Any:
    """The checked value of one entry, or None if not stated."""
    if not isinstance(entry, dict) or set(entry) != {"value", "unit", "where"}:
        raise ValueError(f"{where}, {key}: expected {{ value, unit, where }}, got {entry!r}")
    value, unit = entry["value"], UNITS[key]
    if entry["unit"] != unit:
        raise ValueError(f"{where}, {key}: expected unit {unit!r}, got {entry['unit']!r}")
    if value == NOT_STATED:
        return None
    if unit == "law":
        if not isinstance(value, str):
            raise ValueError(f"{where}, {key}: expected the name of a law, got {value!r}")
        return value
    rows: list[Any] = value if isinstance(value, list) else [value]
    if key in _TABLES:
        good = isinstance(value, list) and all(isinstance(r, list) and len(r) == 2 for r in rows)
        rows = [number for row in rows for number in row] if good else []
    elif isinstance(value, list) and key not in _LISTS:
        rows = []
    if not rows or not all(_positive(number) for number in rows):
        raise ValueError(
            f"{where}, {key}: expected {NOT_STATED!r} or "
            f"{'pairs of numbers' if key in _TABLES else 'a number'} >= 0 in {unit}, got {value!r}"
        )
    return value


def _positive(number: object) -> bool:
    if isinstance(number, bool) or not isinstance(number, int | float):
        return False
    return 0.0 <= number < math.inf


def read_form(path: str | Path = FORM_FOLDER / "ag_v2c_w.toml") -> Form:
    """A form from a TOML file; the shipped one is empty and meant to be copied and filled."""
    data = read_toml(Path(path))
    texts = {key: data.pop(key, None) for key in ("base", "citation")}
    for key, text in texts.items():
        if not isinstance(text, str):
            raise ValueError(f"{path}: expected a text {key!r}, got {text!r}")
    unknown = sorted(set(data) - set(UNITS))
    missing = sorted(set(UNITS) - set(data))
    if unknown or missing:
        problem = f"unknown {', '.join(unknown)}" if unknown else f"missing {', '.join(missing)}"
        raise ValueError(f"{path}: {problem}; expected exactly the entries of the shipped form")
    values = {key: _stated(str(path), key, entry) for key, entry in data.items()}
    return Form(
        Path(path),
        str(texts["base"]),
        str(texts["citation"]),
        {key: value for key, value in values.items() if value is not None},
        {key: str(entry["where"]) for key, entry in data.items()},
    )
