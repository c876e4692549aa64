"""MLX functions whose work is done by Numba: how they read values, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NoReturn

import mlx.core as mx
import numpy as np
import numpy.typing as npt


def values(operation: str, x: mx.array) -> npt.NDArray[np.float32]:
    """The values of x, row-major; a view where its layout allows. ValueError while tracing."""
    try:
        return np.ascontiguousarray(np.asarray(x))
    except ValueError as error:
        raise _untraceable(operation) from error


def known(operation: str, *arguments: Any) -> bool:
    """Whether any argument is an MLX array; ValueError if the values of one are not known yet."""
    found = False
    for x in arguments:
        if isinstance(x, mx.array):
            found = True
            try:
                mx.eval(x)
            except (ValueError, RuntimeError) as error:
                if _TRACED not in str(error):
                    raise
                raise _untraceable(operation) from error
    return found


_TRACED = "function transformations"  # in what MLX says of arrays that have no values yet


def _untraceable(operation: str) -> ValueError:
    return ValueError(
        f"{operation} runs outside mx.compile and mx.vmap only, because the kernel reads the "
        "values; compile the parts before and after it, and give batches as leading axes"
    )


def constant(operation: str, instead: str, found: mx.array, *arguments: Any) -> mx.array:
    """`found`, of which a gradient by an MLX argument is refused, where it would silently be 0."""
    arrays = [x for x in arguments if isinstance(x, mx.array)]
    return _without_gradient(operation, instead)(found, *arrays) if arrays else found


@lru_cache
def _without_gradient(operation: str, instead: str) -> Any:
    @mx.custom_function
    def same(found: mx.array, *arrays: mx.array) -> mx.array:
        return found

    otherwise = "or mx.stop_gradient where it is meant as a constant"
    refuse = _refusal(operation, f"it has no gradient; {instead}, {otherwise}")
    same.vjp(refuse)
    same.jvp(refuse)
    return same


def differentiable(operation: str, function: Any, backward: Callable[..., Any]) -> Any:
    """`function` as an MLX function with `backward` as its vjp, and clear refusals of the rest.

    Args:
        operation: its name in errors.
        function: arrays -> tuple of arrays.
        backward: (arguments of `function`, one cotangent per output, the outputs) -> one gradient
            per argument.
    """
    second = _refusal(operation, "expected first derivatives only; a surrogate gradient has none")
    no_vmap = _refusal(operation, "expected no mx.vmap; give batches as leading axes")

    @mx.custom_function
    def forward(*arrays: mx.array) -> Any:
        return function(*arrays)

    @forward.vjp
    def _(primals: Any, cotangents: Any, outputs: Any) -> Any:
        parts = [_several(part) for part in (primals, cotangents, outputs)]
        first, middle = len(parts[0]), len(parts[0]) + len(parts[1])

        @mx.custom_function
        def gradients(*arrays: mx.array) -> Any:
            return tuple(backward(arrays[:first], arrays[first:middle], arrays[middle:]))

        gradients.vjp(second)
        gradients.jvp(second)
        gradients.vmap(no_vmap)
        return gradients(*parts[0], *parts[1], *parts[2])

    forward.jvp(_refusal(operation, "expected mx.grad or mx.vjp, got mx.jvp; spikes have none"))
    forward.vmap(no_vmap)
    return forward


def _refusal(operation: str, reason: str) -> Callable[..., NoReturn]:
    def rule(*arguments: Any) -> NoReturn:
        raise ValueError(f"{operation}: {reason}")

    return rule


def _several(arrays: Any) -> tuple[mx.array, ...]:
    """MLX passes one array bare, several in a list."""
    return tuple(arrays) if isinstance(arrays, (tuple, list)) else (arrays,)
