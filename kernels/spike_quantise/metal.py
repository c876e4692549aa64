"""Spike counts on a GPU: a threadgroup per row, its maximum by SIMD-groups and shared memory.

The quotients are what Metal's precise division gives, IEEE's; subnormal numbers are taken as 0.
Tested in the emulator; never yet run on a GPU.
"""

from __future__ import annotations

import math
from typing import Any

import mlx.core as mx
import numpy as np

from neurosim.kernels._metal import Launch

_THREADS = 256
_GROUPS = _THREADS // 32

_quantise = mx.fast.metal_kernel(
    name="spike_quantise",
    input_names=["x", "given", "limits"],
    output_names=["counts", "scales", "wrong"],
    source="""
        threadgroup float tops[GROUPS];
        threadgroup uint bads[GROUPS];
        uint thread_ = thread_position_in_threadgroup.x, row = threadgroup_position_in_grid.y;
        uint lane = thread_index_in_simdgroup, group = simdgroup_index_in_threadgroup;
        uint size = limits[0];                             // x (rows, size)
        float top = float(limits[1]), biggest = 0.0f;
        uint bad = 0;
        for (uint i = thread_; i < size; i += THREADS) {
            float a = fabs(x[row * size + i]);
            bad |= uint(!(a <= 3.402823466e38f));          // NaN and infinity
            biggest = a > biggest ? a : biggest;
        }
        biggest = simd_max(biggest);
        bad = simd_max(bad);
        if (lane == 0) { tops[group] = biggest; bads[group] = bad; }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (uint g = 0; g < GROUPS; ++g) {
            biggest = tops[g] > biggest ? tops[g] : biggest;
            bad |= bads[g];
        }
        float scale = biggest / top;
        if (scale == 0.0f) scale = 1.0f;
        if (FIXED) scale = given[row];
        if (thread_ == 0) { scales[row] = scale; wrong[row] = bad; }
        for (uint i = thread_; i < size; i += THREADS) {
            float v = x[row * size + i], a = fabs(v / scale);
            a = a < top ? a : top;
            float whole = floor(a);
            int n = int(whole) + int(a - whole >= 0.5f);
            counts[row * size + i] = v < 0.0f ? -n : n;
        }
    """,
)


def supports(values: Any, scale: Any) -> str | None:
    """One row per threadgroup, or one threadgroup for all of a tensor."""
    if values.dtype not in (np.float32, mx.float32):
        return f"expected float32, got {values.dtype}; backend 'mlx' takes the 16-bit types"
    if values.size >= 2**31:
        return "expected fewer than 2^31 elements"
    if not isinstance(scale, str) and scale.ndim and scale.shape[-1] != 1:
        return "the scales differ along the last axis"
    return None


def spike_quantise(launch: Launch, x: Any, top: int, scale: Any) -> tuple[Any, Any, Any]:
    """See reference.py."""
    lead, size = tuple(x.shape[:-1]), x.shape[-1]
    rows, shape = math.prod(lead), (*lead, 1)
    if isinstance(scale, str) and scale == "tensor":
        rows, size, shape = 1, x.size, ()
    fixed = not isinstance(scale, str)
    if not rows * size:
        return np.zeros(x.shape, np.int8), scale if fixed else np.ones(shape, np.float32), True
    given = x.reshape(-1)[:1]
    if fixed:
        library: Any = mx if isinstance(x, mx.array) else np
        given = library.broadcast_to(scale, shape).reshape(-1)
    counts, scales, wrong = launch(
        _quantise,
        inputs=[x.reshape(rows, size), given, np.array([size, top], np.uint32)],
        template=[("THREADS", _THREADS), ("GROUPS", _GROUPS), ("FIXED", fixed)],
        output_shapes=[(rows, size), (rows,), (rows,)],
        output_dtypes=[mx.int8, mx.float32, mx.uint32],
        grid=(_THREADS, rows, 1),
        threadgroup=(_THREADS, 1, 1),
    )
    finite = not np.asarray(wrong).any()
    kept = scale if fixed else scales.reshape(shape)
    return counts.reshape(x.shape), kept, finite
