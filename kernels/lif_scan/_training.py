"""The scan as an MLX function with a gradient."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import mlx.core as mx

from neurosim.kernels._arrays import new_output
from neurosim.kernels._training import differentiable, values
from neurosim.kernels.lif_scan import cpu
from neurosim.kernels.lif_scan._types import Neuron

_NAME = "lif_spikes"


@lru_cache(maxsize=64)
def scan(neuron: Neuron, learn: bool) -> Any:
    """f(x (T, R, N), state (R, N), decay, gain, threshold (N,)) -> spikes, state, membrane."""

    def forward(*arguments: mx.array) -> tuple[mx.array, ...]:
        x, state, decay, gain, threshold = (values(_NAME, argument) for argument in arguments)
        if not (threshold > 0).all():
            raise ValueError(f"expected positive thresholds, got {threshold.min()}")
        inputs = cpu.padded(x)
        spikes, spikes_view = new_output(inputs.shape)
        membrane, membrane_view = new_output(inputs.shape)
        last, last_view = new_output(inputs.shape[1:])
        last_view[:, : x.shape[2]] = state
        scales = cpu.padded(decay), cpu.padded(gain), cpu.padded(threshold, 1)
        cpu.scan_into(inputs, *scales, neuron, last_view, spikes_view, membrane_view)
        found = spikes, last, membrane
        return tuple(array[..., : x.shape[2]] for array in found)

    def backward(primals: Any, cotangents: Any, outputs: Any) -> tuple[mx.array, ...]:
        neurons = primals[0].shape[2]
        arrays = (*cotangents[:2], primals[0], outputs[2], *primals[1:4])
        spikes, last, x, membrane, state, decay, gain = (
            cpu.padded(values(_NAME, array)) for array in arrays
        )
        dx, dx_view = new_output(x.shape)
        dstate, dstate_view = new_output(state.shape)
        ddecay, dgain, dthreshold = cpu.backward_into(
            spikes, last, x, membrane, state, decay, gain,
            cpu.padded(values(_NAME, primals[4]), 1), neuron, learn, dx_view, dstate_view,
        )  # fmt: skip
        parameters = (mx.array(part[:neurons]) for part in (ddecay, dgain, dthreshold))
        return dx[..., :neurons], dstate[..., :neurons], *parameters

    return differentiable(_NAME, forward, backward)
