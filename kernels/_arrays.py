"""MLX arrays seen by Numba: zero-copy views, and outputs that a kernel writes into."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


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
