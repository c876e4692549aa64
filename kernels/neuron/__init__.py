"""Integer neurons: fused for training (normalise, round, straight-through), and folded."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from neurosim.kernels._arrays import contiguous, new_output
from neurosim.kernels._dispatch import choose
from neurosim.kernels._metal import metal_backends
from neurosim.kernels.neuron import cpu, metal, reference

__all__ = ["BACKENDS", "batch_norm_spikes", "fixed_norm_spikes", "integer_spikes"]

BACKENDS: dict[str, Any] = {"cpu": cpu, "reference": reference, **metal_backends(metal)}
"""Of `integer_spikes`; the trained forms run on the CPU only, as parts of MLX graphs."""


def _rows(x: mx.array) -> npt.NDArray[np.float32]:
    return contiguous(x, (-1, x.shape[-1]))


@lru_cache
def _training(levels: int, signed: bool) -> Any:
    @mx.custom_function
    def forward(x: mx.array, log_gain: mx.array, shift: mx.array) -> tuple[mx.array, ...]:
        rows = _rows(x)
        out, out_view = new_output(x.shape)
        mean, mean_view = new_output(log_gain.shape)
        variance, variance_view = new_output(log_gain.shape)
        cpu.statistics(rows, mean_view, variance_view)
        scale = np.exp(np.asarray(log_gain)) / np.sqrt(variance_view + reference.EPSILON)
        offset = np.asarray(shift) - mean_view * scale
        cpu.spikes(rows, scale, offset, levels, signed, out_view.reshape(rows.shape))
        return out, mean, variance

    @forward.vjp
    def backward(primals: Any, cotangents: Any, outputs: Any) -> tuple[mx.array, ...]:
        x, log_gain, shift = primals
        rows, gradient = _rows(x), _rows(cotangents[0])
        dx, dx_view = new_output(x.shape)
        dlog_gain, dlog_gain_view = new_output(log_gain.shape)
        dshift, dshift_view = new_output(shift.shape)
        cpu.backward(
            gradient,
            rows,
            np.asarray(outputs[1]),
            np.asarray(1 / np.sqrt(np.asarray(outputs[2]) + reference.EPSILON), np.float32),
            np.exp(np.asarray(log_gain)),
            np.asarray(shift),
            -levels - 0.5 if signed else -0.5,
            levels + 0.5,
            dx_view.reshape(rows.shape),
            dlog_gain_view,
            dshift_view,
        )
        return dx, dlog_gain, dshift

    return forward


def batch_norm_spikes(
    x: mx.array, log_gain: mx.array, shift: mx.array, levels: int, signed: bool
) -> tuple[mx.array, mx.array, mx.array]:
    """Batch normalisation and the integer neuron in one, with a straight-through gradient.

    n = round((x - mean) / sqrt(variance + 1e-5) exp(log_gain) + shift), half away from zero,
    clipped to 0..levels (or -levels..levels). The gradient passes unchanged where n is not clipped.
    Works inside `mx.grad` and `nn.value_and_grad`; not inside `mx.compile` or `mx.vmap`.

    Args:
        x: float32 (..., N); statistics are taken over all leading axes.
        log_gain, shift: float32 (N,), in spikes.
        levels: the most spikes of one neuron.
        signed: an ON and an OFF neuron per channel.

    Returns:
        spikes (..., N) as float32, batch mean (N,), batch variance (N,) (no gradient for the last
        two).
    """
    if x.ndim < 2 or x.shape[-1] != log_gain.shape[0]:
        raise ValueError(
            f"expected x (..., {log_gain.shape[0]}) with a leading axis, got {tuple(x.shape)}"
        )
    spikes, mean, variance = _training(levels, signed)(x, log_gain, shift)
    return spikes, mx.stop_gradient(mean), mx.stop_gradient(variance)


def fixed_norm_spikes(
    x: mx.array, scale: mx.array, offset: mx.array, levels: int, signed: bool
) -> mx.array:
    """The same neuron with fixed statistics: n = round(x scale + offset); no gradient.

    Args:
        x: float32 (..., N).
        scale, offset: float32 (N,).

    Returns:
        spikes (..., N), float32.
    """
    rows = _rows(x)
    out, view = new_output(x.shape)
    cpu.spikes(
        rows, np.asarray(scale), np.asarray(offset), levels, signed, view.reshape(rows.shape)
    )
    return out


def integer_spikes(
    charge: npt.NDArray[np.integer],
    half_threshold: npt.NDArray[np.integer],
    bias: npt.NDArray[np.integer],
    levels: int,
    signed: bool,
    backend: str = "auto",
) -> npt.NDArray[np.int8]:
    """Spikes of a folded bank: integers in, integers out, compare and add only.

    Args:
        charge: integers (..., N) in weight units.
        half_threshold, bias: integers (N,); a neuron fires at h, 3h, 5h, ... (module network).
        levels, signed: as above.
        backend: "auto", "cpu" (Numba, one thread), "reference" (numpy), "metal" or
            "metal-emulated".

    Returns:
        int8 (..., N).
    """
    if charge.shape[-1:] != bias.shape or half_threshold.shape != bias.shape:
        raise ValueError(
            f"expected charge (..., N) with thresholds and biases (N,), got {charge.shape}, "
            f"{half_threshold.shape} and {bias.shape}"
        )
    if not 1 <= levels <= 127:
        raise ValueError(f"expected 1 to 127 levels (spikes are int8), got {levels}")
    arrays: list[npt.NDArray[np.int64]] = [
        np.ascontiguousarray(x, np.int64) for x in (charge, half_threshold, bias)
    ]
    arrays[0] = arrays[0].reshape(math.prod(charge.shape[:-1]), charge.shape[-1])
    module = choose("integer_spikes", backend, BACKENDS)
    out: npt.NDArray[np.int8] = np.asarray(module.integer_spikes(*arrays, levels, signed))
    return out.reshape(charge.shape)
