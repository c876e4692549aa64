"""Adam whose steps are relative to the size of what they change."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.optimizers as optim

_LEAST = 1e-3


class RelativeAdam(optim.Adam):
    """Adam (Kingma and Ba 2014), the rate in units of each array's root mean square at the start.

    The same ANN can be written with weights of other sizes (gains, Hadamard blocks, smoothing);
    a relative rate serves them all. What starts at 0 takes steps of the rate itself.
    """

    def __init__(self, learning_rate: float) -> None:
        super().__init__(learning_rate, betas=[0.9, 0.95], bias_correction=True)

    def init_single(self, parameter: mx.array, state: dict[str, Any]) -> None:
        """Moments, and the size."""
        super().init_single(parameter, state)
        size = mx.sqrt(mx.square(parameter).mean())
        state["size"] = mx.where(size > 0, mx.maximum(size, _LEAST), 1.0)

    def apply_single(
        self, gradient: mx.array, parameter: mx.array, state: dict[str, Any]
    ) -> mx.array:
        """The next value of a parameter."""
        moved = super().apply_single(gradient, mx.zeros_like(parameter), state)
        result: mx.array = parameter + state["size"] * moved
        return result
