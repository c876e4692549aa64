"""Counting the spikes of one site and window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.kernels._jit import compiled


@dataclass
class Tally:
    """Spikes of one bank in the window that was run last.

    Attributes:
        sizes: |n| of every channel, float64 (N,); overwritten by the next window.
        total: sum |n|.
        active: channels that fired.
    """

    sizes: npt.NDArray[np.float64]
    total: int = 0
    active: int = 0

    def count(self, spikes: npt.NDArray[np.int8], hops: npt.NDArray[np.int64], once: bool) -> int:
        """Count a window's spikes (N,); returns packet-hops: sum of hops times packets.

        `hops` (N,): links that a packet of each channel uses; `once`: one packet carries all
        spikes of a channel.
        """
        self.total, self.active, weighted = _count(spikes, hops, once, self.sizes)
        return int(weighted)

    def over(self, spikes: npt.NDArray[np.int8], each: npt.NDArray[np.int64], once: bool) -> int:
        """Sum over the counted window's packets of `each` (N,): one per channel, or per spike."""
        packets = spikes != 0 if once else np.abs(spikes.astype(np.int64))
        return int(np.dot(packets.astype(np.int64), each))

    def weighted(self, fan_out: npt.NDArray[np.float64]) -> float:
        """sum |n| fan_out of the channels (N,)."""
        return float(np.dot(self.sizes, fan_out))


@compiled
def _count(spikes: Any, hops: Any, once: bool, sizes: Any) -> Any:
    total, active, weighted = np.int64(0), np.int64(0), np.int64(0)
    for i in range(spikes.size):
        size = abs(np.int64(spikes[i]))  # widened first: -(-128) is no int8
        sizes[i] = size
        if size > 0:
            total += size
            active += 1
            weighted += hops[i] if once else size * hops[i]
    return total, active, weighted
