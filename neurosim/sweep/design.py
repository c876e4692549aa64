"""From a specification to its points: settings of the chip, workloads, and each point's hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neurosim.chip.description import ChipDescription, load_chip
from neurosim.chip.values import settable, with_values
from neurosim.quantity import Quantity
from neurosim.sweep.reading import Value
from neurosim.sweep.spec import SweepSpec

BASE = "base"
_NOT_PHYSICS = frozenset({"source", "evidence", "band", "summary", "note", "citation", "changes"})


@dataclass(frozen=True)
class Setting:
    """Values of chip keys that hold at a point; `varied`: the key that moved, in design "each"."""

    case: str
    varied: str
    values: tuple[tuple[str, Value], ...]

    @property
    def label(self) -> str:
        """For messages: what differs from the chip file."""
        parts = [self.case] if self.case else []
        parts += [f"{key} = {value}" for key, value in self.values]
        return ", ".join(parts) or BASE


@dataclass(frozen=True)
class Variant:
    """A chip of the specification under one setting; for networks, their parameters.

    `given`: what a subject is measured on; `columns`: key -> the value that holds there; `units`:
    of the columns; `flags`: what every output of this chip must say.
    """

    name: str
    given: Any
    setting: Setting
    digest: str
    columns: Mapping[str, Value]
    units: Mapping[str, str]
    flags: tuple[str, ...] = ()


def settings(spec: SweepSpec) -> Iterator[Setting]:
    """All settings of a specification, cases outermost, in the order of the file."""
    for case in spec.cases:
        below = {**dict(spec.fixed), **dict(case.values)}
        for varied, swept in _combinations(spec):
            yield Setting(case.name, varied, tuple({**below, **swept}.items()))


def _combinations(spec: SweepSpec) -> Iterator[tuple[str, dict[str, Value]]]:
    """(key that moved, values of the swept keys)."""
    keys = [key for key, _ in spec.parameters]
    if spec.design == "each" and spec.parameters:
        yield BASE, {}
        for key, values in spec.parameters:
            for value in values:
                yield key, {key: value}
    elif spec.design == "zip" and spec.parameters:
        for row in zip(*(values for _, values in spec.parameters), strict=True):
            yield "", dict(zip(keys, row, strict=True))
    else:
        combinations: list[dict[str, Value]] = [{}]
        for key, values in spec.parameters:
            combinations = [{**one, key: value} for one in combinations for value in values]
        for combination in combinations:
            yield "", combination


def swept_keys(spec: SweepSpec) -> list[str]:
    """Every chip key that the specification sets, in its order."""
    keys = [key for key, _ in spec.fixed]
    keys += [key for case in spec.cases for key, _ in case.values]
    return list(dict.fromkeys([*keys, *(key for key, _ in spec.parameters)]))


def variants(spec: SweepSpec, where: str = "sweep") -> list[Variant]:
    """Every chip under every setting, checked; ValueError names the file and the key."""
    keys = swept_keys(spec)
    found = []
    bases = [load_chip(_beside(spec.folder, name)) for name in spec.chips]
    own = [base.name for base in bases]
    names = own if len(set(own)) == len(own) else tails([Path(name) for name in spec.chips])
    for name, base in zip(names, bases, strict=True):
        known = settable(base)
        for key in keys:
            if key not in known:
                raise ValueError(f"{where}: {_refusal(base, key)}")
        for setting in settings(spec):
            try:
                chip = with_values(base, dict(setting.values)) if setting.values else base
            except ValueError as error:
                raise ValueError(f"{where}: {error} (in the setting {setting.label})") from error
            columns = {key: value_of(chip, key) for key in keys}
            units = {key: unit_of(chip, key) for key in keys}
            found.append(Variant(name, chip, setting, digest(chip), columns, units, base.flags))
    return found


def tails(paths: Sequence[Path]) -> list[str]:
    """The last parts of paths: as few as tell them apart."""
    most = max(len(path.parts) for path in paths)
    for count in range(1, most + 1):
        found = ["/".join(path.parts[-count:]) for path in paths]
        if len(set(found)) == len(found):
            return found
    return [str(path) for path in paths]


def _refusal(chip: ChipDescription, key: str) -> str:
    """Why a chip does not take a key: in the words of `with_values`."""
    try:
        with_values(chip, {key: 0.0})
    except ValueError as error:
        return str(error)
    return f"{key} cannot be swept"


def _beside(folder: Path, name: str) -> str | Path:
    """A chip or model of the specification: a name, or a path that starts at its folder."""
    return folder / name if name.endswith(".toml") else name


def quantity_of(chip: ChipDescription, key: str) -> object:
    """What a dotted key of a chip holds: a `Quantity`, a curve, a word or a flag."""
    table, _, rest = key.partition(".")
    if table != "device":
        return getattr(getattr(chip, table), rest)
    return chip.device.extra(rest) if "." in rest else chip.device.quantities[rest]


def value_of(chip: ChipDescription, key: str) -> Value:
    """The plain value of a dotted key, SI units."""
    found = quantity_of(chip, key)
    if isinstance(found, Quantity):
        return found.value
    return found if isinstance(found, bool | str) else str(found)


def unit_of(chip: ChipDescription, key: str) -> str:
    """The unit of a dotted key; empty for words and flags."""
    return str(getattr(quantity_of(chip, key), "unit", ""))


def digest(thing: object) -> str:
    """sha256 of everything in `thing` that can change a result: not sources, nor evidence."""
    text = json.dumps(_plain(thing), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: object) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {
            part.name: _plain(getattr(value, part.name))
            for part in fields(value)
            if part.name not in _NOT_PHYSICS
        }
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, np.ndarray):
        return [str(value.dtype), list(value.shape), hashlib.sha256(value.tobytes()).hexdigest()]
    return value
