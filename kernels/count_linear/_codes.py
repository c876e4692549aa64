"""The codes of integer weights: rounding to them, their layout, and their range."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.kernels._jit import compiled, inlined
from neurosim.kernels._scratch import on_stack

GROUP = 32  # inputs of a group
LANES = 16  # groups of a block
_LARGEST, _MOST = np.float32(7), 63  # of codes and of multipliers
_SHARES = 9  # multipliers tried for a group, from 0.6 to 1 of the one that holds everything
_group_values, _group_codes = on_stack(np.float32, GROUP), on_stack(np.uint8, GROUP)


def blocks(groups: int) -> list[tuple[int, int]]:
    """First group and number of groups of each block: of 16 while there are as many, then of 8, 4,
    2 and 1."""
    found, first = [], 0
    while first < groups:
        size = min(LANES, 1 << (groups - first).bit_length() - 1)
        found.append((first, size))
        first += size
    return found


@functools.cache
def places(inputs: int) -> npt.NDArray[np.int64]:
    """Input in each half-byte of a row of codes, (G * 16, 2): low half, high half."""
    rows = [np.empty((0, 2), np.int64)]
    for first, size in blocks(-(-inputs // GROUP)):
        group = GROUP * (first + np.arange(size))
        low = 8 * np.arange(4)[:, None, None] + group[:, None] + np.arange(4)  # (q, j, t)
        rows.append(np.stack([low, low + 4], axis=-1).reshape(-1, 2))
    return np.concatenate(rows)


def integers(
    codes: npt.NDArray[np.uint8], multiplier: npt.NDArray[np.uint8], inputs: int
) -> npt.NDArray[np.int16]:
    """w m of rows of codes, (R, I)."""
    groups = multiplier.shape[1]
    place = places(inputs)
    values = np.empty((len(codes), groups * GROUP), np.int16)
    values[:, place[:, 0]] = codes & 15
    values[:, place[:, 1]] = codes >> 4
    values -= 8
    split = values.reshape(len(codes), groups, GROUP) * multiplier.astype(np.int16)[:, :, None]
    return np.ascontiguousarray(split.reshape(values.shape)[:, :inputs])


@compiled
def bytes_in_range(codes: Any) -> bool:
    """Whether no int8 is -128."""
    flat = codes.reshape(-1)
    found = 0
    for i in range(flat.size):
        found |= flat[i] == -128
    return found == 0


@compiled
def halves_in_range(codes: Any) -> bool:
    """Whether no half-byte is 0."""
    flat = codes.reshape(-1)
    found = 0
    for i in range(flat.size):
        found |= (flat[i] & 15 == 0) | (flat[i] < 16)
    return found == 0


@compiled
def quantise_bytes(weight: Any, codes: Any, scale: Any) -> bool:
    """Codes and scales of float32 (R, I), given; whether all is finite."""
    for row in range(weight.shape[0]):
        largest = _largest(weight[row])
        if not largest < np.inf:
            return False
        s = np.float32(largest / np.float32(127))
        scale[row] = s if s > 0 else np.float32(1)
        s = scale[row]
        for i in range(weight.shape[1]):
            q = np.rint(weight[row, i] / s)
            codes[row, i] = np.int8(min(max(q, np.float32(-127)), np.float32(127)))
    return True


@compiled
def quantise_halves(weight: Any, codes: Any, multiplier: Any, scale: Any) -> bool:
    """The same for 4 bits."""
    inputs, groups = weight.shape[1], multiplier.shape[1]
    values, best = _group_values(), _group_codes()
    for row in range(weight.shape[0]):
        largest = _largest(weight[row])
        if not largest < np.inf:
            return False
        s = np.float32(largest / np.float32(7 * _MOST))
        scale[row] = s if s > 0 else np.float32(1)
        for group in range(groups):
            here = min(GROUP, inputs - group * GROUP)
            for i in range(here):
                values[i] = weight[row, group * GROUP + i] / scale[row]
            for i in range(here, GROUP):
                values[i] = np.float32(0)
            m = _multiplier(values)
            multiplier[row, group] = m
            for i in range(GROUP):
                best[i] = np.uint8(_nearest(values[i], np.float32(m)) + np.float32(8))
            start, size = block_of(group, groups)
            first = start * GROUP // 2 + 4 * (group - start)
            for q in range(4):
                for t in range(4):
                    low, high = best[8 * q + t], best[8 * q + 4 + t]
                    codes[row, first + 4 * size * q + t] = low | (high << np.uint8(4))
    return True


@inlined
def block_of(group: int, groups: int) -> tuple[int, int]:
    """First group and number of groups of the block of a group."""
    start = group // LANES * LANES
    size = LANES
    while start + size > groups or group >= start + size:
        if start + size <= groups:
            start += size
        size //= 2
    return start, size


@inlined
def _largest(row: Any) -> Any:
    """max |row|, or NaN."""
    largest = np.float32(0)
    for i in range(row.size):
        if not largest >= abs(row[i]):
            largest = abs(row[i])
        if row[i] != row[i]:
            return row[i]
    return largest


@inlined
def _nearest(value: Any, m: Any) -> Any:
    return min(max(np.rint(value / m), -_LARGEST), _LARGEST)


@inlined
def _multiplier(values: Any) -> int:
    """Of a group: the least squared error, the larger one where two are equal."""
    ideal = _largest(values) / _LARGEST
    chosen, least, last = 1, np.inf, 0
    for share in range(_SHARES):
        m = int(np.ceil(ideal * np.float32(1 - 0.05 * share)))
        m = min(max(m, 1), _MOST)
        if m == last:
            continue
        last = m
        error = 0.0
        for i in range(GROUP):
            off = np.float64(values[i] - np.float32(m) * _nearest(values[i], np.float32(m)))
            error += off * off
        if error < least:
            chosen, least = m, error
    return chosen
