"""The scan as an MLX function with a gradient."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, cast

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from neurosim.kernels._arrays import new_output
from neurosim.kernels._metal import MetalBackend
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
def scan(neuron: Neuron, learn: bool, module: Any) -> Any:
    """f(x (T, R, N), state (R, N), decay, gain, threshold (N,)) -> spikes, state, membrane.

    `module` is a backend. The one of the CPU writes straight into the memory of MLX arrays.
    """
    forward_of, backward_of = (_into, _gradients_into) if module is cpu else (_scan, _gradients)

    @mx.custom_function
    def gradients(*arguments: mx.array) -> tuple[mx.array, ...]:
        return backward_of(module, neuron, learn, *arguments)

    gradients.vjp(_NO_SECOND)
    gradients.jvp(_NO_SECOND)
    gradients.vmap(_NO_VMAP)

    @mx.custom_function
    def forward(*arguments: mx.array) -> tuple[mx.array, ...]:
        return forward_of(module, neuron, *arguments)

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


def _into(module: Any, neuron: Neuron, *arguments: mx.array) -> tuple[mx.array, ...]:
    x, state, decay, gain, threshold = (_values(argument) for argument in arguments)
    if not (threshold > 0).all():
        raise ValueError(f"expected positive thresholds, got {threshold.min()}")
    spikes, spikes_view = new_output(x.shape)
    membrane, membrane_view = new_output(x.shape)
    last, last_view = new_output(state.shape)
    cpu.fill(
        x, decay, gain, threshold, neuron, state, last=last_view, numbers=spikes_view,
        membrane=membrane_view,
    )  # fmt: skip
    return spikes, last, membrane


def _gradients_into(
    module: Any, neuron: Neuron, learn: bool, *arguments: mx.array
) -> tuple[mx.array, ...]:
    gradient, state_gradient, x, membrane, state, *scales = (_values(a) for a in arguments)
    dx, dx_view = new_output(x.shape)
    dstate, dstate_view = new_output(state.shape)
    parameters = cpu.backward_into(
        gradient, state_gradient, x, membrane, state, scales[0], scales[1], scales[2], neuron,
        learn, dx_view, dstate_view,
    )  # fmt: skip
    return dx, dstate, *(mx.array(part) for part in parameters)


def _scan(module: Any, neuron: Neuron, *arguments: mx.array) -> tuple[mx.array, ...]:
    x, state, *scales = arguments if lazy(module) else map(_values, arguments)
    spikes, last, membrane = module.scan(x, *scales, neuron, state, False, True)
    return _mlx(spikes).astype(mx.float32), _mlx(last), _mlx(membrane)


def _gradients(
    module: Any, neuron: Neuron, learn: bool, *arguments: mx.array
) -> tuple[mx.array, ...]:
    arrays = arguments if lazy(module) else map(_values, arguments)
    return tuple(_mlx(part) for part in module.backward(*arrays, neuron, learn))


def lazy(module: Any) -> bool:
    """Whether a backend takes MLX arrays without reading their values."""
    return isinstance(module, MetalBackend)


def _mlx(array: Any) -> mx.array:
    return array if isinstance(array, mx.array) else mx.array(array)
