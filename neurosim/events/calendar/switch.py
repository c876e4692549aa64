"""Threshold-switching neurons between events (device.md 3.11), in closed forms.

Phases: OFF until V rises to V_u; SETTING for the set delay, still with the OFF law; ON until V
falls to V_d; RESETTING for the reset delay, with the ON law. The spike is emitted when the device
turns ON; if V is not above V_d by then, it does not, and the next cycle begins (as in
`devices.neuron_window`). Packets change V in every phase. A drive that holds V above V_d locks the
device ON until charge is taken away. Compiled; rows of `cells` and `devices`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.devices.closed_forms import crossing_time, voltage_after, voltage_integrals
from neurosim.devices.thresholds import draw_cycle
from neurosim.events.calendar.layout import (
    CAPACITANCE,
    CROSSING,
    CYCLE,
    DEVICE,
    DOWN,
    DRIVE,
    LAST,
    LATENT,
    LATENT_END,
    LOWER,
    MEANS,
    MEANS_END,
    OFF,
    OFF_1,
    OFF_2,
    OFF_PHASE,
    ON,
    ON_1,
    ON_2,
    ON_PHASE,
    PACKETS,
    PHASE,
    RESET_DELAY,
    RESETTING,
    SET_DELAY,
    SETTING,
    SPREADS,
    SPREADS_END,
    UP,
    UPPER,
    VOLTAGE,
    WAIT,
)
from neurosim.kernels._jit import compiled

Floats = npt.NDArray[np.float64]
Keys = npt.NDArray[np.uint64]


@compiled
def arm(devices: Floats, keys: Keys, m: int) -> None:
    """Draw the thresholds of the cycle the device is in."""
    row = devices[m]
    spreads = row[SPREADS:SPREADS_END]
    threshold, hold = row[MEANS], row[MEANS + 1]
    if spreads[0] != 0.0 or spreads[1] != 0.0 or spreads[2] != 0.0 or spreads[3] != 0.0:
        threshold, hold = draw_cycle(
            row[MEANS:MEANS_END], spreads, row[LATENT:LATENT_END], keys[m], np.uint64(row[CYCLE])
        )
    row[UPPER], row[LOWER] = threshold * row[UP], hold * row[DOWN]


@compiled
def _follow(cells: Floats, devices: Floats, n: Any, time: float, end: float) -> None:
    """Move to `time`, where V is `end`, and add the segment's integrals."""
    m = int(cells[n, DEVICE])
    elapsed = time - cells[n, LAST]
    if elapsed > 0.0:
        conducting = devices[m, PHASE] >= ON_PHASE
        first, second = voltage_integrals(
            cells[n, VOLTAGE],
            end,
            devices[m, DRIVE],
            devices[m, ON if conducting else OFF],
            devices[m, CAPACITANCE],
            elapsed,
        )
        devices[m, ON_1 if conducting else OFF_1] += first
        devices[m, ON_2 if conducting else OFF_2] += second
    cells[n, LAST], cells[n, VOLTAGE] = time, end


@compiled
def voltage_at(cells: Floats, devices: Floats, n: Any, time: float) -> float:
    """V at `time`, without an event since LAST."""
    m = int(cells[n, DEVICE])
    conductance = devices[m, ON if devices[m, PHASE] >= ON_PHASE else OFF]
    elapsed = time - cells[n, LAST]
    return voltage_after(
        cells[n, VOLTAGE], devices[m, DRIVE], conductance, devices[m, CAPACITANCE], elapsed
    )


@compiled
def switch_receive(cells: Floats, devices: Floats, n: Any, time: float, charge: float) -> None:
    """A packet at `time`: V += q / C, delivering q (V + q / (2 C))."""
    _follow(cells, devices, n, time, voltage_at(cells, devices, n, time))
    m = int(cells[n, DEVICE])
    rise = charge / devices[m, CAPACITANCE]
    devices[m, PACKETS] += charge * (cells[n, VOLTAGE] + 0.5 * rise)
    cells[n, VOLTAGE] += rise


@compiled
def switch_predict(cells: Floats, devices: Floats, n: Any) -> None:
    """CROSSING: the end of the phase, infinity in lock-up or below rheobase."""
    m = int(cells[n, DEVICE])
    phase = devices[m, PHASE]
    if phase in (SETTING, RESETTING):
        cells[n, CROSSING] = devices[m, WAIT]
        return
    conducting = phase == ON_PHASE
    conductance, drive = devices[m, ON if conducting else OFF], devices[m, DRIVE]
    if conducting:
        gap = cells[n, VOLTAGE] - devices[m, LOWER]
        spare = conductance * devices[m, LOWER] - drive
    else:
        gap = devices[m, UPPER] - cells[n, VOLTAGE]
        spare = drive - conductance * devices[m, UPPER]
    if gap <= 0.0:
        cells[n, CROSSING] = cells[n, LAST]
    elif spare > 0.0:
        time = crossing_time(gap, spare, conductance, devices[m, CAPACITANCE])
        cells[n, CROSSING] = cells[n, LAST] + time
    else:
        cells[n, CROSSING] = math.inf


@compiled
def _turn_off(devices: Floats, keys: Keys, m: int) -> None:
    devices[m, PHASE] = OFF_PHASE
    devices[m, CYCLE] += 1.0
    arm(devices, keys, m)


@compiled
def switch_step(cells: Floats, devices: Floats, keys: Keys, n: Any) -> bool:
    """End the phase at CROSSING; whether a spike is emitted."""
    m = int(cells[n, DEVICE])
    time, phase = cells[n, CROSSING], devices[m, PHASE]
    fires = False
    if phase == OFF_PHASE:
        _follow(cells, devices, n, time, max(cells[n, VOLTAGE], devices[m, UPPER]))
        fires = devices[m, SET_DELAY] == 0.0
        devices[m, PHASE] = ON_PHASE if fires else SETTING
        devices[m, WAIT] = time + devices[m, SET_DELAY]
    elif phase == ON_PHASE:
        _follow(cells, devices, n, time, min(cells[n, VOLTAGE], devices[m, LOWER]))
        if devices[m, RESET_DELAY] > 0.0:
            devices[m, PHASE] = RESETTING
            devices[m, WAIT] = time + devices[m, RESET_DELAY]
        else:
            _turn_off(devices, keys, m)
    else:
        _follow(cells, devices, n, time, voltage_at(cells, devices, n, time))
        if phase == SETTING and cells[n, VOLTAGE] > devices[m, LOWER]:
            fires = True
            devices[m, PHASE] = ON_PHASE
        else:
            _turn_off(devices, keys, m)
    switch_predict(cells, devices, n)
    return fires
