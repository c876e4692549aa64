"""Packing in plain numpy: the definition of the words, planes and lists."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.kernels.packed._words import Counts, Index, Words, index_type, plane_weights


def _words_of(bits: npt.NDArray[np.bool_]) -> Words:
    """Bits (..., D) as little-endian words (..., ceil(D / 64)), the tail zero."""
    columns = bits.shape[-1]
    width = -(-columns // 64) * 64
    padded = np.zeros((*bits.shape[:-1], width), np.bool_)
    padded[..., :columns] = bits
    ordered = np.packbits(padded, axis=-1, bitorder="little")
    return np.ascontiguousarray(ordered).view("<u8").astype(np.uint64, copy=False)


def _bits_of(words: Words, columns: int) -> npt.NDArray[np.bool_]:
    octets = np.ascontiguousarray(words, dtype="<u8").view(np.uint8)
    return np.unpackbits(octets, axis=-1, bitorder="little")[..., :columns].astype(np.bool_)


def pack(
    x: Counts | npt.NDArray[np.float32], levels: int, signed: bool, code: str
) -> tuple[Words, bool]:
    """Words (P, R, W) of spike counts (R, D), and whether all are whole and within the levels."""
    low = -levels if signed else 0
    if not ((x >= low) & (x <= levels) & (np.trunc(x) == x)).all():
        return np.zeros((0, *x.shape), np.uint64), False
    x = x.astype(np.int8)
    sides = [np.maximum(x, 0), np.maximum(-x, 0)] if signed else [x]
    planes = []
    for side in sides:
        if code == "thermometer":
            planes += [side > level for level in range(levels)]
        else:
            planes += [(side >> bit) & 1 == 1 for bit in range(levels.bit_length())]
    return _words_of(np.stack(planes)), True


def unpack(
    words: Words, levels: int, signed: bool, code: str, columns: int, kind: type[np.number]
) -> npt.NDArray[Any]:
    """Spike counts (R, D), int8 or float32."""
    weights = np.array(plane_weights(levels, signed, code), np.int8)
    bits = _bits_of(words, columns).astype(np.int8)
    return np.asarray(np.einsum("p,prd->rd", weights, bits), kind)


def count_bits(words: Words) -> npt.NDArray[np.int64]:
    """Set bits of every row of words (R, W)."""
    return np.asarray(_bits_of(words, 64 * words.shape[1]).sum(axis=1, dtype=np.int64))


def events(words: Words, columns: int) -> tuple[npt.NDArray[np.int64], Index]:
    """Row pointers (R + 1,) and the set bits of every row of words (R, W), ascending."""
    rows, channels = np.nonzero(_bits_of(words, columns))
    pointer = np.zeros(words.shape[0] + 1, np.int64)
    np.cumsum(np.bincount(rows, minlength=words.shape[0]), out=pointer[1:])
    kind: type[Any] = index_type(columns)
    return pointer, channels.astype(kind)


def patterns(words: Words, columns: int) -> tuple[npt.NDArray[np.int64], Index]:
    """List pointers (15 R / 4 + 1,) and channels of words (R, W) by their bits in four rows."""
    bits = _bits_of(words, columns).reshape(words.shape[0] // 4, 4, columns)
    pattern = np.einsum("t,gtd->gd", np.array([1, 2, 4, 8]), bits)
    lists = [np.nonzero(row == wanted)[0] for row in pattern for wanted in range(1, 16)]
    pointer = np.cumsum([0] + [len(channels) for channels in lists], dtype=np.int64)
    kind: type[Any] = index_type(columns)
    return pointer, np.concatenate([np.empty(0, kind), *lists]).astype(kind)


def swapped(words: Words) -> Words:
    """(B, X, Y, W) -> (B, Y, X, W)."""
    return np.ascontiguousarray(words.transpose(0, 2, 1, 3))


def transpose(words: Words, columns: int) -> Words:
    """(P, R, W) of D columns -> (P, D, ceil(R / 64))."""
    return _words_of(_bits_of(words, columns).transpose(0, 2, 1))
