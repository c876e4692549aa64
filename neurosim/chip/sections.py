"""The parts of a chip description: every number with unit, allowed range, source and evidence."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

from neurosim.quantity import Quantity

Part = TypeVar("Part", bound="Section")


def number(unit: str, low: float, high: float, whole: bool = False) -> Any:
    """A field of a section: a Quantity in `unit` with low <= value <= high."""
    return field(metadata={"unit": unit, "low": low, "high": high, "whole": whole})


def curve() -> Any:
    """A field of a section: a `Curve`."""
    return field(metadata={"curve": True})


def flag() -> Any:
    """A field of a section: true or false."""
    return field(metadata={"flag": True})


def listed(read: Callable[[str, object], Any]) -> Any:
    """A field of a section that read(where, entry) checks and returns."""
    return field(metadata={"read": read})


def choice(*choices: str) -> Any:
    """A field of a section: one of a few words."""
    return field(metadata={"choices": choices})


@dataclass(frozen=True)
class Curve:
    """Coefficients of a polynomial c_0 + c_1 x + ..., with unit, source and evidence."""

    values: tuple[float, ...]
    unit: str
    source: str
    evidence: str

    def __post_init__(self) -> None:
        Quantity(0.0, self.unit, self.source, self.evidence)
        if not self.values or not all(math.isfinite(value) for value in self.values):
            raise ValueError(f"expected a list of finite coefficients, got {list(self.values)}")

    @classmethod
    def from_dict(cls, where: str, entry: object) -> Curve:
        """Read {values, unit, source, evidence}; `where` (file and key) goes into errors."""
        keys = {"values", "unit", "source", "evidence"}
        if not isinstance(entry, Mapping) or set(entry) != keys:
            raise ValueError(
                f"{where}: expected {{ values, unit, source, evidence }}, got {entry!r}"
            )
        try:
            values = tuple(float(value) for value in entry["values"])
            return cls(values, str(entry["unit"]), str(entry["source"]), str(entry["evidence"]))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{where}: {error}") from error


@dataclass(frozen=True)
class Section:
    """A table of the chip's TOML file."""

    @classmethod
    def from_dict(cls: type[Part], where: str, entry: object) -> Part:
        """Check and read a table; `where` is "file: table"."""
        if not isinstance(entry, Mapping):
            raise ValueError(f"{where}: expected a table, got {entry!r}")
        known = [part.name for part in fields(cls)]
        unknown = sorted(set(entry) - set(known))
        missing = [key for key in known if key not in entry]
        if unknown:
            raise ValueError(
                f"{where}: unknown keys {', '.join(unknown)}; known: {', '.join(known)}"
            )
        if missing:
            raise ValueError(f"{where}: missing {', '.join(missing)}")
        values = {
            part.name: _read(f"{where}.{part.name}", part.metadata, entry[part.name])
            for part in fields(cls)
        }
        return cls(**values)

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Names of what the table holds."""
        return tuple(part.name for part in fields(cls))

    def with_value(self: Part, where: str, key: str, value: object, source: str) -> Part:
        """The table with the bare `value` under `key`, in its unit, assumed, from `source`."""
        rule = next(part.metadata for part in fields(self) if part.name == key)
        entry: object = value
        if "unit" in rule:
            entry = {"value": value, "unit": rule["unit"]}
        elif "curve" in rule:
            entry = {"values": value, "unit": getattr(self, key).unit}
        if isinstance(entry, dict):
            entry |= {"source": source, "evidence": "assumed"}
        return replace(self, **{key: _read(where, rule, entry)})

    def numbers(self) -> dict[str, Quantity | Curve]:
        """Key -> number, for provenance lists."""
        found = {part.name: getattr(self, part.name) for part in fields(self)}
        return {key: value for key, value in found.items() if isinstance(value, Quantity | Curve)}


def _read(where: str, rule: Mapping[str, Any], entry: object) -> Any:
    """One entry of a table by its field's rule."""
    if "choices" in rule:
        return _choice(where, rule["choices"], entry)
    if "curve" in rule:
        return Curve.from_dict(where, entry)
    if "read" in rule:
        return rule["read"](where, entry)
    if "flag" in rule:
        if not isinstance(entry, bool):
            raise ValueError(f"{where}: expected true or false, got {entry!r}")
        return entry
    return _quantity(where, rule, entry)


