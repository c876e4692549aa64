"""Both passes of `trainable_stack`, and what the first leaves for the second."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from neurosim.kernels._aligned import aligned
from neurosim.kernels._training import values
from neurosim.kernels.grad_weight import cpu as learning
from neurosim.kernels.lif_scan import LifWorkspace, Neuron, cpu
from neurosim.kernels.packed import PackedSpikes, pack
from neurosim.kernels.spike_linear import spike_linear
from neurosim.kernels.spike_linear._training import Floats, rows_of
from neurosim.kernels.spike_linear._training_layer import spike_gradient
from neurosim.kernels.spike_linear_lif import spike_linear_lif

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
        """Readout (R, C) or spikes (T, R, O)."""
        found = [values(NAME, array) for array in arrays]
        spikes = self._tokens(self._data if self._data is not None else packed(found[-1]))
        kept = []
        for layer, weight in zip(self._layers, found, strict=False):
            scan = spike_linear_lif(
                spikes, weight, layer.threshold, layer.decay, layer.gain, layer.neuron,
                save_membrane=True, backend="cpu",
            )  # fmt: skip
            kept.append(_Kept(_flat(spikes), np.ascontiguousarray(scan.membrane)))
            spikes = cast(PackedSpikes, scan.spikes)
        self._kept[:], self._last[:] = kept, [_flat(spikes)]
        if not self._reads:
            return (mx.array(spikes.unpack(np.float32)),)
        sums = spike_linear(spikes, found[len(self._layers)], backend="cpu")
        return (mx.array(sums.sum(axis=0) / np.float32(self._steps)),)

    def _tokens(self, spikes: PackedSpikes) -> PackedSpikes:
        """(T, R, I)."""
        shape = (self._steps, self._rows, spikes.size)
        return PackedSpikes.trusted(
            spikes.words, shape, spikes.levels, spikes.signed, spikes.code, 0
        )

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
        workspace = LifWorkspace()
        for index in reversed(range(count)):
            kept, layer = self._kept[index], self._layers[index]
            u = kept.membrane
            beta, scale, edge = (np.full(u.shape[2], part, np.float32) for part in layer[:3])
            du, *_ = cpu.backward(
                gradient, None, u, u, None, beta, scale, edge, layer.neuron, False, workspace
            )
            found.insert(0, mx.array(learning.product(kept.spikes, rows_of(du), "auto", 1)))
            if index or self._data is None:
                below = aligned((self._steps, self._rows, kept.spikes.size), np.float32)
                spike_gradient(
                    layer.neuron, u, (beta, scale, edge), gradient, du, True, weights[index],
                    rows_of(below),
                )  # fmt: skip
                gradient = below
        if self._data is None:
            found.append(mx.array(gradient).reshape(primals[-1].shape))
        return found


def _flat(spikes: PackedSpikes) -> PackedSpikes:
    """(T R, I), with the lists already made."""
    shape = (spikes.rows, spikes.size)
    return PackedSpikes.trusted(spikes.words, shape, spikes.levels, spikes.signed, spikes.code)
