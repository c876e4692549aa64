"""Safetensors written in blocks of rows: the header first, then the data as they come."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from neurosim.models.tensor_files.header import DTYPES, INDEX, SINGLE, item_size

Specs = Mapping[str, tuple[str, tuple[int, ...]]]
_ALIGNMENT = 64  # of the first byte of data; tensors follow by falling item size
SHARD_BYTES = 4 << 30


class TensorWriter:
    """Writes a folder's `model.safetensors`, or shards and their index, row by row.

    Rows of one tensor are appended in order; different tensors may take turns. Leaving the `with`
    block checks that every tensor is full; on any error the files are removed.

    Args:
        folder: existing folder the files are written to.
        specs: name -> (safetensors dtype, shape), in the order in which shards are filled.
        metadata: strings for the header.
        shard_bytes: a file is not made larger than this, except by a single larger tensor.
    """

    def __init__(
        self,
        folder: Path,
        specs: Specs,
        metadata: Mapping[str, str] | None = None,
        shard_bytes: int = SHARD_BYTES,
    ) -> None:
        self._specs = dict(specs)
        self._folder = folder
        self._streams: dict[str, BinaryIO] = {}
        self._place: dict[str, tuple[str, int]] = {}  # tensor -> file, first byte
        self._written = dict.fromkeys(self._specs, 0)
        self._paths: list[Path] = []
        shards = self._shards(shard_bytes)
        try:
            for file, names in shards.items():
                self._open(file, names, dict(metadata or {}))
            if len(shards) > 1:
                self._write_index()
        except BaseException:
            self._remove()
            raise

    def _nbytes(self, name: str) -> int:
        dtype, shape = self._specs[name]
        return math.prod(shape) * item_size(dtype)

    def _shards(self, limit: int) -> dict[str, list[str]]:
        """file -> names, filled in order."""
        groups: list[list[str]] = [[]]
        used = 0
        for name in self._specs:
            size = self._nbytes(name)
            if groups[-1] and used + size > limit:
                groups.append([])
                used = 0
            groups[-1].append(name)
            used += size
        if len(groups) == 1:
            return {SINGLE: groups[0]}
        stem = SINGLE.removesuffix(".safetensors")
        return {
            f"{stem}-{i:05d}-of-{len(groups):05d}.safetensors": names
            for i, names in enumerate(groups, 1)
        }

    def _open(self, file: str, names: list[str], metadata: dict[str, str]) -> None:
        """Write a file's header and reserve its size."""
        header: dict[str, Any] = {"__metadata__": {"format": "np"} | metadata}
        end = 0
        for name in sorted(names, key=lambda name: -item_size(self._specs[name][0])):
            begin, end = end, end + self._nbytes(name)
            dtype, shape = self._specs[name]
            header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
        raw = json.dumps(header, separators=(",", ":")).encode()
        raw += b" " * (-(8 + len(raw)) % _ALIGNMENT)
        path = self._folder / file
        stream = path.open("xb")
        self._paths.append(path)
        self._streams[file] = stream
        stream.write(len(raw).to_bytes(8, "little") + raw)
        stream.truncate(8 + len(raw) + end)
        for name in names:
            self._place[name] = (file, 8 + len(raw) + header[name]["data_offsets"][0])

    def _write_index(self) -> None:
        total = sum(self._nbytes(name) for name in self._specs)
        where = {name: file for name, (file, _) in self._place.items()}
        text = json.dumps({"metadata": {"total_size": total}, "weight_map": where}, indent=1)
        self._paths.append(self._folder / INDEX)
        self._paths[-1].write_text(text + "\n", encoding="utf-8")

    def write(self, name: str, rows: NDArray[Any]) -> None:
        """Append rows (of a scalar: the number) to a tensor.

        float32 is rounded to nearest-even for a BF16 or F16 tensor; every other type must be the
        tensor's own.
        """
        if name not in self._specs:
            raise ValueError(f"no tensor {name} was announced; known are {len(self._specs)} others")
        dtype, shape = self._specs[name]
        if tuple(rows.shape[1:]) != shape[1:] or rows.ndim != len(shape):
            raise ValueError(f"{name}: expected rows of shape (n, *{shape[1:]}), got {rows.shape}")
        data = _encode(name, rows, dtype)
        if self._written[name] + data.nbytes > self._nbytes(name):
            raise ValueError(f"{name}: more rows than its shape {shape} has")
        file, begin = self._place[name]
        stream = self._streams[file]
        stream.seek(begin + self._written[name])
        stream.write(data.data if data.ndim and data.size else data.tobytes())
        self._written[name] += data.nbytes

    def close(self) -> None:
        """Check that every tensor is full and close the files."""
        short = [name for name, count in self._written.items() if count != self._nbytes(name)]
        if short:
            self._remove()
            raise ValueError(f"tensors not written to their end: {', '.join(short[:5])}")
        for stream in self._streams.values():
            stream.close()

    def _remove(self) -> None:
        for stream in self._streams.values():
            stream.close()
        for path in self._paths:
            path.unlink(missing_ok=True)

    def __enter__(self) -> TensorWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._remove()

    def __repr__(self) -> str:
        size = sum(self._nbytes(name) for name in self._specs)
        return f"TensorWriter({self._folder}, {len(self._specs)} tensors, {size / 1e6:.1f} MB)"


def _encode(name: str, rows: NDArray[Any], dtype: str) -> NDArray[Any]:
    """Contiguous bytes-to-be of rows in a safetensors dtype."""
    if dtype == "BF16":
        if rows.dtype != np.float32:
            raise ValueError(f"{name}: expected float32 rows for BF16, got {rows.dtype}")
        return to_bfloat16(rows)
    wanted = DTYPES[dtype]
    if rows.dtype != wanted and not (dtype == "F16" and rows.dtype == np.float32):
        raise ValueError(f"{name}: expected {wanted} rows for {dtype}, got {rows.dtype}")
    return np.ascontiguousarray(rows, dtype=wanted)


def to_bfloat16(rows: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The upper 16 bits of float32 numbers, rounded to nearest-even; NaN stays NaN."""
    bits = np.ascontiguousarray(rows).view(np.uint32)
    rounded = (bits + (((bits >> 16) & 1) + np.uint32(0x7FFF))) >> 16
    nan = np.isnan(rows)
    if nan.any():
        rounded[nan] = (bits[nan] >> 16) | 0x40
    return rounded.astype(np.uint16)
