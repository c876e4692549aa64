"""Convolution of spikes with Numba: bit-im2col, then a product of `spike_linear`."""

from __future__ import annotations

import numpy as np

from neurosim.kernels._aligned import aligned
from neurosim.kernels._dispatch import announce
from neurosim.kernels.packed import PackedSpikes
from neurosim.kernels.spike_conv2d._columns import Columns
from neurosim.kernels.spike_conv2d._geometry import Geometry
from neurosim.kernels.spike_linear._cost import cheapest
from neurosim.kernels.spike_linear._gather import gather
from neurosim.kernels.spike_linear._run import run, spread_rows
from neurosim.kernels.spike_linear._types import Sums
from neurosim.kernels.spike_linear._weight import PackedWeight

ALGORITHMS = ("gather", "lut", "dense")  # four neighbouring pixels are not four steps of one


def spike_conv2d(spikes: PackedSpikes, weight: PackedWeight, geometry: Geometry) -> Sums:
    """Sums (rows, O)."""
    return product(spikes, weight, geometry, "gather", 1)


def product(
    spikes: PackedSpikes, weight: PackedWeight, geometry: Geometry, algo: str, threads: int
) -> Sums:
    """Sums (rows, O) by one algorithm; "auto" takes the one that should be the fastest."""
    return sums_of(Columns(spikes, geometry), weight, algo, threads)


def sums_of(columns: Columns, weight: PackedWeight, algo: str, threads: int) -> Sums:
    """The same of neighbourhoods."""
    if algo == "auto":
        active = round(columns.density * columns.rows * columns.size)
        algo = cheapest(columns, weight, ALGORITHMS, active)
        announce(f"spike_conv2d of {weight.bits}-bit weights", f"{algo}, by predicted cost")
    if algo == "gather" and len(columns) == 1:
        return _gathered(columns, weight, threads)
    return run(algo, columns, weight, threads)


def _gathered(columns: Columns, weight: PackedWeight, threads: int) -> Sums:
    """From the lists alone: words of the columns are never made."""
    panels, outputs = weight.panels.shape[0], weight.shape[1]
    padded, kind = panels * weight.width, np.int32 if weight.integer else np.float32
    out = aligned((columns.rows, padded), kind)
    rows = weight.panels.reshape(panels, weight.shape[0] * weight.panels.shape[2])
    pointer, channels = columns.events
    fill = gather(weight.bits, weight.width, 0)

    def piece(first: int, last: int) -> None:
        fill(pointer, channels, rows, out.reshape(-1), padded, 0, panels, first, last)

    spread_rows(piece, columns.rows, threads)
    return out if padded == outputs else np.ascontiguousarray(out[:, :outputs])
