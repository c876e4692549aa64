"""MLX arrays seen by numpy and Numba: zero-copy views, and outputs that a kernel writes into."""

from __future__ import annotations

import math
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from neurosim.kernels._aligned import aligned

Floats = npt.NDArray[np.float32]
_KINDS: dict[str, tuple[Any, Any]] = {
    "int8": (np.dtype(np.int8), mx.int8),
    "float32": (np.dtype(np.float32), mx.float32),
}
"""Of numpy and of MLX."""
_COPIED = 1 << 22  # bytes up to which a copy is cheaper than MLX's own thread


class Output:
    """A float32 result on its way to MLX: a kernel fills `view`, then `array` is asked for.

    MLX makes an array on a thread of its own, which costs more than copying a small one: those are
    filled in numpy's memory and copied. Large ones are filled in MLX's, which it keeps for reuse.

    Args:
        shape: of the result.
        zeros: whether `view` starts as zeros; else it holds anything.
    """

    def __init__(self, shape: tuple[int, ...], zeros: bool = False) -> None:
        size = 4 * math.prod(shape)
        self._array: mx.array | None = None
        if size <= _COPIED:
            self.view: Floats = aligned(shape, np.float32)
            if zeros:
                self.view.fill(0)
            return
        *lead, last = shape
        self._array = mx.zeros((*lead, 4 * last), mx.int8).view(mx.float32)  # of bytes: a memset
        mx.eval(self._array)
        self.view = np.asarray(self._array)

    @property
    def array(self) -> mx.array:
        """The result as MLX's; `view` may be written no more."""
        return mx.array(self.view) if self._array is None else self._array


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
