"""Checks of arguments that many kernels share; each raises a ValueError."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.kernels._arrays import host
from neurosim.kernels._training import known


def check_type(name: str, value: Any, kind: type, hint: str) -> None:
    """Refuse what is no `kind`; `hint` says what to do."""
    if not isinstance(value, kind):
        plain = value is None or isinstance(value, str | int | float)
        came = repr(value) if plain else type(value).__name__
        raise ValueError(f"expected {name} as {kind.__name__}, got {came}; {hint}")


def type_of(dtype: npt.DTypeLike) -> np.dtype[Any]:
    """The number type meant."""
    try:
        return np.dtype(dtype)
    except TypeError:
        raise ValueError(f"expected a number type such as np.float32, got {dtype!r}") from None


def numbers(name: str, value: Any, neurons: int) -> npt.NDArray[Any]:
    """Real numbers, of shape () or (neurons,), as numpy."""
    known(f"a kernel that is given {name}", value)
    expected = f"expected a finite {name}, one number or one per neuron {(neurons,)}, got "
    try:
        array = host(value)
    except ValueError:  # a ragged list
        raise ValueError(f"{expected}{value!r:.80}") from None
    if array.dtype.kind not in "biuf" or array.shape not in ((), (neurons,)):
        came = f"{value!r:.80}" if array.ndim == 0 else f"shape {array.shape} of {array.dtype}"
        raise ValueError(expected + came)
    return array


def per_neuron(name: str, value: Any, neurons: int) -> npt.NDArray[np.float32]:
    """One number, or one per neuron, as float32 (neurons,)."""
    given = numbers(name, value, neurons)
    with np.errstate(over="ignore"):
        array = given.astype(np.float32)
    if not np.isfinite(array).all():
        came = value if array.ndim == 0 else f"infinity or NaN in float32 {array.shape}"
        raise ValueError(
            f"expected a finite {name}, one number or one per neuron {(neurons,)}, got {came}; "
            "float32 holds up to 3.4e38"
        )
    return np.ascontiguousarray(np.broadcast_to(array, (neurons,)))
