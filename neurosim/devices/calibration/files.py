"""Measured data: CSV with a header that names every unit, and an optional JSON of metadata (8.2).

iv: t_s, v_V, i_A, cycle, device. pulse: t_s, v_V, i_A (optional train). delay: v_V, t_s. relax:
icc_A, t_s, g_S (optional cycle). A unit may carry a prefix (i_uA, t_ms); lines that begin with #
are comments. Metadata of `sweep.csv` is `sweep.json`: stack, area_m2, temperature_K, compliance_A,
instrument, pulses_V and the like; only compliance_A is used, the rest is copied into the preset.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
FORMATS: Mapping[str, tuple[str, ...]] = {
    "iv": ("t_s", "v_V", "i_A", "cycle", "device"),
    "relax": ("icc_A", "t_s", "g_S"),
    "pulse": ("t_s", "v_V", "i_A"),
    "delay": ("v_V", "t_s"),
}
"""Kind -> columns it must have; the first kind whose columns are all there is taken."""
OPTIONAL = ("train", "cycle", "device")
_PREFIXES = {"": 1.0, "f": 1e-15, "p": 1e-12, "n": 1e-9, "u": 1e-6, "µ": 1e-6, "m": 1e-3}
_PREFIXES |= {"k": 1e3, "M": 1e6}
_UNITS = {"t": "s", "v": "V", "i": "A", "icc": "A", "g": "S"}


@dataclass(frozen=True)
class Table:
    """One file: `columns` in SI units by the names of `FORMATS`, all of the same length."""

    kind: str
    path: Path
    columns: Mapping[str, Floats]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    digest: str = ""

    def __getitem__(self, name: str) -> Floats:
        return self.columns[name]

    @property
    def rows(self) -> int:
        """Number of data rows."""
        return int(next(iter(self.columns.values())).size)

    def __repr__(self) -> str:
        return f"Table({self.kind}, {self.path.name}, {self.rows} rows)"


def _column(path: Path, name: str) -> tuple[str, float]:
    """Canonical column name and factor to SI units."""
    text = name.strip()
    if text in OPTIONAL:
        return text, 1.0
    quantity, _, unit = text.partition("_")
    if quantity not in _UNITS:
        known = ", ".join(["_".join(pair) for pair in _UNITS.items()] + list(OPTIONAL))
        raise ValueError(f"{path}: unknown column {text!r}; known: {known}")
    base = _UNITS[quantity]
    found = re.fullmatch(rf"([fpnuµmkM]?){base}", unit)
    if found is None:
        raise ValueError(
            f"{path}: column {text!r} has no unit or the wrong one; write {quantity}_{base} or "
            f"with a prefix, e.g. {quantity}_m{base}"
        )
    return f"{quantity}_{base}", _PREFIXES[found.group(1)]


def _kind(path: Path, names: list[str]) -> str:
    sweep = {"cycle", "device"} & set(names)
    if sweep and "v_V" in names and not set(FORMATS["iv"]) <= set(names):
        missing = ", ".join(sorted(set(FORMATS["iv"]) - set(names)))
        raise ValueError(f"{path}: an iv file without {missing}; one device or cycle is number 0")
    for kind, needed in FORMATS.items():
        if set(needed) <= set(names):
            return kind
    formats = "; ".join(f"{kind}: {', '.join(columns)}" for kind, columns in FORMATS.items())
    raise ValueError(f"{path}: columns {', '.join(names)} fit no format; expected {formats}")


def _metadata(path: Path) -> dict[str, Any]:
    side = path.with_suffix(".json")
    if not side.exists():
        return {}
    try:
        data = json.loads(side.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{side}: not valid JSON: {error}") from error
    if not isinstance(data, dict):
        raise ValueError(f"{side}: expected an object of metadata, got {type(data).__name__}")
    compliance = data.get("compliance_A")
    if compliance is not None and not (isinstance(compliance, int | float) and compliance > 0):
        raise ValueError(f"{side}: expected compliance_A > 0, got {compliance!r}")
    return data


def read_table(path: str | Path) -> Table:
    """Read and check one file; every defect is a ValueError that names the file and the line."""
    path = Path(path)
    try:
        raw = path.read_bytes()
        text = raw.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read: {error}") from error
    lines = text.splitlines()
    kept = [k for k, line in enumerate(lines) if line.strip() and not line.startswith("#")]
    if not kept:
        raise ValueError(f"{path}: is empty; expected a header with units and rows of numbers")
    header = [_column(path, name) for name in lines[kept[0]].split(",")]
    names = [name for name, _ in header]
    if len(set(names)) != len(names):
        raise ValueError(f"{path}: a column appears twice in {lines[kept[0]]!r}")
    kind = _kind(path, names)
    if len(kept) < 2:
        raise ValueError(f"{path}: has a header and no rows of numbers")
    try:
        values = np.loadtxt((lines[k] for k in kept[1:]), delimiter=",", ndmin=2)
    except ValueError as error:
        raise ValueError(f"{path}: expected numbers in every row: {error}") from error
    if values.shape[1] != len(names):
        raise ValueError(f"{path}: {len(names)} columns in the header, {values.shape[1]} in rows")
    bad = np.argwhere(~np.isfinite(values))
    if bad.size:
        row, column = bad[0]
        raise ValueError(
            f"{path}, line {kept[1 + row] + 1}: {names[column]} is {values[row, column]}; "
            "remove rows without a finite value"
        )
    columns = {name: values[:, k] * scale for k, (name, scale) in enumerate(header)}
    table = Table(kind, path, columns, _metadata(path), hashlib.sha256(raw).hexdigest())
    _check_values(table)
    return table


def groups(table: Table, *keys: str) -> list[tuple[tuple[float, ...], npt.NDArray[np.int64]]]:
    """Rows with the same values in `keys` (those the table has), in file order of first rows."""
    used = [table[key] for key in keys if key in table.columns]
    if not used:
        return [((), np.arange(table.rows))]
    code = np.zeros(table.rows, dtype=np.int64)
    for values in used:
        distinct, inverse = np.unique(values, return_inverse=True)
        code = code * distinct.size + inverse.ravel()
    inverse = np.unique(code, return_inverse=True)[1].ravel()
    order = np.argsort(inverse, kind="stable")
    rows = np.split(order, np.cumsum(np.bincount(inverse))[:-1])
    return [(tuple(float(values[part[0]]) for values in used), part) for part in rows]


def _check_values(table: Table) -> None:
    """Time must increase within a sweep, train or curve; what cannot be negative must not be."""
    keys = {"iv": ("device", "cycle"), "pulse": ("train",), "relax": ("icc_A", "cycle")}
    if table.kind in keys:
        for group, rows in groups(table, *keys[table.kind]):
            time = table["t_s"][rows]
            if (np.diff(time) <= 0.0).any():
                raise ValueError(
                    f"{table.path}: time does not increase within {keys[table.kind]} = {group}; "
                    "sort the rows, and give every sweep, train or curve a number of its own"
                )
    for name in ("t_s",) if table.kind == "delay" else ("icc_A", "g_S"):
        if name in table.columns and (table[name] <= 0.0).any():
            raise ValueError(f"{table.path}: expected {name} > 0 everywhere; wrong sign or unit?")
