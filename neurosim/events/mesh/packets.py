"""From the spikes of a window to packets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from neurosim.chip.mesh import Packets
from neurosim.events.mesh.plan import BankTraffic
from neurosim.kernels._jit import compiled

Floats = npt.NDArray[np.float64]
Longs = npt.NDArray[np.int64]


@compiled
def _spread(spikes: npt.NDArray[np.int8], times: Floats, time: Floats, channel: Longs) -> None:
    """One packet per spike, at its time."""
    place = 0
    for i in range(spikes.size):
        for k in range(abs(np.int64(spikes[i]))):
            time[place] = times[i, k]
            channel[place] = i
            place += 1


def spike_packets(
    bank: BankTraffic,
    spikes: npt.NDArray[np.int8],
    times: Floats,
    total: int,
    window: float,
    counted: bool,
) -> Packets:
    """Packets of a bank's window: one per spike at its time, or one per channel at the end.

    Args:
        bank: how they travel.
        spikes, times: (N,) signed counts; (N, levels) crossing times, s.
        total: sum of |spikes|.
        window: s. counted: one packet carries all spikes of a channel.
    """
    if counted:
        channel = np.flatnonzero(spikes)
        time = np.full(channel.size, window)
    else:
        time, channel = np.empty(total), np.empty(total, np.int64)
        _spread(spikes, times, time, channel)
    zeros = np.zeros(channel.size, np.int64)
    bits = np.full(channel.size, float(bank.bits))
    return Packets(time, bank.source + channel, bank.route[channel], bits, zeros)


def joined(parts: Sequence[Packets]) -> Packets:
    """One list of packets after the other."""
    if len(parts) == 1:
        return parts[0]
    return Packets(
        np.concatenate([part.time for part in parts]),
        np.concatenate([part.source for part in parts]),
        np.concatenate([part.route for part in parts]),
        np.concatenate([part.bits for part in parts]),
        np.concatenate([part.gate for part in parts]),
    )
