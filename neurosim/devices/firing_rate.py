"""Firing rate against drive for arrays of devices and currents (device.md 3.2).

T = tau_off ln[(V_off* - V_d)/(V_off* - V_u)] + tau_on ln[(V_u - V_on*)/(V_d - V_on*)] + t_d + T_ref
f = 1/T for I_rh < I < I_lock, else 0. The delays of the devices are phases of their own here, as
in `ThresholdSwitch.period`; T_ref is added.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields

import numpy as np
import numpy.typing as npt

from neurosim.devices.closed_forms import crossing_time, voltage_after
from neurosim.devices.threshold_switch import ThresholdSwitch
from neurosim.kernels._jit import compiled

Floats = npt.NDArray[np.float64]


@compiled
def period_of(
    capacitance: float,
    upper: float,
    lower: float,
    off: float,
    on: float,
    drive: float,
    set_delay: float,
    reset_delay: float,
) -> float:
    """Period, s, from V_u, V_d (V), G_off, G_on (S) and J, the current at V = 0 (A).

    Infinity at and below rheobase; -1 in lock-up.
    """
    climb = drive - off * upper
    fall = on * lower - drive
    if climb <= 0.0:
        return math.inf
    if fall <= 0.0:
        return -1.0
    peak = upper
    landing = lower
    if set_delay > 0.0:
        peak = voltage_after(upper, drive, off, capacitance, set_delay)
    if reset_delay > 0.0:
        landing = voltage_after(lower, drive, on, capacitance, reset_delay)
    time = crossing_time(upper - landing, climb, off, capacitance) + set_delay
    return time + crossing_time(peak - lower, fall, on, capacitance) + reset_delay


@compiled
def _rates(parameters: Floats, currents: Floats, refractory: float, rates: Floats) -> None:
    for n in range(parameters.shape[0]):
        p = parameters[n]
        row = currents[n if currents.shape[0] > 1 else 0]
        result = rates[n]
        off = p[6] + 1.0 / (p[2] + p[5])
        on = p[6] + 1.0 / (p[1] + p[5])
        upper = p[3] * (1.0 + p[5] / p[2])
        lower = p[4] * (1.0 + p[5] / p[1])
        pull = p[6] * p[7]
        for k in range(row.size):
            period = period_of(p[0], upper, lower, off, on, row[k] + pull, p[8], p[9])
            fires = 0.0 < period < math.inf
            result[k] = 1.0 / (period + refractory) if fires else 0.0


def device_rows(switches: Sequence[ThresholdSwitch]) -> Floats:
    """(N, 10): the fields of `ThresholdSwitch` in their order, SI units."""
    return np.array([[getattr(s, f.name) for f in fields(s)] for s in switches], dtype=np.float64)


def firing_rates(
    devices: ThresholdSwitch | Sequence[ThresholdSwitch] | Floats,
    currents: npt.ArrayLike,
    refractory: float = 0.0,
) -> Floats:
    """Sustained rates, Hz, (N, K), of N devices under K constant currents.

    Args:
        devices: a device, a sequence, or rows as of `device_rows`, (N, 10).
        currents: A, (K,) for every device or (N, K).
        refractory: T_ref added to every period, s.
    """
    if isinstance(devices, ThresholdSwitch):
        devices = [devices]
    rows = devices if isinstance(devices, np.ndarray) else device_rows(devices)
    amperes = np.ascontiguousarray(np.atleast_2d(np.asarray(currents, dtype=np.float64)))
    if rows.ndim != 2 or rows.shape[1] != 10:
        raise ValueError(f"expected device rows (N, 10), got {rows.shape}; see device_rows")
    if amperes.shape[0] not in (1, len(rows)):
        raise ValueError(f"expected currents (K,) or ({len(rows)}, K), got {amperes.shape}")
    if not (np.isfinite(amperes).all() and 0.0 <= refractory < math.inf):
        raise ValueError("expected finite currents and refractory >= 0 s")
    rates = np.empty((len(rows), amperes.shape[1]))
    _rates(np.ascontiguousarray(rows, dtype=np.float64), amperes, refractory, rates)
    return rates
