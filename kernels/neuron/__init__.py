"""Integer neurons: fused for training (normalise, round, straight-through), and folded."""

from __future__ import annotations

import math
from functools import lru_cache
from numbers import Integral
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from neurosim.kernels._arrays import Output
from neurosim.kernels._dispatch import choose
from neurosim.kernels._metal import metal_backends
from neurosim.kernels._training import differentiable, values
from neurosim.kernels.neuron import cpu, metal, reference

__all__ = ["BACKENDS", "batch_norm_spikes", "fixed_norm_spikes", "integer_spikes"]

BACKENDS: dict[str, Any] = {"cpu": cpu, "reference": reference, **metal_backends(metal)}
"""Of `integer_spikes`; the trained forms run on the CPU only, as parts of MLX graphs."""
_INT64_MAX = 2**63 - 1


_NORM, _FIXED = "batch_norm_spikes", "fixed_norm_spikes"


@lru_cache
def _training(levels: int, signed: bool) -> Any:
    def forward(x: mx.array, log_gain: mx.array, shift: mx.array) -> tuple[mx.array, ...]:
        gains, shifts = values(_NORM, log_gain), values(_NORM, shift)
        rows = values(_NORM, x).reshape(-1, gains.size)
        out, mean, variance = Output(x.shape), np.empty_like(gains), np.empty_like(gains)
        cpu.statistics(rows, mean, variance)
        scale = np.exp(gains) / np.sqrt(variance + reference.EPSILON)
        offset = shifts - mean * scale
        cpu.spikes(rows, scale, offset, levels, signed, out.view.reshape(rows.shape))
        return out.array, mx.array(mean), mx.array(variance)

    def backward(primals: Any, cotangents: Any, outputs: Any) -> tuple[mx.array, ...]:
        x, log_gain, shift = primals
        dx, dlog_gain, dshift = (Output(array.shape) for array in primals)
        rows = values(_NORM, x).reshape(-1, dshift.view.size)
        cpu.backward(
            values(_NORM, cotangents[0]).reshape(rows.shape),
            rows,
            np.asarray(outputs[1]),
            np.asarray(1 / np.sqrt(np.asarray(outputs[2]) + reference.EPSILON), np.float32),
            np.exp(values(_NORM, log_gain)),
            values(_NORM, shift),
            -levels - 0.5 if signed else -0.5,
            levels + 0.5,
            dx.view.reshape(rows.shape),
            dlog_gain.view,
            dshift.view,
        )
        return dx.array, dlog_gain.array, dshift.array

    return differentiable(_NORM, forward, backward)


def _check_norm(x: mx.array, levels: int, **parameters: mx.array) -> None:
    """The kernels read as many parameters as x has channels, unchecked."""
    if x.dtype != mx.float32 or x.ndim < 2 or not x.size:
        raise ValueError(
            "expected an MLX float32 x (..., N) with a leading axis and no axis of 0, got "
            f"{x.dtype} {tuple(x.shape)}"
        )
    for name, array in parameters.items():
        if array.dtype != mx.float32 or array.shape != x.shape[-1:]:
            raise ValueError(
                f"expected an MLX float32 {name} of shape ({x.shape[-1]},), one per channel of x, "
                f"got {array.dtype} {tuple(array.shape)}"
            )
    _check_levels(levels)


def _check_levels(levels: int) -> None:
    if not isinstance(levels, Integral) or not 1 <= levels <= 127:
        raise ValueError(f"expected 1 to 127 levels (spikes are int8), got {levels!r}")


def batch_norm_spikes(
    x: mx.array, log_gain: mx.array, shift: mx.array, levels: int, signed: bool
) -> tuple[mx.array, mx.array, mx.array]:
    """Batch normalisation and the integer neuron in one, with a straight-through gradient.

    n = round((x - mean) / sqrt(variance + 1e-5) exp(log_gain) + shift), half away from zero,
    clipped to 0..levels (or -levels..levels). The gradient passes unchanged where n is not clipped.
    Works inside `mx.grad` and `nn.value_and_grad`; mx.compile, mx.vmap, mx.jvp and second
    derivatives are refused.

    Args:
        x: float32 (..., N), not empty; statistics are taken over all leading axes.
        log_gain, shift: float32 (N,), in spikes.
        levels: the most spikes of one neuron, 1..127.
        signed: an ON and an OFF neuron per channel.

    Returns:
        spikes (..., N) as float32, batch mean (N,), batch variance (N,) (no gradient for the last
        two).
    """
    _check_norm(x, levels, log_gain=log_gain, shift=shift)
    spikes, mean, variance = _training(int(levels), bool(signed))(x, log_gain, shift)
    return spikes, mx.stop_gradient(mean), mx.stop_gradient(variance)


def fixed_norm_spikes(
    x: mx.array, scale: mx.array, offset: mx.array, levels: int, signed: bool
) -> mx.array:
    """The same neuron with fixed statistics: n = round(x scale + offset); no gradient.

    Args:
        x: float32 (..., N), not empty.
        scale, offset: float32 (N,).

    Returns:
        spikes (..., N), float32.
    """
    _check_norm(x, levels, scale=scale, offset=offset)
    rows = values(_FIXED, x).reshape(-1, x.shape[-1])
    scales, offsets = values(_FIXED, scale), values(_FIXED, offset)
    out = Output(x.shape)
    cpu.spikes(rows, scales, offsets, levels, signed, out.view.reshape(rows.shape))
    return out.array


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
        half_threshold, bias: integers (N,), h > 0; a neuron fires at h, 3h, 5h, ... (module
            network). Sums of charge and bias must fit int64.
        levels, signed: as above.
        backend: "auto", "cpu" (Numba, one thread), "reference" (numpy), "metal" or
            "metal-emulated".

    Returns:
        int8 (..., N).
    """
    named = {"charge": charge, "half_threshold": half_threshold, "bias": bias}
    arrays = [_integers(name, array) for name, array in named.items()]
    charges, halves, biases = arrays
    if biases.ndim != 1 or charges.shape[-1:] != biases.shape or halves.shape != biases.shape:
        raise ValueError(
            f"expected charge (..., N) with thresholds and biases (N,), got {charges.shape}, "
            f"{halves.shape} and {biases.shape}"
        )
    _check_levels(levels)
    most = _INT64_MAX // (2 * int(levels) + 2)  # the kernels compare with (2 levels + 1) h
    if not 0 < halves.min(initial=1) <= halves.max(initial=1) <= most:
        raise ValueError(
            f"expected half thresholds 1..{most}, got {halves.min()}..{halves.max()}; a neuron "
            "that never fires has a large one"
        )
    shape = charges.shape
    arrays[0] = charges.reshape(math.prod(shape[:-1]), shape[-1])
    module = choose("integer_spikes", backend, BACKENDS)
    out: npt.NDArray[np.int8] = np.asarray(
        module.integer_spikes(*arrays, int(levels), bool(signed))
    )
    return out.reshape(shape)


def _integers(name: str, array: Any) -> npt.NDArray[np.int64]:
    """Row-major int64; floats would lose their fractions."""
    whole = np.asarray(array)
    if whole.dtype.kind not in "biu" or whole.dtype == np.uint64:
        raise ValueError(
            f"expected an integer {name} that fits int64, got {whole.dtype}; round and convert it "
            "with astype(np.int64)"
        )
    return np.ascontiguousarray(whole, np.int64)
