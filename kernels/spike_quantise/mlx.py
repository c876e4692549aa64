"""Spike counts by MLX operations: lazy, on a CPU or a GPU, in the type of x."""

from __future__ import annotations

from typing import Any

import mlx.core as mx


def supports(values: Any, scale: Any) -> str | None:
    """MLX arrays only."""
    if isinstance(values, mx.array):
        return None
    return "expected an MLX array; convert with mx.array"


def spike_quantise(x: mx.array, top: int, scale: Any) -> tuple[mx.array, mx.array, mx.array]:
    """See reference.py; nothing is computed here, the last result included."""
    limit = mx.array(top, x.dtype)
    size = mx.abs(x)
    if isinstance(scale, str):
        if x.size == 0:
            largest = mx.zeros((*x.shape[:-1], 1) if scale == "token" else (), x.dtype)
        else:
            largest = size.max(-1, keepdims=True) if scale == "token" else size.max()
        scales = largest / limit
        scales = mx.where(scales == 0, mx.array(1, x.dtype), scales)
    else:
        scales = scale
    size = mx.minimum(mx.abs(x / scales), limit)
    whole = mx.floor(size)
    counts = (whole + (size - whole >= 0.5)).astype(mx.int8)
    return mx.where(x < 0, -counts, counts), scales, mx.isfinite(x).all()
