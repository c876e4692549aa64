"""Spike linear with Numba: which arrays go to which kernel."""

from __future__ import annotations

from typing import Any

import numpy as np

from neurosim.kernels._dispatch import announce
from neurosim.kernels.packed import PackedSpikes, pack
from neurosim.kernels.packed._words import Words
from neurosim.kernels.spike_linear._cost import cannot, cheapest
from neurosim.kernels.spike_linear._counts import counts_times
from neurosim.kernels.spike_linear._run import run, spread_rows
from neurosim.kernels.spike_linear._types import Spikes, Sums, Weight
from neurosim.kernels.spike_linear._weight import PackedWeight

_NOT_PACKED = -128  # a count that has no planes
_SUMS_OF: dict[Any, type[Any]] = {np.dtype(np.int8): np.int32, np.dtype(np.float32): np.float32}
_FEW_INPUTS = 1 << 16  # 2^16 x 128 x 128 < 2^31: no sum overflows
_PACKED_ROWS = 32  # rows from which packing a plain weight pays


def spike_linear(spikes: Spikes, weight: Weight | PackedWeight) -> Sums:
    """See the package."""
    return product(spikes, weight, "gather", 1)


def few_rows(spikes: Any, weight: Any) -> Sums | None:
    """What "auto" gives for a few int8 rows and plain weights; None for anything else."""
    if (
        type(spikes) is np.ndarray
        and type(weight) is np.ndarray
        and spikes.dtype == np.int8
        and spikes.ndim == weight.ndim == 2
        and spikes.shape[0] < _PACKED_ROWS
        and spikes.shape[1] == weight.shape[0] <= _FEW_INPUTS
        and weight.dtype in _SUMS_OF
        and spikes.flags.c_contiguous
        and weight.flags.c_contiguous
    ):
        announce("spike_linear", "cpu")
        out: Sums = np.empty((spikes.shape[0], weight.shape[1]), _SUMS_OF[weight.dtype])
        counts_times(spikes, weight, out)
        return out
    return None


def packed_linear(
    words: Words, levels: int, signed: bool, code: str, weight: Weight | PackedWeight
) -> Sums:
    """See reference.py."""
    shape = (words.shape[1], weight.shape[0])
    return product(PackedSpikes.trusted(words, shape, levels, signed, code), weight, "gather", 1)


def product(
    spikes: Spikes | PackedSpikes, weight: Weight | PackedWeight, algo: str, threads: int
) -> Sums:
    """Sums (R, O) by one algorithm; "auto" takes the one that should be the fastest.

    For counts as an array, "auto" is "gather" with float weights, whose order of summation other
    programs rely on, and with plain weights, which would have to be packed for every call.
    """
    plain = not isinstance(weight, PackedWeight)
    if isinstance(spikes, np.ndarray):
        exact = isinstance(weight, PackedWeight) and weight.integer
        unpackable = algo in ("auto", "gather") and bool((spikes == _NOT_PACKED).any())
        if algo == "auto" and (not exact or unpackable):
            algo = "gather"
        if algo == "gather" and (plain or unpackable):
            return _unpacked(spikes, weight, threads)
        packed = _packed(spikes)
    else:
        packed = spikes
        if plain and algo in ("auto", "gather") and packed.words.shape[1] < _PACKED_ROWS:
            counts = packed.unpack().reshape(packed.words.shape[1], packed.size)
            return _unpacked(counts.astype(np.int8, copy=False), weight, threads)
    if not isinstance(weight, PackedWeight):
        weight = PackedWeight.pack(weight, 8 * weight.dtype.itemsize)
    classes = packed.levels * (1 + packed.signed)
    if algo == "auto":
        algo = cheapest(packed, weight)
        announce(f"spike_linear of {weight.bits}-bit weights", f"{algo}, by predicted cost")
    reason = cannot(algo, packed.words.shape[1], classes)
    if reason is not None:
        raise ValueError(f"spike_linear: algorithm {algo!r} cannot run this: {reason}")
    return run(algo, packed, weight, threads)


def _packed(counts: Spikes) -> PackedSpikes:
    """Counts (L, I) with as few levels as they need."""
    low, high = int(counts.min(initial=0)), int(counts.max(initial=0))
    if low == _NOT_PACKED:
        raise ValueError(
            "expected counts -127..127 for this algorithm, got -128; use algo='gather'"
        )
    return pack(counts, max(1, -low, high), low < 0)


def _unpacked(counts: Spikes, weight: Weight | PackedWeight, threads: int) -> Sums:
    values = weight.unpack() if isinstance(weight, PackedWeight) else weight
    if values.dtype == np.float16:
        values = values.astype(np.float32)
    kind: type[Any] = np.int32 if values.dtype.itemsize == 1 else np.float32
    out: Sums = np.empty((counts.shape[0], values.shape[1]), kind)
    spread_rows(lambda a, b: counts_times(counts[a:b], values, out[a:b]), len(counts), threads)
    return out
