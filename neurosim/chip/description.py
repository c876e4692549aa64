"""Chip descriptions: TOML files, shipped presets, validation, provenance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neurosim.chip.faults import Faults
from neurosim.chip.sections import (
    Conversion,
    CrossbarCells,
    Curve,
    Digital,
    Memory,
    Mesh,
    Neuron,
    Routing,
    Section,
    Static,
    Tile,
    Trim,
    Window,
)
from neurosim.devices.preset import UNITS, DevicePreset, find_preset, load_device, read_toml
from neurosim.devices.threshold_switch import ThresholdSwitch
from neurosim.quantity import Quantity, weakest

PRESET_FOLDER = Path(__file__).parent / "presets"
SECTIONS: dict[str, type[Section]] = {
    "window": Window,
    "neuron": Neuron,
    "tile": Tile,
    "mesh": Mesh,
    "crossbar": CrossbarCells,
    "conversion": Conversion,
    "memory": Memory,
    "digital": Digital,
    "routing": Routing,
    "static": Static,
    "faults": Faults,
    "trim": Trim,
}
_DEEPEST_BASE = 8
_LEAST_WIRE = 1e-3  # ohm; below, drops drown in rounding


@dataclass(frozen=True)
class Evidence:
    """The weakest class among the numbers used, and the keys that are assumed."""

    weakest: str
    assumed: tuple[str, ...]
    numbers: int

    def __str__(self) -> str:
        if not self.assumed:
            return f"{self.weakest} (weakest of {self.numbers} numbers)"
        return f"{self.weakest} ({len(self.assumed)} of {self.numbers} numbers are assumed)"


@dataclass(frozen=True)
class ChipDescription:
    """A memristor chip: what is on it, what an operation costs, how well each number is known.

    `exact`: neurons compute the network's integer equation without variability or latency;
    `device` then only prices their spikes. Otherwise the banks are simulated with `device`.
    """

    name: str
    summary: str
    exact: bool
    device: DevicePreset
    window: Window
    neuron: Neuron
    tile: Tile
    mesh: Mesh
    crossbar: CrossbarCells
    conversion: Conversion
    memory: Memory
    digital: Digital
    routing: Routing
    static: Static
    faults: Faults
    trim: Trim
    changes: tuple[tuple[str, str], ...] = ()
    """(dotted key, value) that `with_values` replaced."""

    def __post_init__(self) -> None:
        cells = self.crossbar
        if cells.g_max.value <= cells.g_min.value:
            raise ValueError(
                f"crossbar.g_max: expected more than g_min = {cells.g_min.value:g} S, "
                f"got {cells.g_max.value:g} S"
            )
        if cells.conductance_levels.value == 1:
            raise ValueError(
                "crossbar.conductance_levels: expected 0 (continuous) or 2 and more, got 1"
            )
        if cells.stuck_low.value + cells.stuck_high.value > 1.0:
            raise ValueError("crossbar.stuck_low + stuck_high: expected a sum of at most 1")
        if 0.0 < cells.wire_resistance.value < _LEAST_WIRE:
            raise ValueError(
                f"crossbar.wire_resistance: expected 0 (off) or at least {_LEAST_WIRE:g} ohm, got "
                f"{cells.wire_resistance.value:g}"
            )
        if cells.wire_resistance.value > 0.0 and cells.nonlinearity.value > 0.0:
            raise ValueError(
                f"crossbar.nonlinearity: expected 0 1/V with wires of resistance, got "
                f"{cells.nonlinearity.value:g}: bent cells behind wires have no transfer matrix; "
                "switch one of the two off"
            )
        ways = (self.routing.sync, self.routing.packets)
        if self.routing.late == "drop" and ways != ("window", "spike"):
            raise ValueError(
                'routing.late: expected "wait" unless sync = "window" and packets = "spike", got '
                f'"drop" with sync = "{ways[0]}" and packets = "{ways[1]}"; counts leave when '
                "the window is over and would all be late"
            )
        if (self.mesh.width.value == 0) != (self.mesh.height.value == 0):
            raise ValueError("mesh: expected width and height both 0 (automatic) or both positive")
        if not self.exact and self.neuron.supply_voltage.value < self.device["threshold_voltage"]:
            raise ValueError(
                "neuron.supply_voltage: expected at least the threshold voltage "
                f"{self.device['threshold_voltage']:g} V, "
                f"got {self.neuron.supply_voltage.value:g} V"
            )
        if self.exact and self.trim.windows.value > 0.0:
            raise ValueError(
                "trim.windows: expected 0 on a chip with exact neurons, which have nothing to "
                f"trim, got {self.trim.windows.value:g}"
            )
        try:
            self.warm_switch()
        except ValueError as error:
            raise ValueError(f"neuron.temperature: {error}") from error

    def warm_switch(self) -> ThresholdSwitch:
        """The device at `neuron.temperature`; `device.switch()` is the one designed for."""
        return self.device.temperature().at(self.device.switch(), self.neuron.temperature.value)

    def numbers(self) -> dict[str, Quantity | Curve]:
        """Every number of the chip by its dotted key, the device's included."""
        found: dict[str, Quantity | Curve] = {
            f"device.{key}": quantity for key, quantity in self.device.quantities.items()
        }
        for table in SECTIONS:
            section: Section = getattr(self, table)
            found.update({f"{table}.{key}": value for key, value in section.numbers().items()})
        return found

    @property
    def computes_exactly(self) -> bool:
        """Exact neurons behind undisturbed crossbars and converters, and no spike lost on the way:
        the software's integers."""
        cells = self.crossbar
        exact_reads = cells.read_noise.value == 0.0 and self.conversion.adc_bits.value == 0.0
        loses = self.faults.any or (
            self.routing.transport == "queued" and self.routing.late == "drop"
        )
        return self.exact and exact_reads and not cells.disturbed and not loses

    @property
    def evidence(self) -> Evidence:
        """Weakest evidence class used, and which keys are assumed."""
        numbers = self.numbers()
        return Evidence(
            weakest([value.evidence for value in numbers.values()]),
            tuple(key for key, value in numbers.items() if value.evidence == "assumed"),
            len(numbers),
        )

    @property
    def inherited(self) -> tuple[str, ...]:
        """Keys whose values belong to the device's class because the device's own are not known."""
        if self.device.status != "placeholder":
            return ()
        return tuple(f"device.{key}" for key in self.device.quantities)

    @property
    def flags(self) -> tuple[str, ...]:
        """What every output made with this chip must say."""
        changed = ", ".join(f"{key} = {value}" for key, value in self.changes)
        idle = ", ".join(key for key, _ in self.changes if self.exact and _simulated(key))
        said = (
            self.device.flag,
            f"CHANGED by the user: {changed}" if changed else "",
            f"NO EFFECT on exact neurons: {idle}; ag_v2c_w_clean simulates them" if idle else "",
        )
        return tuple(flag for flag in said if flag)

    def packet_bits(self, channels: int, levels: int, signed: bool) -> int:
        """Bits of a bank's spike packet: channel address, sign, and the count if it carries one."""
        address = max((channels - 1).bit_length(), 1)
        count = levels.bit_length() if self.routing.packets == "count" else 0
        return address + count + int(signed)

    def __repr__(self) -> str:
        return (
            f"ChipDescription({self.name}: {'exact' if self.exact else self.device.name} neurons, "
            f"{self.tile.rows.value:.0f} x {self.tile.columns.value:.0f} tiles, {self.evidence})"
        )


