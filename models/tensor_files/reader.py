"""Safetensors files and sharded folders, memory-mapped: read in blocks of rows, write in blocks.

A file is an 8-byte little-endian length, a JSON header of that length {name: {dtype, shape,
data_offsets}}, and the data. Every entry is checked against the file's size on opening, so a
truncated or damaged file is refused before anything is read.
"""

from __future__ import annotations

import json
import math
import mmap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
_AGAIN = "the file is damaged or incomplete, fetch or write it again"
_CAN_DROP = hasattr(mmap, "MADV_DONTNEED")


def item_size(dtype: str) -> int:
    """Bytes of one element of a safetensors dtype."""
    if dtype not in _SIZES:
        raise ValueError(f"expected a dtype of {', '.join(_SIZES)}, got {dtype!r}")
    return _SIZES[dtype]


@dataclass(frozen=True)
class _Entry:
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


def read_header(path: Path) -> tuple[dict[str, _Entry], dict[str, str], bytes]:
    """Checked entries, metadata and raw header of one safetensors file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if len(start) < 8 or not 2 <= length <= min(size - 8, _LONGEST_HEADER):
            raise ValueError(
                f"{path}: expected a safetensors header, got a length of {length} bytes in a file "
                f"of {size}; {_AGAIN}"
            )
        raw = file.read(length)
    try:
        header = json.loads(raw, object_pairs_hook=_refuse_twice)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: the header is not valid JSON ({error}); {_AGAIN}") from error
    if not isinstance(header, dict):
        raise ValueError(f"{path}: expected a JSON object as header; {_AGAIN}")
    metadata = header.pop("__metadata__", None) or {}
    entries = {name: _entry(path, name, item, 8 + length, size) for name, item in header.items()}
    at = 8 + length
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].nbytes)):
        if entry.begin != at:
            raise ValueError(
                f"{path}: tensor {name} begins at byte {entry.begin}, expected {at} (no gaps, no "
                f"overlap); {_AGAIN}"
            )
        at += entry.nbytes
    if at != size:
        raise ValueError(f"{path}: expected a file of {at} bytes, got {size}; {_AGAIN}")
    return entries, {str(key): str(value) for key, value in dict(metadata).items()}, raw


def _entry(path: Path, name: str, item: Any, data: int, size: int) -> _Entry:
    """One header entry; `data` is where the data begin, `size` the file's."""
    try:
        dtype, shape, (begin, end) = item["dtype"], tuple(item["shape"]), item["data_offsets"]
        whole = all(type(number) is int and number >= 0 for number in (*shape, begin, end))
    except (TypeError, KeyError, ValueError):
        whole = False
    if not whole:
        raise ValueError(
            f"{path}: tensor {name}: expected dtype, shape and two data_offsets, got {item!r}; "
            f"{_AGAIN}"
        )
    if dtype not in _SIZES:
        raise ValueError(
            f"{path}: tensor {name} has the unknown dtype {dtype!r}; known are {', '.join(_SIZES)}"
        )
    nbytes = math.prod(shape) * _SIZES[dtype]
    if end - begin != nbytes:
        raise ValueError(
            f"{path}: tensor {name} of {dtype} {shape} needs {nbytes} bytes, its entry covers "
            f"{end - begin}; {_AGAIN}"
        )
    if data + end > size:
        raise ValueError(
            f"{path}: tensor {name} ends at byte {data + end}, the file has only {size}; {_AGAIN}"
        )
    return _Entry(path, dtype, shape, data + begin, nbytes)


def _index(path: Path) -> dict[str, str]:
    """name -> shard of an index file."""
    try:
        names = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        if not all(isinstance(shard, str) for shard in names.values()):
            raise TypeError("a shard is not a file name")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"{path}: expected a JSON object with a weight_map of names to files ({error}); "
            f"{_AGAIN}"
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
        files = [path / shard for shard in sorted(set(_index(path / INDEX).values()))]
        for file in files:
            if not file.is_file():
                raise ValueError(f"{path / INDEX} names {file.name}, which is missing; fetch it")
        return files
    single = sorted(path.glob("*.safetensors"))
    if len(single) == 1:
        return single
    found = f"{len(single)} .safetensors files and no index" if single else "none"
    raise ValueError(f"{path}: expected {SINGLE} or {INDEX} with its shards, found {found}")


def _map(file: Path) -> mmap.mmap:
    with file.open("rb") as stream:
        try:
            return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise ValueError(
                f"{file}: {file.stat().st_size / 1e9:.1f} GB cannot be mapped into memory "
                f"({error.strerror}); raise the limit of address space (ulimit -v unlimited)"
            ) from error


