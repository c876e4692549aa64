"""Spikes as bits: 64 neurons to a word."""

from __future__ import annotations

import math
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from neurosim.kernels._arrays import host
from neurosim.kernels._checks import check_type
from neurosim.kernels._dispatch import choose
from neurosim.kernels._metal import MetalBackend, metal_backends
from neurosim.kernels._training import known
from neurosim.kernels.packed import cpu, metal, reference
from neurosim.kernels.packed._spikes import (
    Events,
    PackedSpikes,
    Patterns,
    check_code,
    check_time_axis,
)

__all__ = ["BACKENDS", "Events", "PackedSpikes", "Patterns", "pack", "unpack"]

BACKENDS: dict[str, Any] = {"cpu": cpu, "reference": reference, **metal_backends(metal)}


def pack(
    x: npt.ArrayLike | mx.array,
    levels: int = 1,
    signed: bool = False,
    code: str = "thermometer",
    backend: str = "auto",
    time_axis: int | None = None,
) -> PackedSpikes:
    """Pack spike counts into bits, exactly.

    Binary spikes are `levels=1`, ternary ones `levels=1, signed=True`, integer neurons 0..D are
    `levels=D`. A count n becomes D planes of a thermometer code (plane d is set where n > d: the
    binary steps of spike-driven inference), or with `code="bits"` the bits of n (fewer planes, of
    weights 1, 2, 4, ...). Signed counts take as many planes again for the negative side.

    Args:
        x: whole numbers of any type within 0..levels, or -levels..levels when signed, (..., D).
        levels: the largest count, 1..127.
        signed: whether counts may be negative.
        code: "thermometer" or "bits".
        backend: "auto" (the GPU for MLX arrays, if there is one, else the CPU), "cpu" (Numba, one
            thread), "reference" (numpy), "metal" or "metal-emulated".
        time_axis: which of the leading axes of x is time, if one is.

    Returns:
        PackedSpikes; its `unpack()` gives x back, and its event lists, transpose, counts and
        density are computed once, when first asked for.
    """
    check_code(levels, code)
    levels, signed = int(levels), bool(signed)
    mlx = known("pack", x)
    values = host(x)
    if values.ndim == 0 or values.dtype.kind not in "biuf":
        raise ValueError(
            f"expected spike counts of shape (..., D), got {values.dtype} {values.shape}"
        )
    check_time_axis(time_axis, values.shape)
    module = choose("pack", backend, BACKENDS, mlx=mlx)
    stays = isinstance(module, MetalBackend) and mlx and values.dtype in (np.int8, np.float32)
    counts: Any = x if stays else _counts(values, signed)
    counts = counts.reshape(math.prod(values.shape[:-1]), values.shape[-1])
    words, valid = module.pack(counts, levels, signed, code)
    if not valid:
        raise _refusal(values, levels, signed)
    words = np.asarray(words).view(np.uint64)  # the GPU's are uint32
    return PackedSpikes.trusted(words, values.shape, levels, signed, code, time_axis)


def _counts(values: npt.NDArray[Any], signed: bool) -> npt.NDArray[Any]:
    """C-contiguous int8 or float32; what int8 cannot hold becomes a count that no levels allow."""
    kind = values.dtype
    if kind == np.int8 or kind == np.float32:
        counts = values
    elif kind == np.bool_ or (kind == np.uint8 and not signed):
        counts = values.view(np.int8)  # 128..255 become negative
    elif kind.kind == "f":
        with np.errstate(over="ignore"):
            counts = values.astype(np.float32)
        if kind.itemsize > 4:
            counts[counts != values] = np.nan
    else:
        counts = np.where((values < -128) | (values > 127), -128, values).astype(np.int8)
    return np.ascontiguousarray(counts)


def _refusal(values: npt.NDArray[Any], levels: int, signed: bool) -> ValueError:
    low, high = values.min(), values.max()
    if low >= (-levels if signed else 0) and high <= levels:
        return ValueError("expected whole spike counts, got fractions; round them first")
    return ValueError(
        f"expected spike counts {-levels if signed else 0}..{levels}, got {low}..{high}; "
        "give levels= and signed= that cover them"
    )


def unpack(spikes: PackedSpikes, backend: str = "auto") -> npt.NDArray[np.int8]:
    """Counts (..., D) of packed spikes."""
    check_type("spikes", spikes, PackedSpikes, "make them with pack")
    module = choose("unpack", backend, BACKENDS)
    arguments = (spikes.words, spikes.levels, spikes.signed, spikes.code, spikes.size, np.int8)
    return np.asarray(module.unpack(*arguments), np.int8).reshape(spikes.shape)
