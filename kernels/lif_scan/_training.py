"""The scan as an MLX function with a gradient: on the CPU at once, on a GPU lazily."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from neurosim.kernels._arrays import Output
from neurosim.kernels._metal import MetalBackend
from neurosim.kernels._training import differentiable, values
from neurosim.kernels.lif_scan import cpu
from neurosim.kernels.lif_scan._types import LifWorkspace, Neuron

_NAME = "trainable_lif"
SCALES = ("decay", "gain", "threshold")
Floats = npt.NDArray[np.float32]


def is_lazy(module: Any) -> bool:
    """Whether a backend takes MLX arrays without reading their values."""
    return isinstance(module, MetalBackend)


def now(
    neuron: Neuron, module: Any, arrays: dict[str, mx.array], numbers: dict[str, Floats]
) -> Any:
    """Spikes (T, R, N) as float32 and last state (R, N), computed at once.

    `arrays` are x, and state and scales where given, which get gradients; `numbers` are the other
    scales, (N,).
    """
    call = _Call(neuron, module, tuple(arrays), numbers)
    return differentiable(_NAME, call.forward, call.backward)(*arrays.values())


class _Call:
    """One call: what its forward pass leaves for its backward pass stays outside MLX."""

    def __init__(
        self, neuron: Neuron, module: Any, names: tuple[str, ...], numbers: dict[str, Floats]
    ) -> None:
        self._neuron, self._module, self._names, self._numbers = neuron, module, names, numbers
        self._membrane: list[Floats] = []

    def _named(self, arrays: tuple[mx.array, ...]) -> dict[str, Any]:
        given = {name: values(_NAME, x) for name, x in zip(self._names, arrays, strict=True)}
        return {"state": None, **self._numbers, **given}

    def forward(self, *arrays: mx.array) -> tuple[mx.array, mx.array]:
        """Spikes and last state."""
        found = self._named(arrays)
        x, state, scales = found["x"], found["state"], [found[name] for name in SCALES]
        if not (found["threshold"] > 0).all():
            raise ValueError(f"expected positive thresholds, got {found['threshold'].min()}")
        if self._module is not cpu:
            spikes, last, membrane = self._module.scan(x, *scales, self._neuron, state, False, True)
            self._membrane[:] = [membrane]
            return mx.array(spikes.astype(np.float32)), mx.array(last)
        membrane = LifWorkspace().array("membrane", x.shape, np.float32)
        spikes, last = Output(x.shape), Output(x.shape[1:])
        cpu.fill(
            x, scales[0], scales[1], scales[2], self._neuron, state, last=last.view,
            numbers=spikes.view, membrane=membrane,
        )  # fmt: skip
        self._membrane[:] = [membrane]
        return spikes.array, last.array

    def backward(self, primals: Any, cotangents: Any, outputs: Any) -> list[mx.array]:
        """Gradients of the arrays of `forward`."""
        found = self._named(primals)
        x, state, scales = found["x"], found["state"], [found[name] for name in SCALES]
        gradient, end = (values(_NAME, array) for array in cotangents)
        learn = any(name in SCALES for name in self._names)
        arguments: Any = (gradient, end, x, self._membrane[0], state, *scales, self._neuron, learn)
        if self._module is cpu:
            filled = Output(x.shape), Output(x.shape[1:])
            scale_parts = cpu.backward_into(*arguments, *(part.view for part in filled))
            parts = [mx.array(part) for part in scale_parts]
            dx, dstate = (part.array for part in filled)
        else:
            dx, dstate, *parts = map(mx.array, self._module.backward(*arguments))
        gradients = dict(zip(("x", "state", *SCALES), (dx, dstate, *parts), strict=True))
        return [gradients[name] for name in self._names]


@lru_cache(maxsize=64)
def lazily(neuron: Neuron, learn: bool, module: MetalBackend) -> Any:
    """f(x (T, R, N), state (R, N), decay, gain, threshold (N,)) -> spikes, state, membrane.

    No value is read, so that MLX may trace and fuse what lies around it.
    """

    def forward(*arrays: mx.array) -> tuple[mx.array, ...]:
        x, state, *scales = arrays
        spikes, last, membrane = module.scan(x, *scales, neuron, state, False, True)
        return _mlx(spikes).astype(mx.float32), _mlx(last), _mlx(membrane)

    def backward(primals: Any, cotangents: Any, outputs: Any) -> list[mx.array]:
        x, state, *scales = primals
        arguments = (cotangents[0], cotangents[1], x, outputs[2], state, *scales, neuron, learn)
        return [_mlx(part) for part in module.backward(*arguments)]

    return differentiable(_NAME, forward, backward)


def _mlx(array: Any) -> mx.array:
    return array if isinstance(array, mx.array) else mx.array(array)
