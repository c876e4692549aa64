"""Device presets: TOML files in which every number has a unit, a source and an evidence class."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from neurosim.devices.extras import TABLES, check_units, class_defaults, read_extras
from neurosim.devices.hazard import RAMP_SPREAD, Hazard
from neurosim.devices.relaxation import Relaxation
from neurosim.devices.self_integrating import GrowthLaw, SelfIntegratingNeuron
from neurosim.devices.temperature import TemperatureLaw, default_threshold_slope
from neurosim.devices.threshold_switch import ThresholdSwitch
from neurosim.devices.thresholds import ThresholdStatistics
from neurosim.quantity import Quantity, weakest

PRESET_FOLDER = Path(__file__).parent / "presets"
STATUSES = ("published", "calibrated", "partial", "demonstration", "placeholder")
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

    Spreads are standard deviations in volt: cycle to cycle, and device to device. `extras` (dotted
    keys of `extras.TABLES`) and `texts` are optional; the laws built from them fall back on class
    defaults, which `inherited` lists.
    """

    name: str
    status: str
    citation: str
    quantities: Mapping[str, Quantity]
    note: str = ""
    extras: Mapping[str, Quantity] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)

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
        check_units(f"device {self.name}", self.extras)
        for key in _SPREADS:
            if self[key] < 0.0:
                raise ValueError(f"device {self.name}, {key}: expected >= 0 V, got {self[key]}")
        try:
            self.switch()
            self.statistics()
            self.relaxation()
            self.self_integrating()
        except ValueError as error:
            raise ValueError(f"device {self.name}: {error}") from error

    def __getitem__(self, key: str) -> float:
        """Value of one quantity in SI units."""
        return self.quantities[key].value

    def switch(self) -> ThresholdSwitch:
        """The nominal device as closed forms."""
        return ThresholdSwitch(**{key: self[key] for key in UNITS if key not in _SPREADS})

    def extra(self, key: str) -> Quantity:
        """An optional number by dotted key: the preset's own, or the class default."""
        if key in self.extras:
            return self.extras[key]
        defaults = class_defaults()[0]
        if key in defaults:
            return defaults[key]
        value, unit, source = self._dependent(key)
        return Quantity(value, unit, source, "assumed")

    def _dependent(self, key: str) -> tuple[float, str, str]:
        """Class defaults that follow from other numbers of the preset: value, unit, source."""
        if key == "hazard.scale" and self["threshold_spread_cycle"] > 0.0:
            scale = self["threshold_spread_cycle"] / RAMP_SPREAD
            return scale, "V", "class default: cycle-to-cycle deviation of V_th / 1.2825"
        if key == "temperature.threshold_slope":
            reference = self.extra("temperature.reference").value
            slope = default_threshold_slope(self["threshold_voltage"], reference)
            return slope, "V/K", "class default: -0.3 V_th / T_ref"
        if key == "growth.scale":
            return 0.25 * self["threshold_voltage"], "V", "class default: V_th / 4"
        if key == "growth.rate":
            level = self.extra("growth.threshold").value
            needed = level / ((1.0 - level) * self.extra("growth.relaxation_time").value)
            unit_law = GrowthLaw(
                self.text("growth.law"),
                1.0,
                self.extra("growth.scale").value,
                self.extra("growth.power").value,
            )
            rate = needed / unit_law(self["threshold_voltage"])
            return rate, "1/s", "class default: the critical DC voltage is V_th"
        raise ValueError(
            f"device {self.name}: no value and no class default for {key}; add it to the preset"
        )

    def text(self, key: str) -> str:
        """A law's name by dotted key, the preset's own or the class default."""
        return self.texts.get(key) or class_defaults()[1][key]

    @property
    def inherited(self) -> tuple[str, ...]:
        """Dotted keys of the laws that this preset takes from the class (all assumed)."""
        keys = [f"{t}.{k}" for t in ("statistics", "hazard", "relaxation") for k in TABLES[t]]
        keys += [f"{t}.{k}" for t in ("temperature", "growth") for k in TABLES[t]]
        return tuple(key for key in keys if key not in self.extras)

    def statistics(self) -> ThresholdStatistics:
        """How thresholds scatter: cycle to cycle, device to device, AR(1)."""
        return ThresholdStatistics(
            self["threshold_spread_cycle"],
            self["hold_spread_cycle"],
            self["threshold_spread_device"],
            self["hold_spread_device"],
            self.extra("statistics.correlation").value,
            self.text("statistics.shape"),
        )

    def hazard(self, ramp: float | None = None) -> Hazard:
        """The hazard whose median V_th at `ramp` (V/s) is V_th and whose V_0 is `hazard.scale`."""
        speed = self.extra("hazard.ramp").value if ramp is None else ramp
        spread = self.extra("hazard.scale").value * RAMP_SPREAD
        return Hazard.from_ramp(self["threshold_voltage"], spread, speed)

    def relaxation(self) -> Relaxation:
        """Dissolution of the filament after the device turned OFF."""
        get = {key: self.extra(f"relaxation.{key}").value for key in TABLES["relaxation"]}
        return Relaxation(
            law=self.text("relaxation.law"),
            temperature=self.extra("temperature.reference").value,
            **get,
        )

    def temperature(self) -> TemperatureLaw:
        """How V_th and R_off change with temperature."""
        return TemperatureLaw(
            self.extra("temperature.reference").value,
            self.extra("temperature.off_energy").value,
            self.extra("temperature.threshold_slope").value,
        )

    def self_integrating(self) -> SelfIntegratingNeuron:
        """The device as a neuron of its own (tier 0B); I_cc is the relaxation's compliance."""
        get = {key: self.extra(f"growth.{key}").value for key in TABLES["growth"]}
        off = 1.0 / self["off_resistance"]
        return SelfIntegratingNeuron(
            growth=GrowthLaw(self.text("growth.law"), get["rate"], get["scale"], get["power"]),
            relaxation_time=get["relaxation_time"],
            threshold=get["threshold"],
            off_level=get["off_level"],
            on_resistance=self["on_resistance"],
            series_resistance=get["series_resistance"],
            off_conductance=off,
            pre_conductance=get["pre_ratio"] * off,
            hold_voltage=self["hold_voltage"],
            compliance=self.extra("relaxation.compliance").value,
            dissolution=self.relaxation(),
        )

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
        if self.status == "partial":
            return (
                f"PARTIAL: only some numbers of {self.name} are published, the others are "
                "inherited from its device class"
            )
        assumed = sum(quantity.evidence == "assumed" for quantity in self.quantities.values())
        if self.status == "calibrated" and assumed:
            return f"{assumed} of {len(self.quantities)} numbers of {self.name} are still assumed"
        if self.status == "demonstration":
            return f"{self.name} is a round-number example, no real device"
        return ""

    def with_quantities(self, changes: Mapping[str, Quantity]) -> DevicePreset:
        """The same device with some numbers replaced."""
        return replace(self, quantities={**self.quantities, **changes})

    def __repr__(self) -> str:
        return f"DevicePreset({self.name}, {self.status}{'; ' + self.flag if self.flag else ''})"

    def __str__(self) -> str:
        lines = [f"{self.name} ({self.status}): {self.citation}"]
        lines += [self.flag] if self.flag else []
        for key, quantity in {**self.quantities, **self.extras}.items():
            lines.append(
                f"  {key} = {quantity.value:.6g} {quantity.unit}  "
                f"[{quantity.evidence}] {quantity.source}"
            )
        return "\n".join(lines)


def load_device(name_or_path: str | Path) -> DevicePreset:
    """A shipped preset by name (`demo`, `and_ts`, `ag_v2c_w`, ...) or a user's TOML file."""
    path = find_preset(PRESET_FOLDER, name_or_path, "device")
    data = read_toml(path)
    data.pop("calibration", None)  # standard errors and covariance, for people
    texts: dict[str, str] = {}
    for key in ("name", "status", "citation", "note"):
        value = data.pop(key, "" if key == "note" else None)
        if not isinstance(value, str):
            raise ValueError(f"{path}: expected a text {key!r}, got {value!r}")
        texts[key] = value
    unknown = sorted(set(data) - set(UNITS) - set(TABLES))
    if unknown:
        raise ValueError(f"{path}: unknown keys {', '.join(unknown)}; known: {', '.join(UNITS)}")
    quantities = {
        key: Quantity.from_dict(f"{path}, {key}", data[key]) for key in UNITS if key in data
    }
    tables = {key: table for key, table in data.items() if key in TABLES}
    extras, laws = read_extras(str(path), tables)
    try:
        return DevicePreset(quantities=quantities, extras=extras, texts=laws, **texts)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
