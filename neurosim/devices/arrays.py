"""The closed forms of one segment for arrays: numpy broadcasting over the compiled scalars.

One formula source: each element is exactly what `closed_forms` gives (device.md 3.2). SI units.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from neurosim.devices.closed_forms import crossing_time, voltage_after, voltage_integrals
from neurosim.kernels._jit import compiled

Floats = npt.NDArray[np.float64]


@compiled
def _voltages(v: Floats, j: Floats, g: Floats, c: Floats, t: Floats, result: Floats) -> None:
    for k in range(result.size):
        result[k] = voltage_after(v[k], j[k], g[k], c[k], t[k])


@compiled
def _crossings(v: Floats, level: Floats, j: Floats, g: Floats, c: Floats, result: Floats) -> None:
    for k in range(result.size):
        gap = level[k] - v[k]
        left = j[k] - g[k] * level[k]
        if gap == 0.0:
            result[k] = 0.0
        elif gap * left <= 0.0:
            result[k] = np.inf
        else:
            result[k] = crossing_time(abs(gap), abs(left), g[k], c[k])


@compiled
def _integrals(
    v: Floats,
    u: Floats,
    j: Floats,
    g: Floats,
    c: Floats,
    t: Floats,
    first: Floats,
    second: Floats,
) -> None:
    for k in range(first.size):
        first[k], second[k] = voltage_integrals(v[k], u[k], j[k], g[k], c[k], t[k])


def _flat(*values: npt.ArrayLike) -> tuple[tuple[int, ...], list[Floats]]:
    """Common shape, and each argument broadcast to it as a contiguous vector."""
    arrays = np.broadcast_arrays(*(np.asarray(value, dtype=np.float64) for value in values))
    return arrays[0].shape, [np.ascontiguousarray(array).ravel() for array in arrays]


def voltages_after(
    start: npt.ArrayLike,
    drive: npt.ArrayLike,
    conductance: npt.ArrayLike,
    capacitance: npt.ArrayLike,
    time: npt.ArrayLike,
) -> Floats:
    """V(t): start V (V), J at V = 0 (A), G (S), C (F), t (s), any broadcastable shapes."""
    shape, (v, j, g, c, t) = _flat(start, drive, conductance, capacitance, time)
    result = np.empty(v.size)
    _voltages(v, j, g, c, t, result)
    return result.reshape(shape)


def crossing_times(
    start: npt.ArrayLike,
    level: npt.ArrayLike,
    drive: npt.ArrayLike,
    conductance: npt.ArrayLike,
    capacitance: npt.ArrayLike,
) -> Floats:
    """Time from `start` to `level` (V), rising or falling, s; infinity where it is not reached."""
    shape, (v, u, j, g, c) = _flat(start, level, drive, conductance, capacitance)
    result = np.empty(v.size)
    _crossings(v, u, j, g, c, result)
    return result.reshape(shape)


def segment_integrals(
    start: npt.ArrayLike,
    end: npt.ArrayLike,
    drive: npt.ArrayLike,
    conductance: npt.ArrayLike,
    capacitance: npt.ArrayLike,
    time: npt.ArrayLike,
) -> tuple[Floats, Floats]:
    """(J1, J2), V s and V^2 s, of segments from `start` to `end` V over `time` s."""
    shape, (v, e, j, g, c, t) = _flat(start, end, drive, conductance, capacitance, time)
    first, second = np.empty(v.size), np.empty(v.size)
    _integrals(v, e, j, g, c, t, first, second)
    return first.reshape(shape), second.reshape(shape)
