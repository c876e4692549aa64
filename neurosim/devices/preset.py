"""Device presets: TOML files in which every number has a unit, a source and an evidence class."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neurosim.devices.threshold_switch import ThresholdSwitch
from neurosim.quantity import Quantity, weakest

PRESET_FOLDER = Path(__file__).parent / "presets"
STATUSES = ("published", "calibrated", "demonstration", "placeholder")
UNITS = {
    "capacitance": "F",
    "on_resistance": "ohm",
    "off_resistance": "ohm",
    "output_resistance": "ohm",
    "threshold_voltage": "V",
    "hold_voltage": "V",
    "leak_conductance": "S",
    "leak_voltage": "V",
    "set_delay": "s",
    "reset_delay": "s",
    "threshold_spread_cycle": "V",
    "hold_spread_cycle": "V",
    "threshold_spread_device": "V",
    "hold_spread_device": "V",
}
_SPREADS = tuple(key for key in UNITS if "spread" in key)


def read_toml(path: Path) -> dict[str, Any]:
    """The parsed file; a missing or broken file is a one-line ValueError."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path}: not valid TOML: {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read: {error}") from error


def find_preset(folder: Path, name: str | Path, kind: str) -> Path:
    """Path of a preset by name, or of a user's .toml file; an unknown name lists the known ones."""
    if str(name).endswith(".toml"):
        return Path(name)
    known = sorted(path.stem for path in folder.glob("*.toml"))
    if str(name) not in known:
        raise ValueError(
            f"expected a {kind} name out of {', '.join(known)} or the path of a .toml file, "
            f"got {str(name)!r}"
        )
    return folder / f"{name}.toml"


@dataclass(frozen=True)
class DevicePreset:
    """A device with sources: `quantities` has every key of `UNITS`, SI units.

    Spreads are standard deviations in volt: cycle to cycle, and device to device.
    """

    name: str
    status: str
    citation: str
    quantities: Mapping[str, Quantity]
    note: str = ""

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise ValueError(
                f"device {self.name}: expected status out of {', '.join(STATUSES)}, "
                f"got {self.status!r}"
            )
        missing = sorted(set(UNITS) - set(self.quantities))
        unknown = sorted(set(self.quantities) - set(UNITS))
        if missing or unknown:
            problem = f"missing {', '.join(missing)}" if missing else f"unknown {unknown}"
            raise ValueError(f"device {self.name}: {problem}; expected exactly {', '.join(UNITS)}")
        for key, unit in UNITS.items():
            if self.quantities[key].unit != unit:
                raise ValueError(
                    f"device {self.name}, {key}: expected unit {unit!r}, "
                    f"got {self.quantities[key].unit!r}"
                )
        for key in _SPREADS:
            if self[key] < 0.0:
                raise ValueError(f"device {self.name}, {key}: expected >= 0 V, got {self[key]}")
        try:
            self.switch()
        except ValueError as error:
            raise ValueError(f"device {self.name}: {error}") from error

    def __getitem__(self, key: str) -> float:
        """Value of one quantity in SI units."""
        return self.quantities[key].value

    def switch(self) -> ThresholdSwitch:
        """The nominal device as closed forms."""
        return ThresholdSwitch(**{key: self[key] for key in UNITS if key not in _SPREADS})

    @property
    def evidence(self) -> str:
        """The weakest evidence class among the numbers."""
        return weakest([quantity.evidence for quantity in self.quantities.values()])

    @property
    def flag(self) -> str:
        """What anything printed with this device must say; empty where nothing has to be said."""
        if self.status == "placeholder":
            return (
                f"PLACEHOLDER: the numbers of {self.name} are inherited from its device class, "
                "not measured on it"
            )
        return (
            f"{self.name} is a round-number example, no real device"
            if (self.status == "demonstration")
            else ""
        )

    def with_quantities(self, changes: Mapping[str, Quantity]) -> DevicePreset:
        """The same device with some numbers replaced."""
        return DevicePreset(
            self.name, self.status, self.citation, {**self.quantities, **changes}, self.note
        )

    def __repr__(self) -> str:
        return f"DevicePreset({self.name}, {self.status}{'; ' + self.flag if self.flag else ''})"

    def __str__(self) -> str:
        lines = [f"{self.name} ({self.status}): {self.citation}"]
        lines += [self.flag] if self.flag else []
        for key, quantity in self.quantities.items():
            lines.append(
                f"  {key} = {quantity.value:.6g} {quantity.unit}  "
                f"[{quantity.evidence}] {quantity.source}"
            )
        return "\n".join(lines)


def load_device(name_or_path: str | Path) -> DevicePreset:
    """A shipped preset by name (`demo`, `and_ts`, `ag_v2c_w`) or a user's TOML file."""
    path = find_preset(PRESET_FOLDER, name_or_path, "device")
    data = read_toml(path)
    texts: dict[str, str] = {}
    for key in ("name", "status", "citation", "note"):
        value = data.pop(key, "" if key == "note" else None)
        if not isinstance(value, str):
            raise ValueError(f"{path}: expected a text {key!r}, got {value!r}")
        texts[key] = value
    unknown = sorted(set(data) - set(UNITS))
    if unknown:
        raise ValueError(f"{path}: unknown keys {', '.join(unknown)}; known: {', '.join(UNITS)}")
    quantities = {
        key: Quantity.from_dict(f"{path}, {key}", data[key]) for key in UNITS if key in data
    }
    try:
        return DevicePreset(quantities=quantities, **texts)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
