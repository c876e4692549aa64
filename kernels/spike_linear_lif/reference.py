"""The fused layer in plain numpy: spike linear, then the neuron."""

from __future__ import annotations

from typing import Any

import numpy as np

from neurosim.kernels.lif_scan import reference as lif
from neurosim.kernels.packed import pack
from neurosim.kernels.spike_linear import reference as linear
from neurosim.kernels.spike_linear_lif._types import Found, Layer


def spike_linear_lif(layer: Layer) -> Found:
    """See the package."""
    counts = np.asarray(layer.spikes.unpack()).reshape(layer.spikes.rows, layer.spikes.size)
    weight = layer.weight.unpack()
    weight = weight if layer.weight.integer else weight.astype(np.float32)
    rows = layer.rows()
    x: Any = linear.spike_linear(counts, weight)[rows]  # (T, R, O)
    edge: Any = layer.threshold
    start: Any = layer.state
    spikes: Any
    if layer.shift is None:
        spikes, state, membrane = lif.scan(
            x.astype(np.float32), layer.decay, layer.gain, edge, layer.neuron, start, False, True
        )
    else:
        spikes, state, membrane = _integer_scan(layer, layer.shift, x)
    ordered = np.empty((layer.spikes.rows, x.shape[2]), np.int8)
    ordered[rows] = spikes
    kept: Any = np.empty((layer.spikes.rows, x.shape[2]), layer.state.dtype)
    kept[rows] = membrane
    words = pack(ordered, layer.neuron.levels or 1, backend="reference").words
    return words, state, kept if layer.save else None


def _integer_scan(layer: Layer, shift: int, x: Any) -> tuple[Any, Any, Any]:
    """Spikes (T, R, O), last state (R, O) and membranes (T, R, O), in int64."""
    spikes, membrane = np.empty(x.shape, np.int8), np.empty(x.shape, np.int64)
    v = layer.state.astype(np.int64)
    for t in range(len(x)):
        u = (v >> shift) + x[t]
        fired = u >= layer.threshold
        v = np.where(fired, 0 if layer.neuron.reset == "hard" else u - layer.threshold, u)
        spikes[t], membrane[t] = fired, u
    return spikes, v.astype(np.int32), membrane