def _simulated(key: str) -> bool:
    """Whether a dotted key acts on simulated neurons only."""
    of_bank = ("neuron.temperature", "neuron.hold_current", "neuron.input_headroom")
    return key in of_bank or (key.startswith("device.") and "_spread_" in key)


def _merged(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    """Tables of `top` over tables of `base`, key by key; a quantity is replaced whole."""
    result = dict(base)
    for key, value in top.items():
        old = result.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        result[key] = _merged(old, value) if both and "value" not in value else value  # type: ignore[arg-type]
    return result


def _read(path: Path, depth: int = 0) -> dict[str, Any]:
    """The file over its base; a name is not inherited."""
    data = read_toml(path)
    base = data.pop("base", None)
    if base is None:
        return data
    if not isinstance(base, str) or depth >= _DEEPEST_BASE:
        raise ValueError(
            f"{path}: expected base = a chip name or a .toml path, at most "
            f"{_DEEPEST_BASE} deep and without a circle, got {base!r}"
        )
    local = base.endswith(".toml")
    below = path.parent / base if local else find_preset(PRESET_FOLDER, base, "chip")
    inherited = _read(below, depth + 1)
    inherited.pop("name", None)
    return _merged(inherited, data)


def _device(path: Path, table: object) -> tuple[bool, DevicePreset]:
    where = f"{path}: device"
    if not isinstance(table, Mapping):
        raise ValueError(f"{where}: expected a table with preset = a device name, got {table!r}")
    unknown = sorted(set(table) - {"preset", "priced_as", "override"})
    if unknown:
        raise ValueError(
            f"{where}: unknown keys {', '.join(unknown)}; known: preset, priced_as, override"
        )
    exact = table.get("preset") == "exact"
    key = "priced_as" if exact else "preset"
    name = table.get(key)
    if not isinstance(name, str):
        raise ValueError(f"{where}.{key}: expected a device name or a .toml path, got {name!r}")
    local = path.parent / name
    device = load_device(local if name.endswith(".toml") and local.exists() else name)
    changes = table.get("override", {})
    if not isinstance(changes, Mapping) or not set(changes) <= set(UNITS):
        raise ValueError(
            f"{where}.override: expected keys out of {', '.join(UNITS)}, got {changes!r}"
        )
    quantities = {
        change: Quantity.from_dict(f"{where}.override.{change}", entry)
        for change, entry in changes.items()
    }
    try:
        return exact, device.with_quantities(quantities)
    except ValueError as error:
        raise ValueError(f"{where}.override: {error}") from error


def load_chip(name_or_path: str | Path) -> ChipDescription:
    """A shipped chip by name (`ideal`, `ag_v2c_w`) or a user's TOML file.

    A file may name a `base` (a chip or a file) and give only its own `name` and what differs.
    """
    path = find_preset(PRESET_FOLDER, name_or_path, "chip")
    data = _read(path)
    known = ["name", "summary", "device", *SECTIONS]
    unknown = sorted(set(data) - set(known))
    missing = [key for key in known if key not in data]
    if unknown:
        raise ValueError(
            f"{path}: unknown keys {', '.join(unknown)}; known: base, {', '.join(known)}"
        )
    if missing == ["name"]:
        raise ValueError(f'{path}: missing name; give the chip its own, e.g. name = "{path.stem}"')
    if missing:
        raise ValueError(f"{path}: missing {', '.join(missing)}; or name a base that has them")
    for key in ("name", "summary"):
        if not isinstance(data[key], str):
            raise ValueError(f"{path}: expected a text {key!r}, got {data[key]!r}")
    exact, device = _device(path, data["device"])
    parts: dict[str, Any] = {
        table: section.from_dict(f"{path}: {table}", data[table])
        for table, section in SECTIONS.items()
    }
    try:
        return ChipDescription(
            name=data["name"], summary=data["summary"], exact=exact, device=device, **parts
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
