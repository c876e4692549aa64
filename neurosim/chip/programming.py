"""Writing cells: finite levels, programming error, stuck cells, drift; one block at a time.

Every draw is a function of (crossbar key, purpose, cell) alone, so a crossbar is the same however
it is cut into tiles and in whatever order they are written. Nothing of the size of the whole
matrix is held but the result.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from neurosim.chip.sections import CrossbarCells
from neurosim.devices.counter_random import fill_normal, stream_key, uniform
from neurosim.kernels._jit import compiled

Floats = npt.NDArray[np.float64]
_ERROR, _STUCK, _DRIFT = np.uint64(0), np.uint64(1), np.uint64(2)  # purposes of draws


class CellLaw(NamedTuple):
    """What happens to a cell when it is written, as plain numbers (S, 1)."""

    low: float
    high: float
    steps: float
    """Levels - 1; 0: continuous."""
    error: float
    stuck_low: float
    stuck_high: float
    drift_exponent: float
    drift_spread: float
    log_time: float
    """ln of the time since writing over the drift's reference; 0: no drift."""


def cell_law(cells: CrossbarCells) -> CellLaw:
    """The numbers of a chip description."""
    return CellLaw(
        cells.g_min.value,
        cells.g_max.value,
        max(cells.conductance_levels.value - 1.0, 0.0),
        cells.programming_error.value,
        cells.stuck_low.value,
        cells.stuck_high.value,
        cells.drift_exponent.value,
        cells.drift_spread.value,
        math.log(cells.hold_time) if cells.drifts else 0.0,
    )


def cell_keys(key: np.uint64, half: int, rewrites: int) -> tuple[np.uint64, np.uint64, np.uint64]:
    """Keys of the draws for G+ (`half` 0) or G- (1): error, stuck, drift.

    A refresh writes anew, with new errors; a stuck cell stays stuck and a cell keeps its exponent.
    """
    own = np.uint64(stream_key(key, np.uint64(half)))
    error, stuck, drift = (np.uint64(stream_key(own, k)) for k in (_ERROR, _STUCK, _DRIFT))
    return np.uint64(stream_key(error, np.uint64(rewrites))), stuck, drift


@compiled
def write_cells(
    weight: npt.NDArray[Any],
    sign: int,
    law: CellLaw,
    curve: Floats,
    scale: Floats,
    keys: tuple[np.uint64, np.uint64, np.uint64],
    first: int,
    stride: int,
    out: npt.NDArray[np.float32],
) -> None:
    """Conductances of one half of a block of pairs -> `out`, S, (R, C).

    Args:
        weight: the block's integers, (R, C). sign: 1 for G+, -1 for G-.
        curve: coefficients of the error's deviation over G_max as a polynomial in G / G_max.
        scale: S per unit of weight of each column, (C,).
        keys: `cell_keys`. first, stride: number of the block's first cell, and cells per row of the
            whole crossbar.
    """
    rows, columns = weight.shape
    aimed, sigma, normal = np.empty(columns), np.empty(columns), np.empty(columns)
    factor = math.exp(-law.log_time * law.drift_exponent)
    step = (law.high - law.low) / law.steps if law.steps > 0.0 else 0.0
    per_step = (
        1.0 / step if step > 0.0 else 0.0
    )  # a division in a loop is checked, and not a vector
    per_high = 1.0 / law.high
    for i in range(rows):
        start = np.uint64(first + i * stride)
        for j in range(columns):
            aimed[j] = max(sign * int(weight[i, j]), 0) * scale[j]
        if step > 0.0:
            for j in range(columns):
                aimed[j] = np.floor(aimed[j] * per_step + 0.5) * step
        for j in range(columns):
            aimed[j] += law.low
        if law.error > 0.0:
            fill_normal(keys[0], start, normal)
            sigma[:] = 0.0
            for k in range(curve.size - 1, -1, -1):
                for j in range(columns):
                    sigma[j] = sigma[j] * (aimed[j] * per_high) + curve[k]
            for j in range(columns):
                spread = max(sigma[j], 0.0) * law.error * law.high
                aimed[j] = max(aimed[j] + spread * normal[j], 0.0)
        for j in range(columns):
            out[i, j] = aimed[j]
        if law.log_time > 0.0:
            if law.drift_spread > 0.0:
                fill_normal(keys[2], start, normal)
                for j in range(columns):
                    nu = max(law.drift_exponent + law.drift_spread * normal[j], 0.0)
                    out[i, j] *= math.exp(-law.log_time * nu)
            else:
                for j in range(columns):
                    out[i, j] *= factor
        if law.stuck_low + law.stuck_high > 0.0:
            for j in range(columns):
                chance = uniform(keys[1], start + np.uint64(j))
                if chance < law.stuck_low:
                    out[i, j] = law.low
                elif chance >= 1.0 - law.stuck_high:
                    out[i, j] = law.high


@compiled
def read_pairs(
    plus: npt.NDArray[np.float32],
    minus: npt.NDArray[np.float32],
    scale: Floats,
    weight: npt.NDArray[np.float32],
    conductance: Floats,
) -> None:
    """weight = (G+ - G-) / scale, (R, C); conductance (R,) += sum of G+ + G- of each row, S."""
    unit = 1.0 / scale
    for i in range(plus.shape[0]):
        total = 0.0
        for j in range(plus.shape[1]):
            up, down = float(plus[i, j]), float(minus[i, j])
            weight[i, j] = (up - down) * unit[j]
            total += up + down
        conductance[i] += total


@compiled
def absolute_sums(weight: npt.NDArray[Any], scale: Floats, sums: Floats) -> None:
    """sums (R,) += sum of |w| scale of each row, S."""
    for i in range(weight.shape[0]):
        total = 0.0
        for j in range(weight.shape[1]):
            total += abs(int(weight[i, j])) * scale[j]
        sums[i] += total


@compiled
def square_sums(weight: npt.NDArray[Any], sums: npt.NDArray[np.int64]) -> None:
    """sums (C,) += sum of w^2 of each column."""
    for i in range(weight.shape[0]):
        for j in range(weight.shape[1]):
            sums[j] += int(weight[i, j]) ** 2
