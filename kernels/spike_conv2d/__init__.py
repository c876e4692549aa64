"""Two-dimensional convolution of spikes, by additions only."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from neurosim.kernels._arrays import given, is_a
from neurosim.kernels._dispatch import choose
from neurosim.kernels._metal import metal_backends
from neurosim.kernels._threads import check_threads
from neurosim.kernels._training import constant, known
from neurosim.kernels.packed import PackedSpikes
from neurosim.kernels.spike_conv2d import cpu, metal, reference
from neurosim.kernels.spike_conv2d._geometry import Pair, geometry, pair
from neurosim.kernels.spike_linear import PackedWeight

__all__ = ["BACKENDS", "spike_conv2d"]

BACKENDS: dict[str, Any] = {"cpu": cpu, "reference": reference, **metal_backends(metal)}
_INT32_MAX = 2**31 - 1


def spike_conv2d(
    spikes: PackedSpikes,
    weight: npt.NDArray[Any] | mx.array | PackedWeight,
    stride: int | Pair = 1,
    padding: int | Pair | str = 0,
    dilation: int | Pair = 1,
    kernel: int | Pair | None = None,
    algo: str = "auto",
    backend: str = "auto",
    threads: int = 1,
) -> Any:
    """Convolve images of spikes: add the weights of what spiked under the kernel.

        out[y, x, o] = sum over i, j, c of
            spikes[y stride + i dilation - padding, x stride + j dilation - padding, c]
            weight[i, j, c, o]

    It is `spike_linear` of the neighbourhoods, whose bits are copied, not their floats: rows of
    kh kw C bits, tap after tap, and lists of the set ones made once per pixel. Sums of integer
    weights are exact. Sums of floats by "gather" have the same bits on every backend: they are
    made in the order of `spike_linear`, neighbourhoods read from the first tap to the last.

    Args:
        spikes: (..., H, W, C).
        weight: float32 or int8 (kh, kw, C, O); or, with `kernel`, a PackedWeight of it as
            (kh kw C, O), which saves packing it at every call.
        stride, padding, dilation: one number, or (vertical, horizontal); padding may be "same".
        kernel: (kh, kw), or one number for both; for a PackedWeight only.
        algo: "gather", "lut", "dense" or "auto", as in `spike_linear`; "lut" and "dense" on the CPU
            only.
        backend: "auto", "cpu" (Numba), "reference" (numpy), "metal" (the GPU, automatic for MLX
            weights) or "metal-emulated".
        threads: of the CPU backend; the result has the same bits for any number.

    Returns:
        int32 for integer weights, float32 for float weights, (..., H', W', O); an MLX array where
        the weight is one, without a gradient: that has `trainable_conv2d`.
    """
    if not isinstance(spikes, PackedSpikes) or len(spikes.shape) < 3:
        got = spikes.shape if isinstance(spikes, PackedSpikes) else type(spikes).__name__
        raise ValueError(
            f"expected PackedSpikes of shape (..., H, W, C), got {got}; make them with pack"
        )
    mlx = known("spike_conv2d", weight)
    taps, stored = _taps(weight, kernel)
    if stored.shape[0] != taps[0] * taps[1] * spikes.size:
        raise ValueError(
            f"expected weights ({taps[0]} x {taps[1]} x {spikes.size} channels, O), got "
            f"{stored.shape}; weights are (kh, kw, channels, outputs)"
        )
    if stored.integer and stored.shape[0] * spikes.levels << (stored.bits - 1) > _INT32_MAX:
        raise ValueError(
            f"expected sums within int32, got {stored.shape[0]} inputs of counts up to "
            f"{spikes.levels} and {stored.bits}-bit weights; split the channels"
        )
    if algo not in ("auto", *cpu.ALGORITHMS):
        raise ValueError(f"expected algo auto, {', '.join(cpu.ALGORITHMS)}; got {algo!r}")
    check_threads(threads)
    view = geometry(spikes.shape, taps, stride, padding, dilation)
    module = choose("spike_conv2d", backend, BACKENDS, spikes, stored, view, mlx=mlx)
    if module is cpu:
        sums = cpu.product(spikes, stored, view, algo, threads)
    elif algo not in ("auto", "gather") or threads != 1:
        raise ValueError(
            f"expected algo 'gather' and 1 thread on backend {backend!r}, got {algo!r} and "
            f"{threads}; only the CPU has others"
        )
    else:
        sums = module.spike_conv2d(spikes, stored, view)
    shape = (*spikes.shape[:-3], *view.output, stored.shape[1])
    if mlx:
        found = mx.reshape(sums if isinstance(sums, mx.array) else mx.array(sums), shape)
        return constant("spike_conv2d", "use trainable_conv2d", found, weight)
    return np.asarray(sums).reshape(shape)


def _taps(weight: Any, kernel: int | Pair | None) -> tuple[Pair, PackedWeight]:
    """(kh, kw), and the weights as (kh kw C, O)."""
    if isinstance(weight, PackedWeight):
        if kernel is None:
            raise ValueError("expected kernel=(kh, kw) with a PackedWeight, got None")
        return pair(kernel, "kernel", 1), weight
    if kernel is not None:
        raise ValueError("expected kernel= with a PackedWeight only; an array has its own shape")
    values = given(weight)
    if values.ndim != 4 or not is_a(values, "int8", "float32") or min(values.shape[:2]) < 1:
        raise ValueError(
            f"expected int8 or float32 weights of shape (kh, kw, C, O), got {values.dtype} "
            f"{values.shape}; convert with astype"
        )
    values = np.asarray(values)
    height, width, channels, outputs = values.shape
    flat = values.reshape(height * width * channels, outputs)
    return (height, width), PackedWeight.pack(flat, 8 * values.dtype.itemsize)
