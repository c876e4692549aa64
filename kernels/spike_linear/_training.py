"""Spike linear as an MLX function with a gradient."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from neurosim.kernels._arrays import Output
from neurosim.kernels._dispatch import choose
from neurosim.kernels._metal import MetalBackend, metal_backends
from neurosim.kernels._training import differentiable, values
from neurosim.kernels.packed import PackedSpikes
from neurosim.kernels.spike_linear import metal
from neurosim.kernels.spike_linear._sparse import Rows, listed
from neurosim.kernels.spike_linear._training_metal import lazily

Floats = npt.NDArray[np.float32]
Data = npt.NDArray[Any] | PackedSpikes
_LARGEST = 127
_BACKENDS: dict[str, Any] = {"cpu": None, **metal_backends(metal)}
LISTED_SHARE = 0.3
"""Share of a matrix that may be nonzero for lists to beat BLAS; measured at 1024 x 512 x 512."""


@dataclass(frozen=True)
class Left:
    """The left factor (R, C) of a product: what is not 0 in it, or all of it where that is much."""

    dense: Floats
    rows: Rows | None

    @classmethod
    def of(cls, dense: Floats) -> Left:
        return cls(dense, listed(dense, LISTED_SHARE))

    def times(self, right: Floats, out: Floats) -> None:
        """Fill out (R, N) with self times right (C, N)."""
        if self.rows is not None:
            self.rows.times(right, out)
        else:
            np.matmul(self.dense, right, out=out)

    def times_transposed(self, right: Floats, out: Floats) -> None:
        """Fill out (R, N) with self times the transpose of right (N, C)."""
        if self.rows is not None:
            self.rows.times(right, out, transposed=True)
        else:
            np.matmul(self.dense, right.T, out=out)

    def transposed_times(self, right: Floats, out: Floats) -> None:
        """Add the transpose of self times right (R, N) to out (C, N), which is 0."""
        if self.rows is not None:
            self.rows.transposed_times(right, out)
        else:
            np.matmul(self.dense.T, right, out=out)


def rows_of(array: Floats) -> Floats:
    """(..., N) as (R, N)."""
    rows = int(np.prod(array.shape[:-1], dtype=np.int64))
    return array.reshape(rows, array.shape[-1])


def training_backend(
    operation: str, backend: str, levels: int | None, spikes: Any, weight: mx.array
) -> MetalBackend | None:
    """The Metal backend that was asked for, or None for the CPU."""
    gpu = backend == "auto" and levels is not None and mx.default_device() == mx.gpu
    module = choose(operation, backend, _BACKENDS, spikes, weight, mlx=gpu)
    found = module if isinstance(module, MetalBackend) else None
    unknown = found is not None and isinstance(spikes, mx.array)
    right = isinstance(levels, Integral) and 1 <= levels <= _LARGEST
    if not right and (unknown or levels is not None):
        raise ValueError(
            f"{operation}: expected levels 1..{_LARGEST}, the largest count, which backend "
            f"{backend!r} cannot look for in an MLX array, got {levels!r}"
        )
    return found


def _range(operation: str, counts: Floats) -> tuple[int, bool]:
    """Levels of known counts, and whether any is negative."""
    low, high = float(counts.min(initial=0)), float(counts.max(initial=0))
    if not max(-low, high) <= _LARGEST or (counts != np.rint(counts)).any():
        raise ValueError(
            f"{operation}: expected whole counts -{_LARGEST}..{_LARGEST} on Metal, got {low:g}.."
            f"{high:g}; use backend='cpu' for other values"
        )
    return max(1, int(-low), int(high)), low < 0


def data(operation: str, spikes: mx.array | Data, weight: mx.array, axes: int) -> Left | None:
    """Check the arguments; spikes that are data, listed once, or None for an MLX array."""
    if not isinstance(weight, mx.array) or weight.dtype != mx.float32 or weight.ndim != 2:
        kind = weight.dtype if isinstance(weight, mx.array) else type(weight).__name__
        raise ValueError(
            f"{operation}: expected a float32 MLX weight (I, O), got {kind} "
            f"{tuple(getattr(weight, 'shape', ()))}"
        )
    if len(spikes.shape) < axes or spikes.shape[-1] != weight.shape[0]:
        raise ValueError(
            f"{operation}: expected spikes ({'T, ' if axes > 1 else ''}..., {weight.shape[0]}) for "
            f"weights (I, O) = {tuple(weight.shape)}, got {tuple(spikes.shape)}"
        )
    if isinstance(spikes, PackedSpikes):
        return Left.of(rows_of(np.asarray(spikes.unpack(np.float32), np.float32)))
    if isinstance(spikes, np.ndarray):
        return Left.of(rows_of(np.ascontiguousarray(spikes, np.float32)))
    if spikes.dtype != mx.float32:
        raise ValueError(f"{operation}: expected float32 spikes, got {spikes.dtype}; use astype")
    return None


def trainable_linear(
    spikes: mx.array | Data,
    weight: mx.array,
    backend: str = "auto",
    levels: int | None = None,
    signed: bool = False,
) -> mx.array:
    """spikes @ weight for training: listed products while the spikes are sparse, else BLAS.

        out = s W,    dW = s^T g,    ds = g W^T

    Works in `mx.grad` and `nn.value_and_grad`. mx.vmap, mx.jvp and second derivatives are refused,
    on the CPU also mx.compile. The dense products are numpy's, whatever BLAS MLX uses. On Metal out
    and dW are sums of rows by `spike_linear` and `grad_weight`, and ds is MLX's product.

    Args:
        spikes: counts, a float32 MLX array (..., I); or data, numpy or PackedSpikes, which get no
            gradient and so save its product.
        weight: float32 MLX array, (I, O).
        backend: "cpu" (Numba, one thread), "metal" or "metal-emulated"; "auto" is Metal where the
            default device of MLX is a GPU and `levels` is given, else the CPU.
        levels, signed: for Metal and an MLX array, of which it reads no value before it is needed:
            the largest count, and whether counts may be negative. Others are not looked for, and
            count as 0. Of data both are known.

    Returns:
        float32, (..., O).
    """
    name = "spike_linear"
    given = data(name, spikes, weight, 1)
    shape = (*spikes.shape[:-1], weight.shape[1])
    module = training_backend(name, backend, levels, spikes, weight)
    if module is not None:
        if given is None:
            counts: Any = spikes
        else:
            counts = given.dense
            levels, signed = _range(name, given.dense)
        rows = mx.array(counts).reshape(math.prod(shape[:-1]), weight.shape[0])
        sums, _ = lazily(name, int(levels or 0), bool(signed), module)(weight, rows)
        return sums.reshape(shape)  # type: ignore[no-any-return]
    kept = [] if given is None else [given]

    def forward(weight: mx.array, *spikes: mx.array) -> tuple[mx.array]:
        right = values(name, weight)
        if spikes:
            kept[:] = [Left.of(rows_of(values(name, spikes[0])))]
        out = Output(shape)
        kept[0].times(right, rows_of(out.view))
        return (out.array,)

    def backward(primals: Any, cotangents: Any, outputs: Any) -> list[mx.array]:
        right, gradient = values(name, primals[0]), rows_of(values(name, cotangents[0]))
        learnt, *below = (Output(x.shape, zeros=i == 0) for i, x in enumerate(primals))
        kept[0].transposed_times(gradient, learnt.view)
        for found in below:
            Left.of(gradient).times_transposed(right, rows_of(found.view))
        return [found.array for found in (learnt, *below)]

    primals = [weight] if given is not None else [weight, spikes]
    (out,) = differentiable(name, forward, backward)(*primals)
    return out  # type: ignore[no-any-return]
