"""Configurations from plain mappings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

Config = TypeVar("Config")
_KINDS: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (float, int),
    "str": (str,),
    "bool": (bool,),
}


def from_mapping(cls: type[Config], data: Mapping[str, Any], what: str) -> Config:
    """Build a dataclass from its fields by name; unknown keys and missing ones are errors."""
    known = {field.name for field in fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(set(data) - known)
    if unknown:
        raise ValueError(f"unknown {what} keys {unknown}; known: {sorted(known)}")
    for field in fields(cls):  # type: ignore[arg-type]
        kinds = _KINDS.get(str(field.type), ())
        if kinds and field.name in data and type(data[field.name]) not in kinds:
            raise ValueError(
                f"expected {what} {field.name} to be {field.type}, got {data[field.name]!r}"
            )
    try:
        return cls(**data)
    except TypeError as error:
        raise ValueError(f"{what}: {error}") from error
