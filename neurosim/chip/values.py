"""A chip with some of its numbers replaced: what `--set KEY=VALUE` and sweeps do."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from neurosim.chip.description import SECTIONS, ChipDescription
from neurosim.chip.sections import Section
from neurosim.devices.extras import TABLES
from neurosim.devices.preset import UNITS, DevicePreset
from neurosim.quantity import Quantity

SOURCE = "set by the user"


def settable(chip: ChipDescription) -> tuple[str, ...]:
    """Every dotted key that `with_values` takes."""
    device = [f"device.{key}" for key in UNITS]
    device += [f"device.{table}.{key}" for table, keys in TABLES.items() for key in keys]
    parts = [f"{table}.{key}" for table in SECTIONS for key in getattr(chip, table).names()]
    return (*device, *parts)


def with_values(chip: ChipDescription, values: Mapping[str, Any]) -> ChipDescription:
    """`chip` with numbers (in their own unit), words, flags and lists replaced.

    Args:
        values: dotted key -> value, e.g. {"crossbar.read_noise": 0.02,
            "device.threshold_spread_device": 0.05}. Numbers get evidence "assumed" and source "set
            by the user"; units stay; ranges are those of a chip file.

    Returns:
        The chip; its flags name what was changed. ValueError names chip, key and range.
    """
    parts: dict[str, Any] = {}
    device = chip.device
    for key, value in values.items():
        where = f"chip {chip.name}: {key}"
        table, _, rest = key.partition(".")
        if table == "device" and rest:
            device = _with_device_value(where, device, rest, value)
        elif table in SECTIONS and rest in getattr(chip, table).names():
            section: Section = parts.get(table, getattr(chip, table))
            parts[table] = section.with_value(where, rest, value, SOURCE)
        else:
            raise ValueError(f"chip {chip.name}: unknown key {key!r}; {_nearest(chip, key)}")
    changes = {**dict(chip.changes), **{key: _shown(value) for key, value in values.items()}}
    try:
        return replace(chip, device=device, changes=tuple(changes.items()), **parts)
    except ValueError as error:
        raise ValueError(f"chip {chip.name}: {error}") from error


def parse_values(settings: Iterable[str]) -> dict[str, Any]:
    """{"crossbar.read_noise": 0.02} from ["crossbar.read_noise=0.02"]; values as in TOML."""
    values: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key.strip() or not text.strip():
            raise ValueError(
                f"expected --set KEY=VALUE, e.g. --set crossbar.read_noise=0.02, got {setting!r}"
            )
        try:
            values[key.strip()] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            values[key.strip()] = text.strip()  # a bare word
    return values


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _nearest(chip: ChipDescription, key: str) -> str:
    """Known keys of the same table, or the tables."""
    table = key.partition(".")[0]
    known = [name for name in settable(chip) if name.startswith(f"{table}.")]
    if known:
        return f"known: {', '.join(known)}"
    return f"known tables: device, {', '.join(SECTIONS)}, as in crossbar.read_noise"


def _with_device_value(where: str, device: DevicePreset, key: str, value: Any) -> DevicePreset:
    """One number of the device: of `UNITS`, or an optional one such as temperature.off_energy."""
    table, _, inner = key.partition(".")
    unit = TABLES.get(table, {}).get(inner) if inner else UNITS.get(key)
    if unit is None:
        known = [
            *UNITS,
            *(f"{name}.{part}" for name, part_of in TABLES.items() for part in part_of),
        ]
        raise ValueError(f"{where}: unknown key; known: {', '.join(known)}")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{where}: expected a number in {unit}, got {value!r}")
    try:
        quantity = Quantity(float(value), unit, SOURCE, "assumed")
        if inner:
            return replace(device, extras={**device.extras, key: quantity})
        return device.with_quantities({key: quantity})
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
