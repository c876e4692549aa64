"""Safetensors files and sharded folders, memory-mapped: read in blocks of rows."""

from __future__ import annotations

import mmap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.models.tensor_files.header import (
    AGAIN,
    DTYPES,
    INDEX,
    SINGLE,
    Entry,
    find_files,
    read_header,
    read_index,
)

_CAN_DROP = hasattr(mmap, "MADV_DONTNEED")


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
        self._entries: dict[str, Entry] = {}
        self._maps: dict[Path, mmap.mmap] = {}
        index = self.path / INDEX
        sharded = self.path.is_dir() and self.files[0].name != SINGLE and index.is_file()
        where = read_index(index) if sharded else None
        for file in self.files:
            entries, metadata, self.headers[file] = read_header(file)
            self.metadata |= metadata
            if where is not None:
                entries = {n: e for n, e in entries.items() if where.get(n, file.name) == file.name}
            for name, entry in entries.items():
                if name in self._entries:
                    first = self._entries[name].file.name
                    raise ValueError(f"{file}: tensor {name} is also in {first}; {AGAIN}")
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

    def _find(self, name: str) -> Entry:
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

    def _span(self, entry: Entry, start: int, stop: int | None) -> tuple[int, int, int]:
        """(rows, first byte, bytes) of rows start:stop."""
        rows = entry.shape[0] if entry.shape else 1
        end = rows if stop is None else stop
        if not 0 <= start <= end <= rows:
            raise ValueError(f"expected rows between 0 and {rows}, got {start} to {end}")
        each = entry.nbytes // rows if rows else 0
        return end - start, entry.begin + start * each, (end - start) * each

    def _rows(
        self, entry: Entry, dtype: np.dtype[Any], start: int, stop: int | None
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
