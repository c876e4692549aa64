"""Pulse trains out of a `pulse` table: edges from the voltage, the fire from the current (8.2)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neurosim.devices.calibration.files import Table, groups

Floats = npt.NDArray[np.float64]
CONTRAST = 100.0  # ON over first OFF conductance: leak creep alone gives about 10


@dataclass(frozen=True)
class Train:
    """One measured train: amplitude (V), pulse width and gap (s).

    fired: whether it did. pulses: number (from 1) of the pulse that fired, or of the last pulse.
    before, inside: times in that pulse of the last sample OFF and the first one ON, s; of a train
    that stayed silent both are the pulse's width. creep: pulse number, time in it (s) and i/v (S)
    of the samples OFF in pulses, (m, 3).
    """

    voltage: float
    width: float
    gap: float
    pulses: int
    before: float
    inside: float
    fired: bool
    creep: Floats


def _edges(
    time: Floats, high: npt.NDArray[np.bool_]
) -> tuple[Floats, Floats, npt.NDArray[np.intp]]:
    """(rising, falling) edges, s, midway between samples, and the first sample of each pulse.

    Gaps may be without samples: an edge is never further than half a step from its pulse.
    """
    first = np.flatnonzero(high & ~np.r_[False, high[:-1]])
    last = np.flatnonzero(high & ~np.r_[high[1:], False])
    step = float(np.median(np.diff(time[high]))) if high.sum() > 1 else 0.0
    left = time - np.r_[time[:1], time[:-1]]
    right = np.r_[time[1:], time[-1:] + step] - time
    rising = time[first] - 0.5 * np.minimum(left[first], step)
    falling = time[last] + 0.5 * np.minimum(right[last], step)
    return rising, falling, first


def extract_trains(table: Table) -> tuple[Train, ...]:
    """Trains of a `pulse` table (column `train`; else one), silent ones included.

    A pulse is where v exceeds half its largest value; the device has fired where i/v exceeds the
    geometric mean of the file's usual first value (OFF) and its largest one (ON).
    """
    parts = []
    for key, rows in groups(table, "train"):
        where = f"{table.path}, train {key[0]:g}" if key else str(table.path)
        time, volts, amps = (table[name][rows] for name in ("t_s", "v_V", "i_A"))
        if volts.max() <= 0.0 or amps.max() <= 0.0:
            raise ValueError(f"{where}: expected positive pulses and current; wrong sign?")
        high = volts > 0.5 * volts.max()
        parts.append((where, time, volts, high, np.where(high, amps / np.where(high, volts, 1), 0)))
    starts = [float(np.median(ratio[high][:3])) for _, _, _, high, ratio in parts]
    quiet = max(float(np.median(starts)), 1e-300)
    most = max(float(ratio.max()) for *_, ratio in parts)
    if most < CONTRAST * quiet:
        raise ValueError(
            f"{table.path}: expected a fire, ON conductance >= {CONTRAST:g} times OFF, got at most "
            f"{most / quiet:.3g} times; did no train fire?"
        )
    return tuple(
        _train(time, volts, high, ratio, ratio > math.sqrt(quiet * most))
        for _, time, volts, high, ratio in parts
    )


def _train(
    time: Floats,
    volts: Floats,
    high: npt.NDArray[np.bool_],
    ratio: Floats,
    on: npt.NDArray[np.bool_],
) -> Train:
    """One train from its samples: i/v, and `on` where it says ON."""
    rising, falling, first = _edges(time, high)
    count = rising.size
    widths = falling - rising
    # a recording may stop in its last pulse: that one does not tell the width
    width = float(np.median(widths[: max(1, count - 1)]))
    period = float(np.median(np.diff(rising))) if count > 1 else width
    hits = np.flatnonzero(on)
    hit = int(hits[0]) if hits.size else time.size
    off = np.flatnonzero(high[:hit])
    pulses = np.searchsorted(first, off, side="right")
    inside = time[off] - rising[pulses - 1] if off.size else time[:0]
    creep = np.column_stack([pulses, inside, ratio[off]])
    fired = hits.size > 0
    if not fired:
        pulse, before, until = count, width, width
    else:
        pulse = int(np.searchsorted(first, hit, side="right"))
        start = float(rising[pulse - 1])
        if hit > first[pulse - 1]:
            before, until = float(time[hit - 1]) - start, float(time[hit]) - start
        elif pulse > 1:  # ON when the pulse begins: it fired at the end of the one before
            pulse, before, until = pulse - 1, float(inside[-1]), width
        else:
            following = float(time[min(hit + 1, time.size - 1)])
            before, until = 0.0, max(following - start, 1e-3 * width)
    gap = max(period - width, 0.0)
    return Train(float(np.median(volts[high])), width, gap, pulse, before, until, fired, creep)
