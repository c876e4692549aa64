"""Headers and indices of safetensors files, checked against the files' sizes.

A file is an 8-byte little-endian length, a JSON header of that length {name: {dtype, shape,
data_offsets}}, and the data. Every entry is checked on opening, so a truncated or damaged file is
refused before anything is read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"

DTYPES: Mapping[str, np.dtype[Any]] = MappingProxyType(
    {
        name: np.dtype(code)
        for name, code in {
            "F64": "<f8",
            "F32": "<f4",
            "F16": "<f2",
            "I64": "<i8",
            "I32": "<i4",
            "I16": "<i2",
            "I8": "i1",
            "U64": "<u8",
            "U32": "<u4",
            "U16": "<u2",
            "U8": "u1",
            "BOOL": "?",
        }.items()
    }
)
_SIZES = {name: dtype.itemsize for name, dtype in DTYPES.items()} | {
    "BF16": 2,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
}
_LONGEST_HEADER = 100_000_000  # bytes; the format's own limit
AGAIN = "the file is damaged or incomplete, fetch or write it again"


def item_size(dtype: str) -> int:
    """Bytes of one element of a safetensors dtype."""
    if dtype not in _SIZES:
        raise ValueError(f"expected a dtype of {', '.join(_SIZES)}, got {dtype!r}")
    return _SIZES[dtype]


@dataclass(frozen=True)
class Entry:
    """Where a tensor lies: file, dtype, shape, first byte in the file, bytes."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    begin: int
    nbytes: int


def _refuse_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} occurs twice")
    return dict(pairs)


def read_header(path: Path) -> tuple[dict[str, Entry], dict[str, str], bytes]:
    """Checked entries, metadata and raw header of one safetensors file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if len(start) < 8 or not 2 <= length <= min(size - 8, _LONGEST_HEADER):
            raise ValueError(
                f"{path}: expected a safetensors header, got a length of {length} bytes in a file "
                f"of {size}; {AGAIN}"
            )
        raw = file.read(length)
    try:
        header = json.loads(raw, object_pairs_hook=_refuse_twice)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: the header is not valid JSON ({error}); {AGAIN}") from error
    if not isinstance(header, dict):
        raise ValueError(f"{path}: expected a JSON object as header; {AGAIN}")
    metadata = header.pop("__metadata__", None) or {}
    entries = {name: _entry(path, name, item, 8 + length, size) for name, item in header.items()}
    at = 8 + length
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].nbytes)):
        if entry.begin != at:
            raise ValueError(
                f"{path}: tensor {name} begins at byte {entry.begin}, expected {at} (no gaps, no "
                f"overlap); {AGAIN}"
            )
        at += entry.nbytes
    if at != size:
        raise ValueError(f"{path}: expected a file of {at} bytes, got {size}; {AGAIN}")
    return entries, {str(key): str(value) for key, value in dict(metadata).items()}, raw


def _entry(path: Path, name: str, item: Any, data: int, size: int) -> Entry:
    """One header entry; `data` is where the data begin, `size` the file's."""
    try:
        dtype, shape, (begin, end) = item["dtype"], tuple(item["shape"]), item["data_offsets"]
        whole = all(type(number) is int and number >= 0 for number in (*shape, begin, end))
    except (TypeError, KeyError, ValueError):
        whole = False
    if not whole:
        raise ValueError(
            f"{path}: tensor {name}: expected dtype, shape and two data_offsets, got {item!r}; "
            f"{AGAIN}"
        )
    if dtype not in _SIZES:
        raise ValueError(
            f"{path}: tensor {name} has the unknown dtype {dtype!r}; known are {', '.join(_SIZES)}"
        )
    nbytes = math.prod(shape) * _SIZES[dtype]
    if end - begin != nbytes:
        raise ValueError(
            f"{path}: tensor {name} of {dtype} {shape} needs {nbytes} bytes, its entry covers "
            f"{end - begin}; {AGAIN}"
        )
    if data + end > size:
        raise ValueError(
            f"{path}: tensor {name} ends at byte {data + end}, the file has only {size}; {AGAIN}"
        )
    return Entry(path, dtype, shape, data + begin, nbytes)


def read_index(path: Path) -> dict[str, str]:
    """name -> shard of an index file."""
    try:
        names = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        if not all(isinstance(shard, str) for shard in names.values()):
            raise TypeError("a shard is not a file name")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"{path}: expected a JSON object with a weight_map of names to files ({error}); {AGAIN}"
        ) from error
    for shard in names.values():
        if Path(shard).name != shard:
            raise ValueError(f"{path}: expected plain names of files beside it, got {shard!r}")
    return dict(names)


def find_files(path: Path) -> list[Path]:
    """The safetensors files of a path: a file, a folder with one, or a folder with an index."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise ValueError(f"{path}: no such file or folder; expected {SINGLE} or {INDEX} in it")
    if (path / SINGLE).is_file():
        return [path / SINGLE]
    if (path / INDEX).is_file():
        files = [path / shard for shard in sorted(set(read_index(path / INDEX).values()))]
        for file in files:
            if not file.is_file():
                raise ValueError(f"{path / INDEX} names {file.name}, which is missing; fetch it")
        return files
    single = sorted(path.glob("*.safetensors"))
    if len(single) == 1:
        return single
    found = f"{len(single)} .safetensors files and no index" if single else "none"
    raise ValueError(
        f"{path}: expected {SINGLE} or {INDEX} with its shards, found {found}; "
        "save the model in the safetensors format"
    )
