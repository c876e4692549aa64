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
        cells.stuck_low.value,
        cells.stuck_high.value,
        cells.drift_exponent.value,
        cells.drift_spread.value,
        math.log(cells.hold_time) if cells.drifts else 0.0,
    )


def targets(cells: CrossbarCells, largest: int) -> tuple[Floats, Floats]:
    """Conductance aimed at and deviation of what is written, S, for |w| = 0 ... `largest`."""
    low, high = cells.g_min.value, cells.g_max.value
    above = np.arange(largest + 1) * ((high - low) / largest)
    steps = cells.conductance_levels.value - 1.0
    if steps > 0.0:
        above = np.rint(above / (high - low) * steps) * ((high - low) / steps)
    aimed = low + above
    curve = np.array(cells.programming_curve.values)
    sigma = np.maximum(np.polynomial.polynomial.polyval(aimed / high, curve), 0.0)
    return np.asarray(aimed), np.asarray(sigma * (cells.programming_error.value * high))


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
    aimed: Floats,
    sigma: Floats,
    keys: tuple[np.uint64, np.uint64, np.uint64],
    first: int,
    stride: int,
    out: npt.NDArray[np.float32],
) -> None:
    """Conductances of one half of a block of pairs -> `out`, S, (R, C).

    Args:
        weight: the block's integers, (R, C). sign: 1 for G+, -1 for G-. aimed, sigma: `targets`.
        keys: `cell_keys`. first, stride: number of the block's first cell, and cells per row of the
            whole crossbar.
    """
    rows, columns = weight.shape
    normal = np.empty(columns)
    factor = math.exp(-law.log_time * law.drift_exponent)
    noisy = sigma.max() > 0.0
    for i in range(rows):
        start = np.uint64(first + i * stride)
        if noisy:
            fill_normal(keys[0], start, normal)
        for j in range(columns):
            size = max(sign * int(weight[i, j]), 0)
            g = aimed[size]
            if noisy:
                g = max(g + sigma[size] * normal[j], 0.0)
            out[i, j] = g
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
    scale: float,
    weight: npt.NDArray[np.float32],
    conductance: Floats,
) -> None:
    """weight = (G+ - G-) / scale, (R, C); conductance (R,) += sum of G+ + G- of each row, S."""
    unit = 1.0 / scale
    for i in range(plus.shape[0]):
        total = 0.0
        for j in range(plus.shape[1]):
            up, down = float(plus[i, j]), float(minus[i, j])
            weight[i, j] = (up - down) * unit
            total += up + down
        conductance[i] += total


@compiled
def absolute_sums(weight: npt.NDArray[Any], sums: npt.NDArray[np.int64]) -> None:
    """sums (R,) += sum of |w| of each row."""
    for i in range(weight.shape[0]):
        total = 0
        for j in range(weight.shape[1]):
            total += abs(int(weight[i, j]))
        sums[i] += total


@compiled
def square_sums(weight: npt.NDArray[Any], sums: npt.NDArray[np.int64]) -> None:
    """sums (C,) += sum of w^2 of each column."""
    for i in range(weight.shape[0]):
        for j in range(weight.shape[1]):
            sums[j] += int(weight[i, j]) ** 2
