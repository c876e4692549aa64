"""Spikes, transposed, times a gradient: what a weight matrix learns."""

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
from neurosim.kernels.grad_weight import cpu, metal, reference
from neurosim.kernels.packed import PackedSpikes, pack

__all__ = ["BACKENDS", "grad_weight"]

BACKENDS: dict[str, Any] = {"cpu": cpu, "reference": reference, **metal_backends(metal)}


def grad_weight(
    spikes: npt.NDArray[np.int8] | mx.array | PackedSpikes,
    gradient: npt.NDArray[np.float32] | mx.array,
    algo: str = "auto",
    backend: str = "auto",
    threads: int = 1,
) -> Any:
    """Gradient of the weights of `spike_linear`: out[i, o] = sum_l spikes[l, i] gradient[l, o].

    It is `spike_linear` of the transposed spikes with the gradient as the weights, by the same
    kernels and additions only; see there for the algorithms. A gradient of inputs, gradient times
    transposed weights, has no spikes in it and stays a dense product.

    Args:
        spikes: signed counts, int8, (L, I), or PackedSpikes (..., I).
        gradient: of the result, float32, finite ("dense" multiplies it by the zeros of silent
            neurons too), (L, O) or (..., O).
        algo: "auto", "gather", "lut" or "dense"; backends other than "cpu" have one algorithm,
            which "gather" asks for too (the reference sums in float64).
        backend: "auto", "cpu" (Numba), "reference" (numpy), "metal" (the GPU, automatic for MLX
            arrays) or "metal-emulated".
        threads: of the CPU backend; the result has the same bits for any number.

    Returns:
        float32 (I, O), summed in float32; an MLX array where spikes or gradient are one.
    """
    mlx = known("grad_weight", spikes, gradient)
    packed = _packed(spikes)
    values = given(gradient)
    expected = packed.shape[:-1]
    if not is_a(values, "float32") or values.ndim < 2 or tuple(values.shape[:-1]) != expected:
        raise ValueError(
            f"expected a float32 gradient of shape {(*expected, 'O')} for spikes {packed.shape}, "
            f"got {values.dtype} {values.shape}"
        )
    if algo not in ("auto", *cpu.ALGORITHMS):
        raise ValueError(f"expected algo auto, {', '.join(cpu.ALGORITHMS)}; got {algo!r}")
    check_threads(threads)
    flat = np.ascontiguousarray(values).reshape(packed.rows, values.shape[-1])
    module = choose("grad_weight", backend, BACKENDS, packed, flat, mlx=mlx)
    if module is cpu:
        out: Any = cpu.product(packed, flat, algo, threads)
    elif algo not in ("auto", "gather") or threads != 1:
        raise ValueError(
            f"expected algo 'gather' and 1 thread on backend {backend!r}, got {algo!r} and "
            f"{threads}; only the CPU has others"
        )
    else:
        code = (packed.levels, packed.signed, packed.code)
        out = module.grad_weight(packed.words, *code, packed.size, flat)
    if mlx:
        found = out if isinstance(out, mx.array) else mx.array(out)
        return constant("grad_weight", "it is one", found, spikes, gradient)
    return np.asarray(out)


def _packed(spikes: Any) -> PackedSpikes:
    if isinstance(spikes, PackedSpikes):
        return spikes
    counts = given(spikes)
    if not is_a(counts, "int8") or counts.ndim != 2:
        raise ValueError(
            f"expected int8 spike counts of shape (L, I), got {counts.dtype} {counts.shape}; "
            "convert with astype(np.int8), and add a token axis to a single row"
        )
    counts = np.asarray(counts)
    low, high = int(counts.min(initial=0)), int(counts.max(initial=0))
    if low == -128:
        raise ValueError("expected counts -127..127, got -128, which cannot be packed; clip them")
    return pack(counts, max(1, -low, high), low < 0)
