"""A stack of spiking layers for training: packed spikes between its layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from neurosim.kernels._checks import numbers
from neurosim.kernels._training import differentiable
from neurosim.kernels.lif_scan import Neuron
from neurosim.kernels.lif_scan._types import check_neuron
from neurosim.kernels.packed import PackedSpikes
from neurosim.kernels.training_stack._stack import NAME, LayerScales, Stack, packed

__all__ = ["trainable_stack"]

Value = TypeVar("Value")
_BINARY = Neuron()


def trainable_stack(
    spikes: PackedSpikes | npt.NDArray[Any] | mx.array,
    weights: Sequence[mx.array],
    readout: mx.array | None = None,
    threshold: float | Sequence[float] = 1.0,
    decay: float | Sequence[float] = 0.5,
    gain: float | Sequence[float] = 1.0,
    neuron: Neuron | Sequence[Neuron] = _BINARY,
) -> mx.array:
    """Spiking layers one after another over T steps, and a linear readout, for training.

    The same network as `trainable_linear_lif` per layer and the mean over time of a
    `trainable_linear`, and cheaper: spikes are bits between layers and in the backward pass, so
    that sums and weight gradients only add, and spikes are never written as floats.

        forward      spike_linear_lif per layer; its packed spikes and membranes u are kept
        readout      out = mean over t of s[t] W,    ds[t] = g W^T / T
        backward     du from ds by the neurons' slopes (`lif_backward`),
                     dW = s^T du by `grad_weight` on the bits of the layer's input,
                     ds of the layer below as in `trainable_linear_lif`

    Works in `mx.grad` and `nn.value_and_grad`. mx.compile, mx.vmap, mx.jvp and second derivatives
    are refused. Membranes start at 0. Learnt thresholds, decays and gains, first and last states,
    and signed or half-even neurons are those of `trainable_linear_lif`.

    Args:
        spikes: whole counts (T, ..., I): data, numpy or PackedSpikes with time first, or a float32
            MLX array, which gets a gradient and so costs its product. At most 127 in size.
        weights: float32 MLX arrays (I, O), one per spiking layer; O of a layer is I of the next.
        readout: float32 MLX array (O, C).
        threshold, decay, gain, neuron: as in `lif_scan`; one for all layers, or one per layer.

    Returns:
        float32 (..., C), or the spikes of the last layer (T, ..., O) without a readout.
    """
    weights = list(weights)
    if not weights:
        raise ValueError(f"{NAME}: expected a weight per spiking layer, got none")
    _check(spikes, weights if readout is None else [*weights, readout])
    each = [
        _per_layer(name, value, len(weights))
        for name, value in zip(LayerScales._fields, (decay, gain, threshold, neuron), strict=True)
    ]
    layers = [LayerScales(*parts) for parts in zip(*each, strict=True)]
    for layer in layers:
        check_neuron(layer.neuron)
        for name, value in zip(LayerScales._fields[:3], layer[:3], strict=True):
            numbers(name, value, 1)
        if layer.neuron.signed or layer.neuron.rounding != "half_up":
            raise ValueError(
                f"{NAME}: expected unsigned spikes, rounded half up, got {layer.neuron}; use "
                "trainable_linear_lif"
            )
        if not layer.threshold > 0:
            raise ValueError(f"{NAME}: expected positive thresholds, got {layer.threshold}")
    data = None if isinstance(spikes, mx.array) else packed(spikes)
    middle, steps = tuple(spikes.shape[1:-1]), spikes.shape[0]
    rows = int(np.prod(middle, dtype=np.int64))
    stack = Stack(layers, readout is not None, steps, rows, data)
    primals = [*weights]
    if readout is not None:
        primals.append(readout)
    if isinstance(spikes, mx.array):
        primals.append(spikes)
    (out,) = differentiable(NAME, stack.forward, stack.backward)(*primals)
    kept = () if readout is not None else (steps,)
    found: mx.array = out.reshape(*kept, *middle, out.shape[-1])
    return found


def _check(spikes: Any, weights: list[mx.array]) -> None:
    """Refuse arrays that do not fit."""
    if len(spikes.shape) < 2 or spikes.shape[0] < 1:
        raise ValueError(f"{NAME}: expected spikes (T, ..., I), T >= 1, got {tuple(spikes.shape)}")
    if isinstance(spikes, mx.array) and spikes.dtype != mx.float32:
        raise ValueError(f"{NAME}: expected float32 spikes, got {spikes.dtype}; use astype")
    if isinstance(spikes, PackedSpikes) and spikes.time_axis not in (None, 0):
        raise ValueError(
            f"{NAME}: expected time as the first axis, got {spikes.time_axis}; use time_major"
        )
    inputs = spikes.shape[-1]
    for index, weight in enumerate(weights):
        kind = weight.dtype if isinstance(weight, mx.array) else type(weight).__name__
        shape = tuple(getattr(weight, "shape", ()))
        if kind != mx.float32 or len(shape) != 2 or shape[0] != inputs:
            raise ValueError(
                f"{NAME}: expected a float32 MLX weight ({inputs}, O) at place {index}, got {kind} "
                f"{shape}"
            )
        inputs = shape[1]


def _per_layer(name: str, value: Value | Sequence[Value], layers: int) -> list[Value]:
    if not isinstance(value, Sequence):
        return [value] * layers
    if len(value) != layers:
        raise ValueError(f"{NAME}: expected {name} of {layers} layers, got {len(value)}")
    return list(value)
