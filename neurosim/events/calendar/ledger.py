"""Energy of switch populations: exact integrals, read at any time without touching the state."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from neurosim.devices.closed_forms import voltage_integrals
from neurosim.events.calendar import layout as at
from neurosim.events.calendar.switch import voltage_at
from neurosim.kernels._jit import compiled

Floats = npt.NDArray[np.float64]
DELIVERED = ("packets", "current", "leak_source")
BURNT = ("device_on", "device_off", "output", "leak")


@compiled
def _integrals(
    cells: Floats, devices: Floats, first: int, last: int, time: float, result: Floats
) -> None:
    """Integrals of V and V^2, OFF and ON, and V at `time` of neurons first : last -> (N, 5)."""
    for n in range(first, last):
        m = int(cells[n, at.DEVICE])
        end = voltage_at(cells, devices, n, time)
        conducting = devices[m, at.PHASE] >= at.ON_PHASE
        one, two = voltage_integrals(
            cells[n, at.VOLTAGE],
            end,
            devices[m, at.DRIVE],
            devices[m, at.ON if conducting else at.OFF],
            devices[m, at.CAPACITANCE],
            time - cells[n, at.LAST],
        )
        row = n - first
        result[row, 0] = devices[m, at.OFF_1] + (0.0 if conducting else one)
        result[row, 1] = devices[m, at.OFF_2] + (0.0 if conducting else two)
        result[row, 2] = devices[m, at.ON_1] + (one if conducting else 0.0)
        result[row, 3] = devices[m, at.ON_2] + (two if conducting else 0.0)
        result[row, 4] = end


def energies(
    cells: Floats, devices: Floats, first: int, size: int, time: float
) -> dict[str, float]:
    """Mechanism -> J of the switches first : first + size up to `time` (s).

    Delivered: "packets", "current", "leak_source"; burnt: "device_on", "device_off", "output",
    "leak"; "stored" is the change of C V^2 / 2. Delivered = burnt + stored.
    """
    found = np.empty((size, 5))
    _integrals(cells, devices, first, first + size, time, found)
    rows = devices[int(cells[first, at.DEVICE]) :][:size]
    off_1, off_2, on_1, on_2, end = found.T
    on_square, off_square = rows[:, at.ON_BRANCH] ** 2, rows[:, at.OFF_BRANCH] ** 2
    output, leak, rest = rows[:, at.OUTPUT], rows[:, at.LEAK], rows[:, at.LEAK_VOLTAGE]
    first_sum, second_sum = off_1 + on_1, off_2 + on_2
    start, capacitance = rows[:, at.START], rows[:, at.CAPACITANCE]
    parts = {
        "packets": rows[:, at.PACKETS],
        "current": rows[:, at.CURRENT] * first_sum,
        "leak_source": leak * rest * (rest * time - first_sum),
        "device_on": (rows[:, at.ON_BRANCH] - output) / on_square * on_2,
        "device_off": (rows[:, at.OFF_BRANCH] - output) / off_square * off_2,
        "output": output * (on_2 / on_square + off_2 / off_square),
        "leak": leak * (second_sum - 2.0 * rest * first_sum + rest * rest * time),
        "stored": 0.5 * capacitance * (end - start) * (end + start),
    }
    return {name: float(np.sum(value)) for name, value in parts.items()}