def _choice(where: str, choices: tuple[str, ...], value: object) -> str:
    if value not in choices:
        raise ValueError(f"{where}: expected one of {', '.join(choices)}, got {value!r}")
    return str(value)


def _quantity(where: str, rule: Mapping[str, Any], entry: object) -> Quantity:
    quantity = Quantity.from_dict(where, entry)
    if quantity.unit != rule["unit"]:
        raise ValueError(f"{where}: expected unit {rule['unit']!r}, got {quantity.unit!r}")
    low, high = rule["low"], rule["high"]
    if not low <= quantity.value <= high or (rule["whole"] and quantity.value % 1):
        kind = "a whole number" if rule["whole"] else "a value"
        unit = "" if rule["unit"] == "1" else f" {rule['unit']}"
        raise ValueError(
            f"{where}: expected {kind} from {low:g} to {high:g}{unit}, got {quantity.value:g}"
        )
    return quantity


@dataclass(frozen=True)
class Window(Section):
    """Time one bank integrates before its counters are read."""

    duration: Quantity = number("s", 1e-9, 10.0)


@dataclass(frozen=True)
class Neuron(Section):
    """What stands between the columns and the membranes, and how warm it is.

    `temperature` moves V_th and R_off of the device by its own laws, while gain and precharge stay
    as designed at the law's reference. A device that is ON stays ON (lock-up) while its supply
    current is at least `hold_current`; 0: only what V_h and R_on themselves hold.
    """

    supply_voltage: Quantity = number("V", 0.0, 100.0)
    input_headroom: Quantity = number("1", 0.0, 1000.0)
    """The input stage passes at most levels + headroom charge quanta per window; 0: no limit."""
    temperature: Quantity = number("K", 100.0, 600.0)
    hold_current: Quantity = number("A", 0.0, 1.0)


@dataclass(frozen=True)
class Tile(Section):
    """Crossbar tile: rows, and columns of differential pairs."""

    rows: Quantity = number("1", 1, 65536, whole=True)
    columns: Quantity = number("1", 1, 65536, whole=True)


@dataclass(frozen=True)
class Mesh(Section):
    """Tiles of a chip's 2-D mesh, 0 x 0: as small a square as the network needs; and its links.

    `topology`: "mesh", without wrap-around (a torus under XY routing can deadlock). `link_latency`:
    router pipeline and wire, before transmission. `buffer_depth`: packets in front of each link, 0
    without limit. `chip_link_...`: the links between neighbouring chips.
    """

    topology: str = choice("mesh")
    width: Quantity = number("1", 0, 65536, whole=True)
    height: Quantity = number("1", 0, 65536, whole=True)
    link_rate: Quantity = number("bit/s", 1.0, 1e15)
    link_latency: Quantity = number("s", 0.0, 1.0)
    buffer_depth: Quantity = number("1", 0, 65536, whole=True)
    chip_link_rate: Quantity = number("bit/s", 1.0, 1e15)
    chip_link_latency: Quantity = number("s", 0.0, 1.0)


