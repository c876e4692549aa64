"""Checks of a fused layer's arguments."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from neurosim.kernels._arrays import given, host, is_a
from neurosim.kernels._checks import per_neuron
from neurosim.kernels.lif_scan import Neuron
from neurosim.kernels.packed import PackedSpikes
from neurosim.kernels.spike_linear._weight import PackedWeight
from neurosim.kernels.spike_linear_lif._types import Layer, State

_LARGEST = 2**31 - 1
_MOST_HALVINGS = 31


def prepared(
    spikes: PackedSpikes,
    weight: npt.NDArray[Any] | mx.array | PackedWeight,
    threshold: npt.ArrayLike,
    decay: npt.ArrayLike,
    gain: npt.ArrayLike,
    neuron: Neuron,
    state: npt.NDArray[Any] | None,
    save: bool,
    integer: bool,
) -> Layer:
    """The arguments as backends take them."""
    if not isinstance(spikes, PackedSpikes) or len(spikes.shape) < 2:
        got = spikes.shape if isinstance(spikes, PackedSpikes) else type(spikes).__name__
        raise ValueError(
            f"expected PackedSpikes of shape (T, ..., I), got {got}; make them with "
            "pack(x, time_axis=0)"
        )
    stored = weight if isinstance(weight, PackedWeight) else _stored(weight)
    if stored.shape[0] != spikes.size:
        raise ValueError(
            f"expected one weight row per input, got {spikes.size} inputs and weights "
            f"{stored.shape}; weights are (inputs, outputs)"
        )
    outputs = stored.shape[1]
    axis = spikes.time_axis or 0
    start = _state(state, (*spikes.shape[:axis], *spikes.shape[axis + 1 : -1], outputs), integer)
    parameters = [
        _per_neuron(value, outputs, name)
        for name, value in (("decay", decay), ("gain", gain), ("threshold", threshold))
    ]
    edge: State = parameters[2]
    gains = parameters[1]
    if stored.scale is not None:
        gains = np.ascontiguousarray(gains * stored.scale, np.float32)
    seen = edge[:1] if type(threshold) is float else edge
    if not (seen > 0).all():
        raise ValueError(f"expected positive thresholds, got {edge.min()}")
    shift = None
    if integer:
        shift = _shift(stored, parameters[0], parameters[1], neuron)
        edge = _whole_threshold(threshold, stored, outputs)
    layer = Layer(
        spikes, stored, math.prod(spikes.shape[axis + 1 : -1]), parameters[0],
        gains, edge, shift, neuron, start, save,
    )  # fmt: skip
    _check_overflow(layer)
    return layer


def _stored(weight: npt.NDArray[Any] | mx.array) -> PackedWeight:
    values = given(weight)
    if values.ndim != 2 or not is_a(values, "int8", "float32"):
        raise ValueError(
            f"expected int8 or float32 weights of shape (I, O), or a PackedWeight, got "
            f"{values.dtype} {values.shape}; convert with astype"
        )
    return PackedWeight.pack(values, 8 if is_a(values, "int8") else 32)


def _per_neuron(value: npt.ArrayLike, outputs: int, name: str) -> npt.NDArray[np.float32]:
    return (_kept if type(value) is float else per_neuron)(name, value, outputs)


_kept = lru_cache(maxsize=64)(per_neuron)
"""The same for a number; nothing writes to it, and what is refused is not kept."""


@lru_cache(maxsize=64)
def _silence(flat: tuple[int, int], kind: np.dtype[Any]) -> State:
    """One zero seen everywhere; read-only."""
    start: State = np.broadcast_to(np.zeros((), kind), flat)
    return start


def _state(state: npt.NDArray[Any] | None, shape: tuple[int, ...], integer: bool) -> State:
    """(R, O); one zero seen everywhere where none was given."""
    kind: np.dtype[Any] = np.dtype(np.int32 if integer else np.float32)
    flat = math.prod(shape[:-1]), shape[-1]
    start: State
    if state is None:
        return _silence(flat, kind)
    if not isinstance(state, np.ndarray):
        raise ValueError(f"expected the state as a numpy array, got {type(state).__name__}")
    if state.dtype != kind or state.shape != shape:
        raise ValueError(
            f"expected a {kind} state of shape {shape}, got {state.dtype} {state.shape}"
        )
    start = np.ascontiguousarray(state).reshape(flat)
    return start


def _shift(
    weight: PackedWeight,
    decay: npt.NDArray[np.float32],
    gain: npt.NDArray[np.float32],
    neuron: Neuron,
) -> int:
    """s of decay = 2^-s."""
    if not weight.integer:
        raise ValueError(
            f"expected integer weights for integer membranes, got {weight.bits} bits; use "
            "PackedWeight.quantise"
        )
    if neuron.levels is not None:
        raise ValueError("expected binary spikes of integer membranes, got levels; use float32")
    shift = -math.log2(decay[0]) if decay.size and decay[0] > 0 else 0.0
    if decay.size and not (0 <= shift <= _MOST_HALVINGS and (decay == 2.0 ** -round(shift)).all()):
        raise ValueError(
            "expected one decay of 1, 1/2, 1/4, ... for integer membranes, got "
            f"{decay.min()}..{decay.max()}"
        )
    if (gain != 1).any():
        raise ValueError("expected gain 1 for integer membranes; divide the thresholds by it")
    return round(shift)


def _whole_threshold(
    threshold: npt.ArrayLike, weight: PackedWeight, outputs: int
) -> npt.NDArray[np.int32]:
    """Thresholds in units of the weights."""
    values = np.broadcast_to(host(threshold).astype(np.float64), (outputs,))
    if weight.scale is not None:
        if not (weight.scale > 0).all():  # a negative unit would turn the comparison round
            raise ValueError(
                f"expected positive scales for integer membranes, got {weight.scale.min()}; "
                "negate those weights"
            )
        values = np.maximum(np.rint(values / weight.scale.astype(np.float64)), 1)
    if not (values == np.rint(values)).all() or (values > _LARGEST).any():
        raise ValueError(
            f"expected whole int32 thresholds for integer membranes, got {values.min()}.."
            f"{values.max()}; give the weights a scale, or round"
        )
    return np.ascontiguousarray(values, np.int32)


def _check_overflow(layer: Layer) -> None:
    """Refuse what could leave int32, by the largest possible sum."""
    if not layer.weight.integer:
        return
    largest = layer.spikes.levels * layer.spikes.size << (layer.weight.bits - 1)
    if layer.shift is not None:
        kept = layer.steps if layer.shift == 0 else 2  # 1 + 1/2 + 1/4 + ... < 2
        largest = largest * kept + _size(layer.state)
    if largest > _LARGEST:
        raise ValueError(
            f"expected sums within int32, got up to {largest} from {layer.spikes.size} inputs of "
            f"{layer.weight.bits} bits; use fewer inputs, or fewer steps where nothing leaks"
        )


def _size(state: State) -> int:
    """The largest size of a state; of a state that is one zero, without looking at all of it."""
    seen = state[:1] if state.strides[0] == 0 else state
    return max(int(seen.max(initial=0)), -int(seen.min(initial=0)))
