"""The choice of an algorithm where only the number of active neurons is known."""

from __future__ import annotations

from neurosim.kernels.packed import PackedSpikes
from neurosim.kernels.spike_linear._cost import MEASURED, Work
from neurosim.kernels.spike_linear._run import far
from neurosim.kernels.spike_linear._weight import PackedWeight


def cheapest(
    spikes: PackedSpikes, active: int, weight: PackedWeight, among: tuple[str, ...]
) -> str:
    """As in `_cost`, from the neurons with a count other than 0; "pattern" takes more to know."""
    panels, rows = weight.panels.shape[0], spikes.rows
    sides = 1 + spikes.signed
    work = Work(
        rows,
        spikes.size,
        panels * weight.width,
        panels,
        active,
        0,
        sides * spikes.levels,
        sides * min(spikes.levels.bit_length(), len(spikes) // sides),
    )
    times = work.times(MEASURED[weight.bits, far(rows, weight)])
    return min(among, key=lambda algo: times[algo])
