"""A spiking layer, spike linear and the neurons it feeds, as one MLX function with a gradient."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import mlx.core as mx
import numpy as np

from neurosim.kernels._aligned import aligned
from neurosim.kernels._arrays import Output
from neurosim.kernels._checks import check_type, per_neuron
from neurosim.kernels._training import differentiable, values
from neurosim.kernels.lif_scan import Neuron, cpu, trainable_lif
from neurosim.kernels.lif_scan._types import check_neuron
from neurosim.kernels.spike_linear._sparse import Rows, listed_slopes
from neurosim.kernels.spike_linear._training import (
    LISTED_SHARE,
    Data,
    Floats,
    Left,
    data,
    rows_of,
    trainable_linear,
    training_backend,
)

_NAME = "spike_linear_lif"
SCALES = ("decay", "gain", "threshold")
_BINARY = Neuron()


def trainable_linear_lif(
    spikes: mx.array | Data,
    weight: mx.array,
    threshold: mx.array | float = 1.0,
    decay: mx.array | float = 0.5,
    gain: mx.array | float = 1.0,
    neuron: Neuron = _BINARY,
    state: mx.array | None = None,
    backend: str = "auto",
    levels: int | None = None,
    signed: bool = False,
) -> tuple[mx.array, mx.array]:
    """A spiking layer over T steps for training: `trainable_linear`, `trainable_lif`; cheaper.

    Sums become membranes in place. Where the surrogate is 0 beyond a range (boxcar, integer
    spikes), the gradient of the incoming spikes comes from few slopes: with the reset soft and
    detached and one decay for all neurons, decay over time commutes with the weights,

        ds[t] = e[t] W^T + decay ds[t+1],    e[t] = gain surrogate'(u[t]) g[t]

    so that only e, not the dense du, is multiplied by W^T. Otherwise du is.

    Args:
        spikes, weight: as in `trainable_linear`; spikes (T, ..., I), weight (I, O).
        threshold, decay, gain, neuron, state: as in `trainable_lif`, for the O neurons.
        backend, levels, signed: as in `trainable_linear`; on Metal the two functions are called.

    Returns:
        spikes (T, ..., O) as float32, and the last state (..., O).
    """
    check_neuron(neuron)
    given = data(_NAME, spikes, weight, 2)
    if training_backend(_NAME, backend, levels, spikes, weight) is not None:
        sums = trainable_linear(spikes, weight, backend, levels, signed)
        return trainable_lif(sums, threshold, decay, gain, neuron, state, backend)
    neurons, middle = weight.shape[1], tuple(spikes.shape[1:-1])
    rows = int(np.prod(middle, dtype=np.int64))
    if state is not None:
        check_type("state", state, mx.array, "convert with mx.array")
        if state.dtype != mx.float32 or state.shape != (*middle, neurons):
            raise ValueError(
                f"{_NAME}: expected a float32 state of shape {(*middle, neurons)}, got "
                f"{state.dtype} {tuple(state.shape)}"
            )
    primals: dict[str, mx.array] = {"weight": weight}
    numbers: dict[str, float] = {}
    for name, part in (("decay", decay), ("gain", gain), ("threshold", threshold)):
        if isinstance(part, mx.array):
            primals[name] = _per_neuron(name, part, neurons)
        else:
            per_neuron(name, part, neurons)
            numbers[name] = part
    if state is not None:
        primals["state"] = state.reshape(rows, neurons)
    if given is None:
        primals["spikes"] = cast(mx.array, spikes)
    layer = _Layer(neuron, (spikes.shape[0], rows, neurons), tuple(primals), numbers, given)
    arrays = primals.values()
    fired, last = differentiable(_NAME, layer.forward, layer.backward)(*arrays)
    return fired.reshape(spikes.shape[0], *middle, neurons), last.reshape(*middle, neurons)


def _per_neuron(name: str, array: mx.array, neurons: int) -> mx.array:
    if array.dtype != mx.float32 or array.shape not in ((), (neurons,)):
        raise ValueError(
            f"{_NAME}: expected a float32 {name} of shape () or ({neurons},), got {array.dtype} "
            f"{tuple(array.shape)}"
        )
    return mx.broadcast_to(array, (neurons,))


class _Kept(NamedTuple):
    """What the forward pass leaves for the backward pass."""

    left: Left  # (T R, I)
    input: Floats  # x of the neurons, (T, R, O), where their parameters learn
    membrane: Floats  # u, (T, R, O)
    state: Floats | None  # before the first step, (R, O)
    scales: tuple[Floats, Floats, Floats]  # decay, gain, threshold (O,)


class _Layer:
    """One call of `trainable_linear_lif`; `names` are those of the arrays that both passes get."""

    def __init__(
        self,
        neuron: Neuron,
        shape: tuple[int, int, int],
        names: tuple[str, ...],
        numbers: dict[str, float],
        given: Left | None,
    ) -> None:
        self._neuron, self._shape, self._names = neuron, shape, names
        self._numbers, self._given = numbers, given
        self._kept: list[_Kept] = []

    def forward(self, *arrays: mx.array) -> tuple[mx.array, mx.array]:
        """Spikes (T, R, O) and last state (R, O)."""
        found = {name: values(_NAME, x) for name, x in zip(self._names, arrays, strict=True)}
        decay, gain, threshold = (
            found[name] if name in found else np.full(self._shape[2], self._numbers[name], "f4")
            for name in SCALES
        )
        if not (threshold > 0).all():
            raise ValueError(f"{_NAME}: expected positive thresholds, got {threshold.min()}")
        left = self._given or Left.of(rows_of(found["spikes"]))
        membrane = aligned(self._shape, np.float32)
        left.times(found["weight"], rows_of(membrane))
        inputs = membrane.copy() if self._learn else membrane
        state = found.get("state")
        spikes, last = Output(self._shape), Output(self._shape[1:])
        cpu.fill(
            inputs, decay, gain, threshold, self._neuron, state, last=last.view,
            numbers=spikes.view, membrane=membrane,
        )  # fmt: skip
        self._kept[:] = [_Kept(left, inputs, membrane, state, (decay, gain, threshold))]
        return spikes.array, last.array

    @property
    def _learn(self) -> bool:
        return any(name in SCALES for name in self._names)

    def backward(self, primals: Any, cotangents: Any, outputs: Any) -> list[mx.array]:
        """Gradients of the arguments of `forward`."""
        kept = self._kept[0]
        right = values(_NAME, primals[0])
        gradient, end = (values(_NAME, array) for array in cotangents)
        du, dstate = (aligned(shape, np.float32) for shape in (self._shape, self._shape[1:]))
        scales = cpu.backward_into(
            gradient, end, kept.input, kept.membrane, kept.state, *kept.scales,
            self._neuron, self._learn, du, dstate,
        )  # fmt: skip
        learnt = Output(right.shape, zeros=True)
        kept.left.transposed_times(rows_of(du), learnt.view)
        gradients = {"weight": learnt.array}
        for name, part in zip(SCALES, scales, strict=True):
            if name in self._names:
                gradients[name] = mx.array(part)
        if "state" in self._names:
            gradients["state"] = mx.array(dstate)
        if not self._given:
            below = Output(primals[-1].shape)
            slopes = few_slopes(self._neuron, kept.membrane, kept.scales, gradient, not end.any())
            if slopes is not None:
                decay = float(kept.scales[0][0])
                slopes.times(right, rows_of(below.view), True, decay, self._shape[1])
            else:
                Left.of(rows_of(du)).times_transposed(right, rows_of(below.view))
            gradients["spikes"] = below.array
        return [gradients[name] for name in self._names]


def few_slopes(
    neuron: Neuron,
    membrane: Floats,
    scales: tuple[Floats, Floats, Floats],
    gradient: Floats,
    commutes: bool,
) -> Rows | None:
    """e (T R, O) of `trainable_linear_lif` if its product is the cheaper one, else None.

    Args:
        neuron: of the layer.
        membrane: u, (T, R, O).
        scales: decay, gain and threshold, (O,).
        gradient: of the layer's spikes, (T, R, O).
        commutes: whether there is no gradient of the last state, so that decay may commute.
    """
    decay, gain, threshold = scales
    limited = neuron.levels is not None or neuron.surrogate == "boxcar"
    commutes = commutes and neuron.reset == "soft" and neuron.detach_reset
    if not (limited and commutes and (decay == decay[:1]).all()):
        return None
    rows = rows_of(gradient), rows_of(membrane)
    return listed_slopes(*rows, threshold, gain, neuron, LISTED_SHARE)
