"""MLX arrays seen by numpy and Numba: zero-copy views, and outputs that a kernel writes into."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
_KINDS: dict[str, tuple[Any, Any]] = {
    "int8": (np.dtype(np.int8), mx.int8),
    "float32": (np.dtype(np.float32), mx.float32),
}
"""Of numpy and of MLX."""


def new_output(shape: tuple[int, ...]) -> tuple[mx.array, Floats]:
    """A fresh float32 MLX array and a writable numpy view of its buffer."""
    array = mx.zeros(shape, mx.float32)
    mx.eval(array)
    return array, np.asarray(array)


def new_outputs(*shapes: tuple[int, ...]) -> list[tuple[mx.array, Floats]]:
    """The same for several; MLX fills them together."""
    arrays = [mx.zeros(shape, mx.float32) for shape in shapes]
    mx.eval(*arrays)
    return [(array, np.asarray(array)) for array in arrays]


def contiguous(x: mx.array, shape: tuple[int, ...]) -> Floats:
    """The values of x in row-major order, reshaped; a view where its layout allows."""
    return np.ascontiguousarray(np.asarray(x)).reshape(shape)


def host(x: Any) -> npt.NDArray[Any]:
    """The values as numpy; bfloat16, which numpy lacks, exactly as float32."""
    if isinstance(x, mx.array) and x.dtype == mx.bfloat16:
        x = x.astype(mx.float32)
    return np.asarray(x)


def given(x: Any) -> Any:
    """An argument as an array of its own kind: MLX stays, anything else becomes numpy."""
    return x if isinstance(x, mx.array) else np.asarray(x)


def is_a(x: Any, *kinds: str) -> bool:
    """Whether the elements of an array of either kind have one of these types, in native order."""
    mlx = isinstance(x, mx.array)
    return any(x.dtype == _KINDS[kind][mlx] for kind in kinds)
