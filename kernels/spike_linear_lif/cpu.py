"""The fused layer with Numba."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.kernels._aligned import aligned
from neurosim.kernels._dispatch import announce
from neurosim.kernels.packed import Events, PackedSpikes, pack
from neurosim.kernels.packed import cpu as packed
from neurosim.kernels.spike_linear import _lut
from neurosim.kernels.spike_linear._cost import cheapest
from neurosim.kernels.spike_linear._run import SUMS, classed, far
from neurosim.kernels.spike_linear_lif._gather import gather
from neurosim.kernels.spike_linear_lif._scan import scan
from neurosim.kernels.spike_linear_lif._types import Found, Layer

ALGORITHMS = ("gather", "lut")
_WORD = 64


def spike_linear_lif(layer: Layer) -> Found:
    """See the package."""
    return layer_by("gather", layer)


def layer_by(algo: str, layer: Layer) -> Found:
    """By one algorithm; "auto" takes the one whose sums should be the fastest."""
    weight, neuron = layer.weight, layer.neuron
    if algo == "auto":
        algo = cheapest(layer.spikes, weight, ALGORITHMS, _active(layer.spikes))
        announce(f"spike_linear_lif of {weight.bits}-bit weights", f"{algo}, by predicted cost")
    kind, rows, outputs = layer.state.dtype, layer.spikes.rows, weight.shape[1]
    padded = weight.panels.shape[0] * weight.width
    words = aligned((neuron.levels or 1, rows, padded // _WORD), np.uint64)
    state = aligned((layer.tokens, padded), kind)
    start, apart = _start(layer, padded)
    membrane = aligned((rows, padded) if layer.save else (0, 0), kind)
    rest = (
        _padded(layer.decay, padded, 0),
        _padded(layer.gain, padded, 0),
        _padded(layer.threshold, padded, 1),
        layer.shift or 0,
        neuron.levels or 0,
        neuron.reset == "hard",
        start,
        apart,
        state,
        words,
        membrane,
    )
    if rows and outputs:
        (_look_up if algo == "lut" else _gather)(layer, rest)
    else:
        state[:, :outputs] = layer.state
    width = -(-outputs // _WORD)
    if width < words.shape[2]:
        words = np.ascontiguousarray(words[..., :width])
    return words, state[:, :outputs], membrane[:, :outputs] if layer.save else None


def _active(spikes: PackedSpikes) -> int:
    """Neurons with a count other than 0."""
    if len(spikes) == 1:
        return packed.total(spikes.words[0])
    return round(spikes.density * spikes.rows * spikes.size)


def _start(layer: Layer, columns: int) -> tuple[npt.NDArray[Any], int]:
    """The first states, flat, and how far those of tokens are apart: 0 where one serves all."""
    if layer.state.strides[0] == 0:
        return _padded(layer.state[:1].flatten(), columns, 0), 0
    missing = columns - layer.state.shape[1]
    state = np.pad(layer.state, ((0, 0), (0, missing))) if missing else layer.state
    return state.reshape(state.size), columns


def _padded(values: npt.NDArray[Any], size: int, fill: int) -> npt.NDArray[Any]:
    if values.size == size:
        return values
    return np.concatenate([values, np.full(size - values.size, fill, values.dtype)])


def _gather(layer: Layer, rest: tuple[Any, ...]) -> None:
    spikes, weight = layer.spikes, layer.weight
    flags = far(spikes.rows, weight), layer.shift is not None, len(spikes) == 1
    kernel = gather(weight.bits, weight.width, *(int(flag) for flag in flags))
    lists = (*_lists(spikes), spikes.levels, 1 + spikes.signed)
    kernel(*lists, _rows(layer), layer.after, *rest)


def _lists(spikes: PackedSpikes) -> Events:
    """Inputs of every row by their count: levels, with a sign -levels, levels - 1, and so on."""
    if not spikes.size:
        classes = spikes.levels * (1 + spikes.signed)
        return Events(np.zeros(spikes.rows * classes + 1, np.int64), np.zeros(0, np.uint16))
    return spikes.events if len(spikes) == 1 else classed(spikes)[0]


def _rows(layer: Layer) -> npt.NDArray[Any]:
    panels = layer.weight.panels
    return panels.reshape(panels.shape[0], math.prod(panels.shape[1:]))


def _look_up(layer: Layer, rest: tuple[Any, ...]) -> None:
    """The sums of about 1,024 rows and one panel at a time, in scratch; then their neurons."""
    weight, steps = layer.weight, layer.steps
    spikes = _by_token(layer)
    panels, some = _rows(layer), max(1, _lut.ROWS // steps)
    nibbles, lanes = weight.bits == 4, _lut.lanes_of(weight.bits, weight.width)
    add = _lut.lut_nibbles(weight.width) if nibbles else _lut.lut(weight.bits, weight.width)
    fire = scan(weight.width, int(layer.shift is not None))
    most = min(some, layer.tokens) * steps
    table = aligned((16 * _lut.GROUPS * lanes,), SUMS[weight.bits])
    partial = aligned((min(most, _lut.ROWS) * lanes * (1 + nibbles),), SUMS[weight.bits])
    sums = aligned((most * weight.width,), np.int32 if weight.integer else np.float32)
    if not spikes.size:
        sums[:] = 0
    for start in range(0, layer.tokens, some):
        stop = min(start + some, layer.tokens)
        piece = (weight.width, 0, 1, 0, (stop - start) * steps)
        for number in range(panels.shape[0]):
            panel = panels[number : number + 1]
            for plane, factor in enumerate(spikes.plane_weights):
                words = spikes.words[plane, start * steps : stop * steps]
                add(words, factor, plane == 0, spikes.size, panel, table, partial, sums, *piece)
            fire(sums, start, stop, number * weight.width, layer.after, *rest)


def _by_token(layer: Layer) -> PackedSpikes:
    """Spikes whose rows are the steps of a token, then those of the next; few planes."""
    spikes = layer.spikes
    if spikes.code == "thermometer" and spikes.levels > 2:
        spikes = pack(spikes.unpack(), spikes.levels, spikes.signed, "bits")
    shape = (layer.tokens, layer.steps, spikes.size)
    words = spikes.words
    if layer.after > 1:
        before = len(spikes) * layer.tokens // layer.after
        blocks = words.reshape(before, layer.steps, layer.after, words.shape[2])
        words = packed.swapped(blocks).reshape(words.shape)
    return PackedSpikes.trusted(words, shape, spikes.levels, spikes.signed, spikes.code)
