"""Both passes of `trainable_stack`, and what the first leaves for the second."""

from __future__ import annotations

from typing import Any, NamedTuple

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from neurosim.kernels._aligned import aligned
from neurosim.kernels._training import values
from neurosim.kernels.grad_weight import cpu as learning
from neurosim.kernels.lif_scan import Neuron
from neurosim.kernels.lif_scan import cpu as lif
from neurosim.kernels.lif_scan._vectors import LANES
from neurosim.kernels.packed import PackedSpikes, pack
from neurosim.kernels.spike_linear import PackedWeight
from neurosim.kernels.spike_linear import cpu as linear
from neurosim.kernels.spike_linear._training import Floats, Left, rows_of
from neurosim.kernels.spike_linear._training_layer import few_slopes
from neurosim.kernels.spike_linear_lif import cpu as fused
from neurosim.kernels.spike_linear_lif._types import Layer

NAME = "trainable_stack"
_LARGEST = 127


class LayerScales(NamedTuple):
    """Of the neurons of one layer."""

    decay: float
    gain: float
    threshold: float
    neuron: Neuron


class _Kept(NamedTuple):
    """What the forward pass of a layer leaves for the backward pass."""

    spikes: PackedSpikes  # that came in, (T R, I)
    membrane: Floats  # u, (T, R, O)
    scales: tuple[Floats, Floats, Floats]  # decay, gain, threshold (O,)


def packed(spikes: PackedSpikes | npt.NDArray[Any]) -> PackedSpikes:
    """Counts as bits, in the fewest levels that hold them; that binary ones are, one pass tells."""
    if isinstance(spikes, PackedSpikes):
        return spikes
    try:
        return pack(spikes, time_axis=0)
    except ValueError:
        pass
    low, high = (float(limit(spikes, initial=0)) for limit in (np.min, np.max))
    if not max(-low, high) <= _LARGEST:
        raise ValueError(f"{NAME}: expected counts -127..127, got {low}..{high}")
    return pack(spikes, max(1, int(-low), int(high)), low < 0, time_axis=0)


class Stack:
    """One call; its primals are the weights, the readout if any, the spikes unless data."""

    def __init__(
        self,
        layers: list[LayerScales],
        reads: bool,
        steps: int,
        rows: int,
        data: PackedSpikes | None,
    ) -> None:
        self._layers, self._reads, self._data = layers, reads, data
        self._steps, self._rows = steps, rows
        self._kept: list[_Kept] = []
        self._last: list[PackedSpikes] = []

    def forward(self, *arrays: mx.array) -> tuple[mx.array]:
        """Readout (R, C) or spikes (T R, O)."""
        found = [values(NAME, array) for array in arrays]
        spikes = _flat(self._data if self._data is not None else packed(found[-1]))
        kept = []
        for part, weight in zip(self._layers, found, strict=False):
            shape = (self._rows, weight.shape[1])
            decay, gain, threshold = (np.full(shape[1], x, np.float32) for x in part[:3])
            layer = Layer(
                spikes, PackedWeight.pack(weight), self._rows, decay, gain, threshold, None,
                part.neuron, np.broadcast_to(np.float32(0), shape), True,
            )  # fmt: skip
            words, _, membrane = fused.layer_by("auto", layer)
            u = np.ascontiguousarray(membrane).reshape(self._steps, *shape)
            kept.append(_Kept(spikes, u, (decay, gain, threshold)))
            spikes = PackedSpikes.trusted(words, (spikes.rows, shape[1]), part.neuron.levels or 1)
        self._kept[:], self._last[:] = kept, [spikes]
        if not self._reads:
            return (mx.array(spikes.unpack(np.float32)),)
        readout = PackedWeight.pack(found[len(self._layers)])
        sums = linear.product(spikes, readout, "auto", 1)
        mean = sums.reshape(self._steps, self._rows, readout.shape[1]).sum(axis=0)
        return (mx.array(mean / np.float32(self._steps)),)

    def backward(self, primals: Any, cotangents: Any, outputs: Any) -> list[mx.array]:
        """Gradients of the arguments of `forward`."""
        count = len(self._layers)
        weights = [values(NAME, array) for array in primals[: count + self._reads]]
        gradient = values(NAME, cotangents[0])
        found: list[mx.array] = []
        if self._reads:
            shares = np.tile(gradient / np.float32(self._steps), (self._steps, 1))
            found.append(mx.array(learning.product(self._last[0], shares, "auto", 1)))
            gradient = aligned((self._steps, self._rows, weights[-1].shape[0]), np.float32)
            np.matmul(shares, weights[-1].T, out=rows_of(gradient))
        for index in reversed(range(count)):
            wanted = index > 0 or self._data is None
            learnt, below = self._layer_gradients(index, gradient, weights[index], wanted)
            found.insert(0, learnt)
            gradient = gradient if below is None else below
        if self._data is None:
            found.append(mx.array(gradient).reshape(primals[-1].shape))
        return found

    def _layer_gradients(
        self, index: int, gradient: Floats, weight: Floats, wanted: bool
    ) -> tuple[mx.array, Floats | None]:
        """Of the weight of a layer and, where wanted, of its input (T, R, I).

        du goes straight into the panels of a product, unless its rows are multiplied too.
        """
        (spikes, u, scales), neuron = self._kept[index], self._layers[index].neuron
        slopes = few_slopes(neuron, u, scales, gradient, True) if wanted else None
        panels = slopes is not None or not wanted
        outputs = u.shape[2]
        shape = (-(-outputs // LANES), spikes.rows, LANES) if panels else u.shape
        du, rest = aligned(shape, np.float32), aligned(u.shape[1:], np.float32)
        lif.backward_into(gradient, None, u, u, None, *scales, neuron, False, du, rest)
        right = PackedWeight(du, (spikes.rows, outputs)) if panels else rows_of(du)
        learnt = mx.array(learning.product(spikes, right, "auto", 1))
        if not wanted:
            return learnt, None
        below = aligned((*u.shape[:2], spikes.size), np.float32)
        if slopes is not None:
            slopes.times(weight, rows_of(below), True, float(scales[0][0]), self._rows)
        else:
            Left.of(rows_of(du)).times_transposed(weight, rows_of(below))
        return learnt, below


def _flat(spikes: PackedSpikes) -> PackedSpikes:
    """(T R, I)."""
    shape = (spikes.rows, spikes.size)
    return PackedSpikes.trusted(spikes.words, shape, spikes.levels, spikes.signed, spikes.code)
