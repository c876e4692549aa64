"""`trainable_linear` on a GPU: nothing is read, so that MLX may trace what lies around it."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import mlx.core as mx

from neurosim.kernels._metal import MetalBackend
from neurosim.kernels._training import differentiable

_CODE = "bits"  # the fewest planes


@lru_cache(maxsize=64)
def lazily(operation: str, levels: int, signed: bool, module: MetalBackend) -> Any:
    """f(weight (I, O), spikes (R, I)) -> sums (R, O), and the spikes as words, all lazy."""

    def forward(weight: mx.array, spikes: mx.array) -> tuple[mx.array, mx.array]:
        words = mx.array(module.words(spikes, levels, signed, _CODE))
        return mx.array(module.sums_of(words, levels, signed, _CODE, weight)), words

    def backward(primals: Any, cotangents: Any, outputs: Any) -> list[mx.array]:
        weight, gradient = primals[0], cotangents[0]
        arguments = (outputs[1], levels, signed, _CODE, weight.shape[0], gradient)
        return [mx.array(module.gradient(*arguments)), gradient @ weight.T]

    return differentiable(operation, forward, backward)
