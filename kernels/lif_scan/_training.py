"""The scan as an MLX function with a gradient."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, cast

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from neurosim.kernels._arrays import new_output
from neurosim.kernels.lif_scan import cpu
from neurosim.kernels.lif_scan._types import Neuron


def _values(x: mx.array) -> npt.NDArray[np.float32]:
    try:
        return np.ascontiguousarray(np.asarray(x))
    except ValueError as error:
        raise ValueError(
            "lif_spikes runs outside mx.compile and mx.vmap only, because Numba reads the values; "
            "compile the parts before and after it, and give batches as leading axes"
        ) from error


def _refuse(reason: str) -> Any:
    def rule(*arguments: Any) -> Any:
        raise ValueError(f"lif_spikes: {reason}")

    return rule


_NO_JVP = _refuse("expected mx.grad or mx.vjp, got mx.jvp; spikes have no forward-mode derivative")
_NO_VMAP = _refuse("expected no mx.vmap; give batches as leading axes of x")
_NO_SECOND = _refuse("expected first derivatives only; a surrogate gradient is not differentiable")


@lru_cache(maxsize=64)
def scan(neuron: Neuron, learn: bool) -> Any:
    """f(x (T, R, N), state (R, N), decay, gain, threshold (N,)) -> spikes, state, membrane."""

    @mx.custom_function
    def gradients(*arguments: mx.array) -> tuple[mx.array, ...]:
        neurons = arguments[0].shape[2]
        arrays = [_values(argument) for argument in arguments]
        spikes, last, x, membrane, state, decay, gain = (cpu.padded(a) for a in arrays[:7])
        dx, dx_view = new_output(x.shape)
        dstate, dstate_view = new_output(state.shape)
        ddecay, dgain, dthreshold = cpu.backward_into(
            spikes, last, x, membrane, state, decay, gain, cpu.padded(arrays[7], 1),
            neuron, learn, dx_view, dstate_view,
        )  # fmt: skip
        parameters = (mx.array(part[:neurons]) for part in (ddecay, dgain, dthreshold))
        return dx[..., :neurons], dstate[..., :neurons], *parameters

    gradients.vjp(_NO_SECOND)
    gradients.jvp(_NO_SECOND)
    gradients.vmap(_NO_VMAP)

    @mx.custom_function
    def forward(*arguments: mx.array) -> tuple[mx.array, ...]:
        x, state, decay, gain, threshold = (_values(argument) for argument in arguments)
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

    @forward.vjp
    def backward(primals: Any, cotangents: Any, outputs: Any) -> tuple[mx.array, ...]:
        x, state, decay, gain, threshold = primals
        found = gradients(
            cotangents[0], cotangents[1], x, outputs[2], state, decay, gain, threshold
        )
        return cast(tuple[mx.array, ...], found)

    forward.jvp(_NO_JVP)
    forward.vmap(_NO_VMAP)
    return forward