@dataclass(frozen=True)
class CrossbarCells(Section):
    """Synapse cells and how they are read; 0 switches a non-ideality off.

    Drift: G(t) = G_0 (t / drift_reference)^-nu, nu normal around `drift_exponent`, at least 0; t is
    `age`, the time since programming, or since the last rewriting every `refresh_interval`.
    Wires: `wire_resistance` of one segment of row and column wire. `nonlinearity`: a of a cell
    I = G sinh(a V)/a. `scaling`: what takes G_max, the crossbar's or each column's largest weight.
    """

    conductance_levels: Quantity = number("1", 0, 65536, whole=True)
    g_min: Quantity = number("S", 0.0, 1.0)
    g_max: Quantity = number("S", 1e-12, 1.0)
    read_voltage: Quantity = number("V", 1e-6, 10.0)
    pulse_width: Quantity = number("s", 1e-12, 1.0)
    programming_error: Quantity = number("1", 0.0, 100.0)
    programming_curve: Curve = curve()
    read_noise: Quantity = number("1", 0.0, 10.0)
    stuck_low: Quantity = number("1", 0.0, 1.0)
    stuck_high: Quantity = number("1", 0.0, 1.0)
    drift_exponent: Quantity = number("1", 0.0, 1.0)
    drift_spread: Quantity = number("1", 0.0, 1.0)
    drift_reference: Quantity = number("s", 1e-9, 1e9)
    age: Quantity = number("s", 0.0, 1e10)
    refresh_interval: Quantity = number("s", 0.0, 1e10)
    wire_resistance: Quantity = number("ohm", 0.0, 1e6)
    nonlinearity: Quantity = number("1/V", 0.0, 100.0)
    scaling: str = choice("crossbar", "column")

    @property
    def hold_time(self) -> float:
        """Time since a cell was last written, in units of `drift_reference`, at least 1."""
        age, refresh = self.age.value, self.refresh_interval.value
        since = math.fmod(age, refresh) if refresh > 0.0 else age
        return max(since / self.drift_reference.value, 1.0)

    @property
    def rewrites(self) -> int:
        """How often the cells were refreshed since they were programmed."""
        refresh = self.refresh_interval.value
        return int(self.age.value // refresh) if refresh > 0.0 else 0

    @property
    def drifts(self) -> bool:
        """Whether conductances have moved since they were written."""
        moves = self.drift_exponent.value > 0.0 or self.drift_spread.value > 0.0
        return moves and self.hold_time > 1.0

    @property
    def disturbed(self) -> bool:
        """Whether effective weights differ from the integers written."""
        parts = (
            self.conductance_levels,
            self.programming_error,
            self.stuck_low,
            self.stuck_high,
            self.wire_resistance,
        )
        return self.drifts or any(part.value > 0.0 for part in parts)


@dataclass(frozen=True)
class Conversion(Section):
    """Column to digital value and back; 0 bits: exact conversion at the same price."""

    adc_bits: Quantity = number("bit", 0, 32, whole=True)
    adc_energy: Quantity = number("J", 0.0, 1.0)
    dac_energy: Quantity = number("J", 0.0, 1.0)


@dataclass(frozen=True)
class Memory(Section):
    """SRAM: sram_energy (capacity / reference)^exponent per bit; no bank below `reference`."""

    sram_energy: Quantity = number("J/bit", 0.0, 1.0)
    sram_reference: Quantity = number("B", 1.0, 1e12)
    sram_exponent: Quantity = number("1", 0.0, 2.0)
    accumulator_bank: Quantity = number("B", 1.0, 1e12)
    state_bank: Quantity = number("B", 1.0, 1e12)
    embedding_bank: Quantity = number("B", 1.0, 1e12)


@dataclass(frozen=True)
class Digital(Section):
    """Energy of one 32-bit integer operation."""

    add: Quantity = number("J", 0.0, 1.0)
    shift: Quantity = number("J", 0.0, 1.0)


@dataclass(frozen=True)
class Routing(Section):
    """AER packets on the mesh. `packets`: one per channel with its count, or one per spike.

    `transport`: "instant" (packets are counted and take no time) or "queued" (they take the time of
    the link model, `neurosim.chip.mesh`). `sync`: when a window opens: "window" at the chip's
    common clock, "none" at each tile as soon as all that it waits for has arrived. `late`: a packet
    that misses its window holds the clock up ("wait") or is lost ("drop", "window" only).
    """

    packets: str = choice("count", "spike")
    transport: str = choice("instant", "queued")
    sync: str = choice("window", "none")
    late: str = choice("wait", "drop")
    hop_energy: Quantity = number("J/bit", 0.0, 1.0)
    value_hop_energy: Quantity = number("J/bit", 0.0, 1.0)
    inject_energy: Quantity = number("J", 0.0, 1.0)
    chip_hop_energy: Quantity = number("J/bit", 0.0, 1.0)


@dataclass(frozen=True)
class Static(Section):
    """Power that flows whether spikes do or not."""

    tile_power: Quantity = number("W", 0.0, 1e6)
    chip_power: Quantity = number("W", 0.0, 1e6)


@dataclass(frozen=True)
class Trim(Section):
    """Calibration of every neuron after fabrication, see `neurosim.chip.trim`; 0 windows: none.

    `windows`: charges each neuron is measured with, one a window. Two DACs of `bits` bits a neuron
    trim its packets by up to `gain_range` (relative) and `bias_range` (spikes).
    """

    windows: Quantity = number("1", 0, 2**20, whole=True)
    bits: Quantity = number("bit", 1, 24, whole=True)
    gain_range: Quantity = number("1", 1e-6, 0.999)
    bias_range: Quantity = number("1", 1e-6, 0.999)
