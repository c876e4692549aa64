"""What a bank of neurons computes before and instead of its membranes, compiled."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.devices.counter_random import stream_key
from neurosim.devices.neuron_window import draw_pair
from neurosim.kernels._jit import compiled

_DEVICE_STREAMS = np.uint64(0xD2D0D2D0D2D0D2D0)  # keeps device draws apart from cycle draws
_TIE = 2.0**-10  # weight units: sums are integers, so ties round up as in software


@compiled
def exact_counts(
    charge: npt.NDArray[Any],
    bias: npt.NDArray[np.int64],
    half: npt.NDArray[np.int64],
    levels: int,
    signed: bool,
    spikes: npt.NDArray[np.int8],
) -> int:
    """n = clip(floor((a + b + h) / 2h)), by comparing with (2k - 1) h; returns sum |n|.

    charge a, bias b, half h: (N,), weight units. spikes: result (N,).
    """
    total = 0
    for i in range(charge.size):
        value = charge[i] + bias[i]
        size = abs(value) if signed else value
        count = 0
        while count < levels and size >= (2 * count + 1) * half[i]:
            count += 1
        total += count
        spikes[i] = -count if signed and value < 0 else count
    return total


@compiled
def exact_times(
    charge: npt.NDArray[Any],
    bias: npt.NDArray[np.int64],
    half: npt.NDArray[np.int64],
    spikes: npt.NDArray[np.int8],
    window: float,
    times: npt.NDArray[np.float64],
) -> None:
    """A constant current crosses the k-th threshold at (2k - 1) h / |a + b| of the window."""
    for i in range(charge.size):
        size = abs(float(charge[i] + bias[i]))
        for k in range(abs(int(spikes[i]))):
            times[i, k] = window * ((2 * k + 1) * half[i] / size)


@compiled
def packets(
    charge: npt.NDArray[Any],
    bias: npt.NDArray[np.int64],
    gain: npt.NDArray[np.floating],
    limit: float,
    signed: bool,
    trim: npt.NDArray[np.float64],
    packet: npt.NDArray[np.float64],
) -> float:
    """Net charges in coulomb -> `packet`; returns the charge that reaches membranes.

    `trim` (2, neurons): each neuron's factor on its packets and the charge added to them, coulomb.
    """
    total = 0.0
    per_channel = 2 if signed else 1
    for i in range(charge.size):
        value = float(charge[i] + bias[i])
        value += _TIE if value > 0.0 else (-_TIE if value < 0.0 else 0.0)
        value = min(max(value * gain[i], -limit), limit)
        if value > 0.0:
            neuron = i * per_channel
            value = max(value * trim[0, neuron] + trim[1, neuron], 0.0)
        elif signed and value < 0.0:
            neuron = i * per_channel + 1
            value = -max(-value * trim[0, neuron] + trim[1, neuron], 0.0)
        packet[i] = value
        total += abs(value) if signed else max(value, 0.0)
    return total


@compiled
def draw_devices(
    threshold: npt.NDArray[np.float64],
    hold: npt.NDArray[np.float64],
    spread_threshold: float,
    spread_hold: float,
    seed: np.uint64,
    neuron_offset: int,
) -> None:
    """Replace the nominal V_th and V_h by each device's own (D2D)."""
    for i in range(threshold.size):
        key = stream_key(seed ^ _DEVICE_STREAMS, np.uint64(neuron_offset + i))
        threshold[i], hold[i] = draw_pair(
            threshold[i], hold[i], spread_threshold, spread_hold, key, np.uint64(0)
        )
