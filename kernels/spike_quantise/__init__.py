"""Activations as signed spike counts: the parallel neuron."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from neurosim.kernels._arrays import given, host
from neurosim.kernels._dispatch import choose
from neurosim.kernels._metal import metal_backends
from neurosim.kernels._training import constant, known
from neurosim.kernels.spike_quantise import cpu, metal, mlx, reference
from neurosim.kernels.spike_quantise.reference import RampNeuron, spike_count

__all__ = ["BACKENDS", "RampNeuron", "spike_count", "spike_quantise"]

BACKENDS: dict[str, Any] = {
    "cpu": cpu,
    "mlx": mlx,
    "reference": reference,
    **metal_backends(metal),
}
_SCALES = ("token", "tensor")
_NUMPY = (np.float16, np.float32, np.float64)
_MLX = (mx.float16, mx.bfloat16, mx.float32)


def spike_quantise(
    x: npt.NDArray[Any] | mx.array,
    bits: int = 8,
    scale: str | float | npt.NDArray[Any] | mx.array = "token",
    backend: str = "auto",
) -> tuple[Any, Any]:
    """Signed spike counts of neurons driven by x: x is about counts * scales.

    A neuron whose threshold rises by 1 a step from 1/2, reset at every step, under the constant
    drive v = x / s, spikes in its first |n| of T = 2^(bits - 1) - 1 steps, with the sign of v:

        n = sign(v) min(T, floor(|v| + 1/2)),   s = max |x| / T

    The maximum and both quotients are rounded to the type of x; n is exact, a half away from zero.
    Where s would be 0 (all x are 0, or so small that max / T underflows) s is 1 and n is 0.

    Args:
        x: finite, (..., N), numpy float16, float32 or float64, or MLX float16, bfloat16 or float32.
        bits: 2 to 8.
        scale: "token", one scale per row of N; "tensor", one for all of x; or positive numbers
            that broadcast to x and are taken as they are, so that larger x saturate at +-T.
        backend: "auto" (numpy: Numba for float32 and float64; MLX: the GPU if there is one), "cpu",
            "mlx" (element-wise MLX operations), "reference" (numpy), "metal", "metal-emulated".
            The same counts and scales from all; a GPU takes subnormal numbers as 0.

    Returns:
        counts int8 in the shape of x; scales in the type of x: (..., 1) for "token", () for
        "tensor", else those given. MLX arrays if x is one.

    Raises:
        ValueError: NaN or infinity in x (looking for them computes an MLX array; the function
            `mlx.spike_quantise` does not look and stays lazy), wrong types, shapes or scales.

    Reference: the EI-IF neuron and Synapsis of BrainTransformers (arXiv 2410.14687, 2024).
    """
    values = given(x)
    on_mlx = known("spike_quantise", values, scale)
    _check(values, bits, scale, on_mlx)
    fixed = scale if isinstance(scale, str) else _fixed(scale, values, on_mlx)
    module = choose("spike_quantise", backend, BACKENDS, values, fixed, mlx=on_mlx)
    if on_mlx and module in (cpu, reference):
        values = host(values)
        fixed = fixed if isinstance(fixed, str) else host(fixed)
    counts, scales, finite = module.spike_quantise(values, (1 << (bits - 1)) - 1, fixed)
    if not bool(finite):
        raise ValueError(
            "expected finite values, got NaN or infinity, of which there is no spike count"
        )
    if on_mlx:
        if module is mlx:
            return counts, scales
        found = constant("spike_quantise", 'use backend="mlx"', mx.array(scales), x, scale)
        return mx.array(counts), found
    return np.asarray(counts), np.asarray(scales)


def _check(values: Any, bits: int, scale: Any, on_mlx: bool) -> None:
    if values.ndim == 0 or values.dtype not in (_MLX if on_mlx else _NUMPY):
        raise ValueError(
            f"expected floats of shape (..., N), got {values.dtype} {tuple(values.shape)}; convert "
            "with astype"
        )
    if isinstance(scale, str) and scale not in _SCALES:
        raise ValueError(f"expected scale token, tensor or numbers, got {scale!r}")
    if bits not in range(2, 9):
        raise ValueError(f"expected 2 to 8 bits, got {bits!r}")


def _fixed(scale: Any, values: Any, on_mlx: bool) -> Any:
    """Given scales as an array of the kind and type of the values."""
    if on_mlx:
        scales: Any = mx.array(scale).astype(values.dtype)
    else:
        scales = host(scale).astype(values.dtype)
    seen = host(scales)
    if not (np.isfinite(seen).all() and (seen > 0).all()):
        raise ValueError("expected positive finite scales in the type of x")
    try:
        fits = np.broadcast_shapes(seen.shape, values.shape) == tuple(values.shape)
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"expected scales that broadcast to x {tuple(values.shape)}, got {seen.shape}"
        )
    return scales
