"""From I-V sweeps to V_th, V_h, R_on and R_off of every cycle (device.md 8.2).

V_th is where the current first exceeds sqrt(I_off I_cc) on the way up, V_h where it falls below
it on the way down; both are taken in the middle of the step that crosses, so that a coarse sweep
is not biased, and the step's own variance is known (step^2 / 12).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neurosim.devices.calibration.files import Table, groups

Floats = npt.NDArray[np.float64]
LEAST_CYCLES = 10
_CLAMPED = 0.9  # of I_cc: above it the current is the instrument's, not the device's


@dataclass(frozen=True)
class Sweeps:
    """One entry per cycle, (n,): device number, V_th, V_h (V), R_on (ohm), G_off (S).

    `step`: voltage step of the sweeps at the switching points, V.
    """

    device: Floats
    threshold: Floats
    hold: Floats
    on_resistance: Floats
    off_conductance: Floats
    compliance: float
    step: float

    def per_device(self, values: Floats) -> list[Floats]:
        """`values` (n,) split by device, in cycle order."""
        return [values[self.device == number] for number in np.unique(self.device)]


def _one(
    where: str, voltage: Floats, current: Floats, compliance: float
) -> tuple[float, float, float, float, float]:
    """(V_th, V_h, R_on, G_off, step) of one sweep 0 -> V_max -> 0."""
    top = int(np.argmax(voltage))
    if voltage[top] <= 0.0:
        raise ValueError(
            f"{where}: no positive voltage; negate v and i, or calibrate that polarity by itself"
        )
    if top < 5 or voltage.size - top < 6:
        raise ValueError(f"{where}: expected a sweep up and down again, at least 5 points each way")
    up_v, up_i = voltage[: top + 1], current[: top + 1]
    down_v, down_i = voltage[top:], current[top:]
    if down_i[0] < 0.0:
        raise ValueError(
            f"{where}: the current is {down_i[0]:.3g} A at {down_v[0]:.3g} V; wrong sign of i_A"
        )
    leak = float(np.median(np.abs(up_i[: max(3, up_i.size // 5)])))
    level = float(np.sqrt(max(leak, 1e-18) * compliance))
    above = np.flatnonzero(up_i > level)
    if above.size == 0:
        raise ValueError(f"{where}: never exceeds {level:.3g} A, so it does not switch on")
    if above[0] == 0:
        raise ValueError(f"{where}: is on from the first point; the device had not relaxed")
    below = np.flatnonzero(down_i < level)
    if below.size == 0:
        raise ValueError(f"{where}: does not switch off again; sweep down to 0 V")
    first, last = int(above[0]), int(below[0])
    threshold = 0.5 * (up_v[first - 1] + up_v[first])
    hold = 0.5 * (down_v[last - 1] + down_v[last])
    free = (down_i[:last] < _CLAMPED * compliance) & (down_v[:last] > 0.0)
    if not free.any():
        raise ValueError(
            f"{where}: the current is at its compliance {compliance:.3g} A wherever the device "
            "is on, so R_on cannot be seen; raise the compliance"
        )
    on_v, on_i = down_v[:last][free], down_i[:last][free]
    quiet = slice(0, max(3, int(0.9 * first)))
    resistance = float(on_v @ on_v) / float(on_v @ on_i)
    off = float(up_v[quiet] @ up_i[quiet]) / float(up_v[quiet] @ up_v[quiet])
    return threshold, hold, resistance, off, float(up_v[first] - up_v[first - 1])


def extract_sweeps(table: Table) -> Sweeps:
    """All cycles of an `iv` table; too few cycles and a device that does not switch are errors."""
    compliance = float(table.metadata.get("compliance_A", table["i_A"].max()))
    if compliance <= 0.0:
        raise ValueError(f"{table.path}: no positive current; wrong sign of i_A")
    parts, devices = [], []
    for (device, cycle), rows in groups(table, "device", "cycle"):
        where = f"{table.path}, device {device:g}, cycle {cycle:g}"
        parts.append(_one(where, table["v_V"][rows], table["i_A"][rows], compliance))
        devices.append(device)
    values = np.array(parts)
    numbers = np.array(devices)
    counts = np.unique(numbers, return_counts=True)[1]
    if counts.min() < LEAST_CYCLES:
        raise ValueError(
            f"{table.path}: expected at least {LEAST_CYCLES} cycles of every device for a "
            f"deviation, got {counts.min()}"
        )
    step = float(np.median(values[:, 4]))
    threshold, hold, on, off = values[:, :4].T
    return Sweeps(numbers, threshold, hold, on, off, compliance, step)
