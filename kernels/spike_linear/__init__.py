"""Spikes times weights, by additions only."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from neurosim.kernels._arrays import given, is_a
from neurosim.kernels._checks import type_of
from neurosim.kernels._dispatch import choose
from neurosim.kernels._metal import metal_backends
from neurosim.kernels._threads import check_threads
from neurosim.kernels._training import constant, known
from neurosim.kernels.packed import PackedSpikes
from neurosim.kernels.spike_linear import cpu, metal, reference
from neurosim.kernels.spike_linear._cost import ALGORITHMS
from neurosim.kernels.spike_linear._types import Sums
from neurosim.kernels.spike_linear._weight import PackedWeight

__all__ = ["BACKENDS", "PackedWeight", "spike_linear"]

BACKENDS: dict[str, Any] = {"cpu": cpu, "reference": reference, **metal_backends(metal)}
_INT8, _FLOAT32 = np.dtype(np.int8), np.dtype(np.float32)
_INT32_MAX = 2**31 - 1


def spike_linear(
    spikes: npt.NDArray[np.int8] | mx.array | PackedSpikes,
    weight: npt.NDArray[Any] | mx.array | PackedWeight,
    algo: str = "auto",
    backend: str = "auto",
    threads: int = 1,
    out_dtype: npt.DTypeLike | None = None,
) -> Any:
    """Sum the weight rows of the inputs that spiked: out[l, o] = sum_i spikes[l, i] weight[i, o].

    Silent inputs cost nothing. A count n is not multiplied: with A_v the signed sum of the rows
    whose |n| >= v, the result is A_1 + A_2 + ... + A_max, so each row is added once and the
    running sum once per level.

    Sums of integer weights are exact. Sums of floats by "gather" have the same bits on every
    backend, however the spikes are stored, because the order is fixed: A starts at 0; from the
    largest |n| down to 1, add the rows of the inputs with n = v in ascending order, subtract those
    with n = -v in ascending order, then add A to the result. The other algorithms sum floats in an
    order of their own, the same for any number of threads. "auto" on an int8 array and float
    weights is "gather"; on PackedSpikes, ask for it where the bits matter.

    Algorithms on the CPU (Numba; spike and weight are packed for the call where they are not):

    - "gather": lists of active inputs; the cheapest up to a density of 0.1 to 0.2.
    - "lut": tables of the sums of every four weight rows, whatever the density; for counts, once
      per bit of the largest count. For many rows.
    - "pattern": binary spikes of which rows 4 k .. 4 k + 3 are the steps of one token (time
      innermost); a weight row is read once for all four. For a few rows, and spikes that repeat.
    - "dense": numpy's matrix product; integers in float32 where all sums are below 2^24, else in
      float64.
    - "auto": the least predicted time, from the sizes, the counted spikes and coefficients measured
      on one machine (`_cost.py`); logged once.

    Args:
        spikes: signed counts, int8, (L, I), or PackedSpikes (..., I).
        weight: int8 or float32, (I, O), or a PackedWeight, which saves packing it at every call.
            Floats must be finite: "dense" multiplies the weights of silent inputs too, by 0.
        algo: see above.
        backend: "auto", "cpu", "reference" (numpy), "metal" (the GPU, automatic for MLX arrays),
            "metal-emulated". Others than "cpu" have one algorithm, in the order of "gather".
        threads: of the CPU backend; the result has the same bits for any number.
        out_dtype: None for int32 (integer weights) or float32 (float weights); float32 turns
            integer sums into floats and multiplies them by the `scale` of a PackedWeight.

    Returns:
        (L, O) or (..., O); an MLX array where spikes or weight are one, without a gradient: that
        has `trainable_linear`.
    """
    if algo == backend == "auto" and threads == 1 and out_dtype is None:
        few = cpu.few_rows(spikes, weight)  # before checks that take longer than the product
        if few is not None:
            return few
    mlx = known("spike_linear", spikes, weight)
    left = _checked_spikes(spikes)
    right = _checked_weight(weight)
    _check_sizes(left, right)
    _check_options(algo, threads)
    module = choose("spike_linear", backend, BACKENDS, left, right, mlx=mlx)
    if module is cpu:
        sums = cpu.product(left, right, algo, threads)
    elif algo not in ("auto", "gather") or threads != 1:
        raise ValueError(
            f"expected algo 'gather' and 1 thread on backend {backend!r}, got {algo!r} and "
            f"{threads}; only the CPU has others"
        )
    elif isinstance(left, PackedSpikes):
        code = (left.levels, left.signed, left.code)
        sums = module.packed_linear(left.words, *code, right)
    else:
        sums = module.spike_linear(left, right)
    found = _result(sums, (*left.shape[:-1], right.shape[1]), right, out_dtype, mlx)
    return constant("spike_linear", "use trainable_linear", found, spikes, weight) if mlx else found


def _checked_spikes(spikes: Any) -> Any:
    if isinstance(spikes, PackedSpikes):
        return spikes
    counts = given(spikes)
    if not is_a(counts, "int8") or counts.ndim != 2:
        raise ValueError(
            f"expected int8 spike counts of shape (L, I), got {counts.dtype} {counts.shape}; "
            "convert with astype(np.int8), and add a token axis to a single row"
        )
    return np.ascontiguousarray(counts)


def _checked_weight(weight: Any) -> Any:
    if isinstance(weight, PackedWeight):
        return weight
    values = given(weight)
    if not is_a(values, "int8", "float32") or values.ndim != 2:
        raise ValueError(
            f"expected int8 or float32 weights of shape (I, O), got {values.dtype} {values.shape}; "
            "convert with astype, or give a PackedWeight"
        )
    return np.ascontiguousarray(values)


def _check_sizes(spikes: Any, weight: Any) -> None:
    inputs = weight.shape[0]
    if spikes.shape[-1] != inputs:
        raise ValueError(
            f"expected one weight row per input, got {spikes.shape[-1]} inputs and weights "
            f"{tuple(weight.shape)}; weights are (inputs, outputs)"
        )
    bits = weight.bits if isinstance(weight, PackedWeight) else 8 * weight.dtype.itemsize
    levels = spikes.levels if isinstance(spikes, PackedSpikes) else 128
    most = _INT32_MAX // (levels << (bits - 1))
    if bits < 16 and inputs > most:
        raise ValueError(
            f"expected at most {most} inputs, so that int32 sums cannot overflow, got {inputs}; "
            "split the inputs and add the results as int64"
        )


def _check_options(algo: str, threads: int) -> None:
    if algo not in ("auto", *ALGORITHMS):
        raise ValueError(f"expected algo auto, {', '.join(ALGORITHMS)}; got {algo!r}")
    check_threads(threads)


def _result(sums: Any, shape: tuple[int, ...], weight: Any, out_dtype: Any, mlx: bool) -> Any:
    """Sums in the shape, type and kind of array asked for."""
    kind = np.dtype(np.int32 if _integer(weight) else np.float32)
    wanted = kind if out_dtype is None else type_of(out_dtype)
    if wanted not in (kind, _FLOAT32):
        raise ValueError(
            f"expected out_dtype {' or '.join(sorted({kind.name, 'float32'}))} with these weights, "
            f"got {wanted.name}"
        )
    if wanted != kind:
        scale = weight.scale if isinstance(weight, PackedWeight) else None
        host: Sums = np.asarray(sums)
        sums = host.astype(np.float32) if scale is None else np.multiply(host, scale, dtype=wanted)
    if mlx:
        return mx.reshape(sums if isinstance(sums, mx.array) else mx.array(sums), shape)
    return np.asarray(sums).reshape(shape)


def _integer(weight: Any) -> bool:
    return weight.integer if isinstance(weight, PackedWeight) else weight.dtype == _INT8
