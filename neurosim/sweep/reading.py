"""Reading values of a specification; every error names file, key and what was expected."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

Value = float | int | str | bool
_RANGE = frozenset({"from", "to", "count", "scale"})
_MOST = 1_000_000  # values of one axis


def table(where: str, value: object, known: tuple[str, ...]) -> dict[str, Any]:
    """A table with no keys but `known`."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{where}: expected a table, got {value!r}")
    unknown = sorted(set(map(str, value)) - set(known))
    if unknown:
        raise ValueError(f"{where}: unknown keys {', '.join(unknown)}; known: {', '.join(known)}")
    return dict(value)


def whole(where: str, value: object, low: int, high: int) -> int:
    """A whole number from low to high."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{where}: expected a whole number from {low} to {high}, got {value!r}")
    return value


def real(where: str, value: object, low: float = -math.inf, high: float = math.inf) -> float:
    """A finite number from low to high."""
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not math.isfinite(value)
        or not low <= value <= high
    ):
        limits = "" if low == -math.inf else f" from {low:g} to {high:g}"
        raise ValueError(f"{where}: expected a finite number{limits}, got {value!r}")
    return float(value)


def text(where: str, value: object) -> str:
    """A text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{where}: expected a text, got {value!r}")
    return value


def one_of(where: str, value: object, choices: tuple[str, ...]) -> str:
    """One of a few words."""
    if value not in choices:
        raise ValueError(f"{where}: expected one of {', '.join(choices)}, got {value!r}")
    return str(value)


def texts(where: str, value: object) -> tuple[str, ...]:
    """A list of different texts, at least one."""
    if not isinstance(value, list | tuple) or not value:
        raise ValueError(f"{where}: expected a list of at least one text, got {value!r}")
    found = tuple(text(f"{where}[{i}]", item) for i, item in enumerate(value))
    _refuse_repeats(where, found)
    return found


def seeds(where: str, value: object) -> tuple[int, ...]:
    """A list of seeds, or { from, count }: one seed is one drawn chip."""
    last = 2**63 - 1
    if isinstance(value, Mapping):
        entry = table(where, value, ("from", "count"))
        if "count" not in entry:
            raise ValueError(f"{where}: missing count; expected {{ from, count }} or a list")
        count = whole(f"{where}.count", entry["count"], 1, _MOST)
        first = whole(f"{where}.from", entry.get("from", 0), 0, last - count)
        return tuple(range(first, first + count))
    if not isinstance(value, list | tuple) or not value:
        raise ValueError(f"{where}: expected a list of seeds or {{ from, count }}, got {value!r}")
    found = tuple(whole(f"{where}[{i}]", item, 0, last) for i, item in enumerate(value))
    _refuse_repeats(where, found)
    return found


def flattened(where: str, value: object, ranges: bool) -> dict[str, Any]:
    """Nested tables as dotted keys; with `ranges`, a table of from, to, count stays whole."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{where}: expected a table of dotted chip keys, got {value!r}")
    found: dict[str, Any] = {}
    for key, entry in value.items():
        inner = isinstance(entry, Mapping) and not (ranges and _RANGE & set(entry))
        parts = flattened(f"{where}.{key}", entry, ranges) if inner else {"": entry}
        for rest, leaf in parts.items():
            name = f"{key}.{rest}" if rest else str(key)
            if name in found:
                raise ValueError(f"{where}: {name} stands there twice")
            found[name] = leaf
    return found


def axis(where: str, value: object) -> tuple[Value, ...]:
    """The values of one parameter: a list, or { from, to, count, scale = "linear" | "log" }."""
    if isinstance(value, Mapping):
        return _range(where, table(where, value, ("from", "to", "count", "scale")))
    if not isinstance(value, list | tuple) or not value:
        raise ValueError(
            f"{where}: expected a list of values or {{ from, to, count }}, got {value!r}"
        )
    found = tuple(scalar(f"{where}[{i}]", item) for i, item in enumerate(value))
    kinds = {type(item) for item in found}
    if kinds == {int, float}:
        found = tuple(float(item) for item in found)
    elif len(kinds) > 1:
        raise ValueError(f"{where}: expected values of one type, got {list(value)!r}")
    _refuse_repeats(where, found)
    return found


def scalar(where: str, value: object) -> Value:
    """A number, a word or a flag, as the chip's key wants."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return text(where, value)
    found = real(where, value)
    return value if isinstance(value, int) else found


def _range(where: str, entry: Mapping[str, Any]) -> tuple[Value, ...]:
    missing = [key for key in ("from", "to", "count") if key not in entry]
    if missing:
        raise ValueError(f"{where}: missing {', '.join(missing)}; expected {{ from, to, count }}")
    low, high = (real(f"{where}.{key}", entry[key]) for key in ("from", "to"))
    count = whole(f"{where}.count", entry["count"], 2, _MOST)
    scale = one_of(f"{where}.scale", entry.get("scale", "linear"), ("linear", "log"))
    if low == high:
        raise ValueError(f"{where}: expected from and to to differ, got {low:g} twice")
    if scale == "log":
        if min(low, high) <= 0.0:
            raise ValueError(f"{where}: expected from and to > 0 on a log scale, got {low:g}")
        return tuple(float(f"{v:.12g}") for v in np.geomspace(low, high, count))
    found = tuple(float(f"{v:.12g}") for v in np.linspace(low, high, count))
    whole_ends = all(isinstance(entry[key], int) for key in ("from", "to"))
    if whole_ends and all(value.is_integer() for value in found):
        return tuple(int(value) for value in found)
    return found


def _refuse_repeats(where: str, values: tuple[Any, ...]) -> None:
    repeated = sorted({str(value) for value in values if values.count(value) > 1})
    if repeated:
        raise ValueError(f"{where}: expected different values, got {', '.join(repeated)} twice")