class TensorFolder:
    """The tensors of a safetensors file or folder; only what is read comes into memory.

    Attributes:
        path: what was opened.
        files: the safetensors files.
        metadata: the `__metadata__` of all files together.
        headers: raw header of each file, which identifies names, types, shapes and places.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.files = find_files(self.path)
        self.metadata: dict[str, str] = {}
        self.headers: dict[Path, bytes] = {}
        self._entries: dict[str, _Entry] = {}
        self._maps: dict[Path, mmap.mmap] = {}
        index = self.path / INDEX
        sharded = self.path.is_dir() and self.files[0].name != SINGLE and index.is_file()
        where = _index(index) if sharded else None
        for file in self.files:
            entries, metadata, self.headers[file] = read_header(file)
            self.metadata |= metadata
            if where is not None:
                entries = {n: e for n, e in entries.items() if where.get(n, file.name) == file.name}
            for name, entry in entries.items():
                if name in self._entries:
                    first = self._entries[name].file.name
                    raise ValueError(f"{file}: tensor {name} is also in {first}; {_AGAIN}")
                self._entries[name] = entry
            self._maps[file] = _map(file)
        for name, shard in (where or {}).items():
            if name not in self._entries:
                raise ValueError(f"{self.path / shard}: no tensor {name}, which {INDEX} promises")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all tensors, file by file."""
        return tuple(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def _find(self, name: str) -> _Entry:
        if name not in self._entries:
            raise ValueError(
                f"{self.path}: no tensor {name}; do config and weights belong together?"
            )
        return self._entries[name]

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor."""
        return self._find(name).shape

    def dtype(self, name: str) -> str:
        """Stored type of a tensor: "F32", "BF16", "I8", ..."""
        return self._find(name).dtype

    def file(self, name: str) -> Path:
        """The file a tensor is in."""
        return self._find(name).file

    def nbytes(self, name: str) -> int:
        """Stored bytes of a tensor."""
        return self._find(name).nbytes

    def view(self, name: str, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Rows start:stop as stored, read-only, without copying.

        Refused for types that numpy lacks (BF16, F8).
        """
        entry = self._find(name)
        if entry.dtype not in DTYPES:
            raise ValueError(f"{entry.file}: {name} is {entry.dtype}, which has no view; use read")
        return self._rows(entry, DTYPES[entry.dtype], start, stop)

    def read(self, name: str, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Rows start:stop (of a scalar: the number).

        BF16, F16 and F32 come as a new float32 array and F64 as a new float64 one; the pages they
        came from are dropped from memory. Integers come as a read-only view of the file.
        """
        entry = self._find(name)
        if entry.dtype.startswith("F8"):
            raise ValueError(f"{entry.file}: {name} is {entry.dtype}; expected 16 bits or more")
        if entry.dtype == "BF16":
            half = self._rows(entry, np.dtype("<u2"), start, stop)
            wide = half.astype(np.uint32)  # bfloat16 is the upper half of a float32
            wide <<= 16
            values: NDArray[Any] = wide.view(np.float32)
        elif entry.dtype.startswith("F"):
            rows = self.view(name, start, stop)
            values = rows.astype(np.float64 if entry.dtype == "F64" else np.float32)
        else:
            return self.view(name, start, stop)
        self.release(name, start, stop)
        return values

    def release(self, name: str, start: int = 0, stop: int | None = None) -> None:
        """Drop the pages of rows start:stop from memory; they are read again if needed."""
        entry = self._find(name)
        _, begin, length = self._span(entry, start, stop)
        page = begin - begin % mmap.PAGESIZE
        if _CAN_DROP and length:
            self._maps[entry.file].madvise(mmap.MADV_DONTNEED, page, begin + length - page)

    def _span(self, entry: _Entry, start: int, stop: int | None) -> tuple[int, int, int]:
        """(rows, first byte, bytes) of rows start:stop."""
        rows = entry.shape[0] if entry.shape else 1
        end = rows if stop is None else stop
        if not 0 <= start <= end <= rows:
            raise ValueError(f"expected rows between 0 and {rows}, got {start} to {end}")
        each = entry.nbytes // rows if rows else 0
        return end - start, entry.begin + start * each, (end - start) * each

    def _rows(
        self, entry: _Entry, dtype: np.dtype[Any], start: int, stop: int | None
    ) -> NDArray[Any]:
        rows, begin, length = self._span(entry, start, stop)
        count = length // dtype.itemsize
        array: NDArray[Any] = np.frombuffer(self._maps[entry.file], dtype, count, begin)
        return array.reshape(rows, *entry.shape[1:]) if entry.shape else array.reshape(())

    def __repr__(self) -> str:
        size = sum(entry.nbytes for entry in self._entries.values())
        return f"TensorFolder({self.path}, {len(self)} tensors, {size / 1e6:.1f} MB)"


def check_finite(values: NDArray[Any], name: str, start: int = 0) -> None:
    """Refuse NaN and infinity, naming the tensor and the row (counted from `start`)."""
    if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
        rows: Iterable[int] = np.nonzero(~np.isfinite(np.atleast_1d(values)))[0]
        raise ValueError(
            f"{name}: row {start + int(next(iter(rows)))} holds NaN or infinity; the weights are "
            "damaged"
        )
