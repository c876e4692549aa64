"""The fused layer with Numba."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.kernels._aligned import aligned
from neurosim.kernels.packed import Events, PackedSpikes
from neurosim.kernels.spike_linear._run import classed
from neurosim.kernels.spike_linear_lif._gather import gather
from neurosim.kernels.spike_linear_lif._types import Found, Layer

_WORD = 64


def spike_linear_lif(layer: Layer) -> Found:
    """See the package."""
    weight, neuron = layer.weight, layer.neuron
    kind, rows, outputs = layer.state.dtype, layer.spikes.rows, weight.shape[1]
    padded = weight.panels.shape[0] * weight.width
    words = aligned((neuron.levels or 1, rows, padded // _WORD), np.uint64)
    state = aligned((layer.tokens, padded), kind)
    state[:, :outputs] = layer.state
    state[:, outputs:] = 0
    membrane = aligned((rows, padded) if layer.save else (0, 0), kind)
    pointer, channels = _lists(layer.spikes)
    gather(weight.bits, weight.width, int(layer.shift is not None))(
        pointer,
        channels,
        layer.spikes.levels,
        1 + layer.spikes.signed,
        weight.panels.reshape(weight.panels.shape[0], math.prod(weight.panels.shape[1:])),
        layer.after,
        _padded(layer.decay, padded, 0),
        _padded(layer.gain, padded, 0),
        _padded(layer.threshold, padded, 1),
        layer.shift or 0,
        neuron.levels or 0,
        neuron.reset == "hard",
        state,
        words,
        membrane,
    )
    width = -(-outputs // _WORD)
    if width < words.shape[2]:
        words = np.ascontiguousarray(words[..., :width])
    return words, state[:, :outputs], membrane[:, :outputs] if layer.save else None


def _padded(values: npt.NDArray[Any], size: int, fill: int) -> npt.NDArray[Any]:
    if values.size == size:
        return values
    return np.concatenate([values, np.full(size - values.size, fill, values.dtype)])


def _lists(spikes: PackedSpikes) -> Events:
    """Inputs of every row by their count: levels, with a sign -levels, levels - 1, and so on."""
    if not (spikes.rows and spikes.size):
        classes = spikes.levels * (1 + spikes.signed)
        return Events(np.zeros(spikes.rows * classes + 1, np.int64), np.zeros(0, np.uint16))
    return spikes.events if len(spikes) == 1 else classed(spikes)[0]
