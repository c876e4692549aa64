"""LIF neurons between events: advance, receive, predict, fire. Compiled; rows of `cells`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.devices.two_exponentials import kernel
from neurosim.events.calendar.layout import (
    CROSSING,
    E_POWER,
    E_RATE,
    EXCITATORY,
    I_POWER,
    I_RATE,
    INHIBITORY,
    LAST,
    RATE,
    READY,
    REFRACTORY,
    RESET,
    REST,
    THRESHOLD,
    VOLTAGE,
)
from neurosim.events.calendar.three_exponentials import first_crossing
from neurosim.kernels._jit import compiled

Floats = npt.NDArray[np.float64]


@compiled
def lif_receive(cells: Floats, n: Any, time: float, weight: float) -> None:
    """Delta input at `time`; lost in the refractory period, whose end is LAST after a spike."""
    if time < cells[n, LAST]:
        return
    rest = cells[n, REST]
    decay = math.exp((cells[n, LAST] - time) * cells[n, RATE])
    cells[n, VOLTAGE] = rest + (cells[n, VOLTAGE] - rest) * decay + weight
    cells[n, LAST] = time


@compiled
def lif_predict(cells: Floats, n: Any) -> None:
    """CROSSING from V at LAST: tau log1p((V_th - V) / (V_rest - V_th))."""
    gap, drive = cells[n, THRESHOLD] - cells[n, VOLTAGE], cells[n, REST] - cells[n, THRESHOLD]
    if gap <= 0.0:
        cells[n, CROSSING] = cells[n, LAST]
    elif drive > 0.0 and cells[n, RATE] > 0.0:
        cells[n, CROSSING] = cells[n, LAST] + math.log1p(gap / drive) / cells[n, RATE]
    else:
        cells[n, CROSSING] = math.inf


@compiled
def lif_fire(cells: Floats, n: Any) -> None:
    """Reset at CROSSING."""
    cells[n, LAST] = cells[n, CROSSING] + cells[n, REFRACTORY]
    cells[n, VOLTAGE] = cells[n, RESET]
    lif_predict(cells, n)


@compiled
def current_advance(cells: Floats, n: Any, time: float) -> None:
    """Move V and the currents to `time`; V is held until READY."""
    elapsed = min(time, cells[n, READY]) - cells[n, LAST]
    if elapsed > 0.0:
        cells[n, EXCITATORY] *= math.exp(-cells[n, E_RATE] * elapsed)
        cells[n, INHIBITORY] *= math.exp(-cells[n, I_RATE] * elapsed)
        cells[n, LAST] += elapsed
    elapsed = time - max(cells[n, LAST], cells[n, READY])
    if elapsed > 0.0:
        rate, rest = cells[n, RATE], cells[n, REST]
        e_rate, i_rate = cells[n, E_RATE], cells[n, I_RATE]
        voltage = rest + (cells[n, VOLTAGE] - rest) * math.exp(-rate * elapsed)
        voltage += cells[n, EXCITATORY] * rate * kernel(elapsed, rate, e_rate)
        voltage += cells[n, INHIBITORY] * rate * kernel(elapsed, rate, i_rate)
        cells[n, VOLTAGE] = voltage
        cells[n, EXCITATORY] *= math.exp(-e_rate * elapsed)
        cells[n, INHIBITORY] *= math.exp(-i_rate * elapsed)
    cells[n, LAST] = max(time, cells[n, LAST])


@compiled
def current_receive(cells: Floats, n: Any, time: float, receptor: int, weight: float) -> None:
    """Input at `time`, also in the refractory period."""
    current_advance(cells, n, time)
    cells[n, EXCITATORY if receptor == 0 else INHIBITORY] += weight


@compiled
def current_predict(cells: Floats, n: Any) -> None:
    """CROSSING from the state at LAST."""
    wait = max(cells[n, READY] - cells[n, LAST], 0.0)
    excitatory, inhibitory = cells[n, EXCITATORY], cells[n, INHIBITORY]
    if wait > 0.0:
        excitatory *= math.exp(-cells[n, E_RATE] * wait)
        inhibitory *= math.exp(-cells[n, I_RATE] * wait)
    cells[n, CROSSING] = max(cells[n, LAST], cells[n, READY]) + first_crossing(
        cells[n, THRESHOLD],
        cells[n, VOLTAGE],
        cells[n, REST],
        cells[n, RATE],
        excitatory,
        cells[n, E_RATE],
        cells[n, E_POWER],
        inhibitory,
        cells[n, I_RATE],
        cells[n, I_POWER],
    )


@compiled
def current_fire(cells: Floats, n: Any) -> None:
    """Reset at CROSSING; the currents go on."""
    time = cells[n, CROSSING]
    current_advance(cells, n, time)
    cells[n, VOLTAGE] = cells[n, RESET]
    cells[n, READY] = time + cells[n, REFRACTORY]
    current_predict(cells, n)
