"""Convolution of spikes in plain numpy: patches, then spike linear."""

from __future__ import annotations

import numpy as np

from neurosim.kernels.packed import PackedSpikes
from neurosim.kernels.spike_conv2d._geometry import Geometry
from neurosim.kernels.spike_linear import reference
from neurosim.kernels.spike_linear._types import Spikes, Sums
from neurosim.kernels.spike_linear._weight import PackedWeight


def patches(counts: Spikes, geometry: Geometry) -> Spikes:
    """What every output pixel sees of images (B, H, W, C): (B, H', W', kh kw C)."""
    (above, left), (height, width) = geometry.padding, geometry.output
    padded = np.pad(counts, ((0, 0), (above, above), (left, left), (0, 0)))
    seen = []
    for y in range(geometry.kernel[0]):
        for x in range(geometry.kernel[1]):
            shifted = padded[:, y * geometry.dilation[0] :, x * geometry.dilation[1] :]
            strided = shifted[:, :: geometry.stride[0], :: geometry.stride[1]]
            seen.append(strided[:, :height, :width])
    return np.concatenate(seen, axis=3)


def spike_conv2d(spikes: PackedSpikes, weight: PackedWeight, geometry: Geometry) -> Sums:
    """Sums (rows, O)."""
    counts = np.asarray(spikes.unpack(np.int8), np.int8)
    seen = patches(counts.reshape(geometry.images, *spikes.shape[-3:]), geometry)
    values = weight.unpack()
    rows = seen.reshape(geometry.rows, seen.shape[-1])
    return reference.spike_linear(rows, values if weight.integer else values.astype(np.float32))
